import Billing
import Domain
import Testing

@Suite("Forecasts of a period") struct PeriodForecasterTests {
    private static let version = TierVersionID(high: 0, low: 1)
    /// 2026-06-16T00:00:00Z: the middle of June, of 30 days.
    private static let now = Timestamp(microsecondsSince1970: 1_781_568_000_000_000)

    private static let terms = TierTerms(
        tierVersionID: version, tierCode: "pro", version: 1, currency: "EUR", baseFee: Micros(1_000_000),
        includedRequests: 1_000,
        rules: [PriceRule(meter: .request, model: "*", price: .flat(UnitPrice(picos: 1_000_000)))])

    private func hours(_ forecaster: PeriodForecaster, from start: Timestamp, _ requests: (Int) -> Int64)
        -> [HourlyUsage]
    {
        let first = Int(forecaster.historyStart.milliseconds(since: start) / -3_600_000)
        let last = Int(Self.now.milliseconds(since: forecaster.historyStart) / 3_600_000)
        return (first..<last).map { hour in
            HourlyUsage(
                hour: hour, model: "iris", requests: requests(hour), inputTokens: 4 * requests(hour),
                cachedInputTokens: 0, outputTokens: requests(hour))
        }
    }

    private func input(_ forecaster: PeriodForecaster, requests: Int64) -> RatingInput {
        RatingInput(
            spans: [
                SubscriptionSpan(
                    tierVersionID: Self.version, start: forecaster.period.start, end: forecaster.period.end)
            ],
            usage: [
                UsageQuantity(
                    tierVersionID: Self.version, model: "iris", requests: requests, inputTokens: 4 * requests,
                    outputTokens: requests)
            ], terms: [Self.version: Self.terms])
    }

    @Test("constant use comes to its double at half of the month, rated with what the tier includes, and was never off")
    func constant() throws {
        let forecaster = PeriodForecaster(at: Self.now, calendar: .utc)
        #expect(forecaster.period.id == "2026-06@UTC")
        #expect(forecaster.earlier.map(\.id) == ["2026-05@UTC", "2026-04@UTC", "2026-03@UTC"])
        let hours = hours(forecaster, from: forecaster.historyStart) { _ in 10 }
        let soFar: Int64 = 15 * 24 * 10
        let forecast = try forecaster.forecast(hours, input: input(forecaster, requests: soFar))
        #expect(forecast.soFar.requests == soFar && forecast.atEnd.requests == 2 * soFar)
        #expect(forecast.atEnd.inputTokens == 8 * soFar && forecast.atEnd.tokens == 10 * soFar)
        // A micro for each request beyond a thousand, and the base fee.
        #expect(forecast.costAtEnd == Micros(1_000_000 + 2 * soFar - 1_000))
        #expect(forecast.comparedPeriods == 3)
        #expect(
            forecast.requestErrorBasisPoints == 0 && forecast.tokenErrorBasisPoints == 0
                && forecast.costErrorBasisPoints == 0)
    }

    @Test("use that doubles in a month was told too low there, and the error says by how much")
    func doubled() throws {
        let forecaster = PeriodForecaster(at: Self.now, calendar: .utc)
        let mayHalf = try #require(
            forecaster.earlier.first.map { $0.start.advanced(byMilliseconds: 15 * 86_400_000) })
        let step = Int(mayHalf.milliseconds(since: forecaster.historyStart) / 3_600_000)
        let hours = hours(forecaster, from: forecaster.historyStart) { $0 < step ? 10 : 20 }
        let forecast = try forecaster.forecast(hours, input: input(forecaster, requests: 15 * 24 * 20))
        // Told for May: 744 hours of 10. It was 360 of 10 and 384 of 20. March had 7,440 and April 7,200.
        let real: Int64 = 360 * 10 + 384 * 20 + 7_440 + 7_200
        let off: Int64 = 384 * 10
        #expect(forecast.requestErrorBasisPoints == (off * 10_000 + real / 2) / real)
        #expect((forecast.costErrorBasisPoints ?? 0) > 0)
    }

    @Test("a tenant of yesterday is told by its run rate and has no error to show")
    func newcomer() throws {
        let forecaster = PeriodForecaster(at: Self.now, calendar: .utc)
        let yesterday = Self.now.advanced(byMilliseconds: -86_400_000)
        let hours = hours(forecaster, from: yesterday) { _ in 3 }
        let forecast = try forecaster.forecast(hours, input: input(forecaster, requests: 72))
        #expect(forecast.atEnd.requests == 72 + 15 * 24 * 3)
        #expect(forecast.requestErrorBasisPoints == nil && forecast.comparedPeriods == 0)
    }

    @Test("nothing known is nothing told, and without a subscription it costs nothing that could be named")
    func nothing() throws {
        let forecaster = PeriodForecaster(at: Self.now, calendar: .utc)
        let forecast = try forecaster.forecast([], input: RatingInput(spans: [], usage: [], terms: [:]))
        #expect(forecast.atEnd.requests == 0 && forecast.costAtEnd == nil)
    }

    @Test("what is left of an included amount")
    func included() throws {
        let forecaster = PeriodForecaster(at: Self.now, calendar: .utc)
        let input = input(forecaster, requests: 400)
        let rated = try Rating(period: forecaster.period).rate(
            spans: input.spans, terms: input.terms, usage: input.usage)
        let rest = IncludedRest.of(rated, input, forecaster.period)
        #expect(rest.map(\.unit) == [.requests] && rest.map(\.amount) == [1_000] && rest.map(\.used) == [400])
    }
}
