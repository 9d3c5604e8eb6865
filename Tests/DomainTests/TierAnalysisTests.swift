import TestSupport
import Testing

@testable import Domain

@Suite("Analysis of tiers")
struct TierAnalysisTests {
    private static let calendar = PeriodCalendar.utc
    private static let month = calendar.period(
        containing: Timestamp(microsecondsSince1970: 1_775_000_000_000_000), frequency: .month)

    private static func tier(
        _ number: UInt64, code: String, fee: Int64 = 0, price: Int64, quotas: [QuotaRule] = [], currency: String = "EUR"
    ) -> TierRow {
        TierRow(
            code: code, name: code,
            version: TierRow.Version(
                id: TierVersionID(high: 0, low: number), number: 1, state: .published,
                offer: TierOffer(
                    currency: currency, baseFee: Micros(fee),
                    rules: [PriceRule(meter: .inputToken, model: "*", price: .flat(UnitPrice(picos: price)))],
                    quotas: quotas), createdAt: month.start),
            createdAt: month.start)
    }

    private static func period(_ tier: TierRow, tokens: Int64) -> AnalysedPeriod {
        AnalysedPeriod(
            period: month,
            input: RatingInput(
                spans: [SubscriptionSpan(tierVersionID: tier.version.id, start: month.start, end: month.end)],
                usage: [
                    UsageQuantity(
                        tierVersionID: tier.version.id, model: "iris", requests: 1, inputTokens: tokens, outputTokens: 0
                    )
                ], terms: [tier.version.id: tier.terms]))
    }

    private static func analysis(
        _ tiers: [TierRow], on current: TierRow, tokens: Int64, quarters: [UsageQuarter] = []
    ) throws -> TierAnalysis {
        try TierAnalysis(
            periods: [period(current, tokens: tokens)], candidates: tiers, quarters: quarters, calendar: calendar,
            currentID: current.version.id)
    }

    @Test("a tier whose hard quota would have refused is not feasible; a soft one refuses nothing")
    func feasible() throws {
        let day = QuotaRule(unit: .tokens, frequency: .day, amount: 100, mode: .hard)
        let soft = QuotaRule(unit: .tokens, frequency: .day, amount: 100, mode: .soft)
        let (own, small, mild) = (
            Self.tier(1, code: "own", price: 3), Self.tier(2, code: "small", price: 1, quotas: [day]),
            Self.tier(3, code: "mild", price: 2, quotas: [soft])
        )
        let start = Self.month.start.microsecondsSince1970
        let quarters = [(0, 60), (95, 40), (96, 100)].map {
            UsageQuarter(
                start: Timestamp(microsecondsSince1970: start + Int64($0.0) * 900_000_000), requests: 1,
                tokens: Int64($0.1))
        }
        let exact = try Self.analysis([own, small, mild], on: own, tokens: 2_000_000, quarters: quarters)
        #expect(exact.recommended?.tier.code == "small")
        let more =
            quarters + [
                UsageQuarter(start: Timestamp(microsecondsSince1970: start + 97 * 900_000_000), requests: 1, tokens: 1)
            ]
        let over = try Self.analysis([own, small, mild], on: own, tokens: 2_000_000, quarters: more)
        #expect(over.recommended?.tier.code == "mild")
        #expect(
            over.options.first { $0.tier.code == "small" }?.overruns == [
                OverrunQuota(unit: .tokens, frequency: .day, amount: 100, used: 101)
            ])
    }

    @Test("what the tenant is on now is the current one, and has the currency where no month has one")
    func current() throws {
        let (old, new) = (Self.tier(1, code: "old", price: 3), Self.tier(2, code: "new", price: 9))
        let moved = try TierAnalysis(
            periods: [Self.period(old, tokens: 5_000_000)], candidates: [old, new], quarters: [],
            calendar: Self.calendar,
            currentID: new.version.id)
        #expect(moved.current?.tier.code == "new" && moved.recommended?.tier.code == "old")
        #expect(moved.saving == Micros(30) && moved.actualTotal == Micros(15))
        let nothing = AnalysedPeriod(period: Self.month, input: RatingInput(spans: [], usage: [], terms: [:]))
        let fresh = try TierAnalysis(
            periods: [nothing], candidates: [old, new], quarters: [], calendar: Self.calendar, currentID: old.version.id
        )
        #expect(fresh.currency == "EUR" && fresh.options.count == 2 && fresh.recommended?.tier.code == "old")
        let nobody = try TierAnalysis(
            periods: [nothing], candidates: [old], quarters: [], calendar: Self.calendar, currentID: nil)
        #expect(nobody.currency == nil && nobody.options.isEmpty && nobody.current == nil)
    }

    @Test("limits of which nothing is known are not proven, and terms that nothing was charged by are not named")
    func unknowns() throws {
        func tier(_ number: UInt64, percent: Int64 = 100, quotas: [QuotaRule] = [], limits: [RateLimitRule] = [])
            -> TierRow
        {
            let offer = TierOffer(
                currency: "EUR", cacheHitTokenPercent: percent, streamLeave: number == 4 ? .drain : nil,
                requestTerms: number == 3 ? RequestTerms(cacheHit: .free, failure: .charged) : .standard,
                quotas: quotas, rateLimits: limits)
            return TierRow(
                code: "t\(number)", name: "",
                version: TierRow.Version(
                    id: TierVersionID(high: 0, low: number), number: 1, state: .published, offer: offer,
                    createdAt: Self.month.start), createdAt: Self.month.start)
        }
        func minute(_ amount: Int64) -> [QuotaRule] {
            [QuotaRule(unit: .requests, frequency: .minute, amount: amount, mode: .hard)]
        }
        let tiers = [
            tier(1), tier(2, percent: 50, quotas: minute(30)), tier(3, quotas: minute(29)),
            tier(4, limits: [RateLimitRule(scope: .tenant, unit: .requests, amount: 600, burst: 50)]),
        ]
        let analysis = try Self.analysis(
            tiers, on: tiers[0], tokens: 7, quarters: [UsageQuarter(start: Self.month.start, requests: 30, tokens: 7)])
        #expect(analysis.options.map(\.isFeasible) == [true, true, true, true])
        #expect(analysis.options.map(\.areLimitsProven) == [true, true, false, false])
        #expect(analysis.options.map(\.unseen) == [[], [], [.failedRequest], []])
    }

    private static func minute(_ number: Int64, requests: Int64, tokens: Int64 = 0) -> UsageMinute {
        UsageMinute(
            start: Timestamp(microsecondsSince1970: month.start.microsecondsSince1970 + number * 60_000_000),
            requests: requests, tokens: tokens, arrivals: requests, heldTokens: tokens, mostTokens: tokens,
            admitted: requests, leastTokens: tokens, busyMicroseconds: 0, lastEnd: nil)
    }

    @Test("a quota of a minute is held against minutes, as far as they are known")
    func minutes() {
        let quarter = UsageQuarter(start: Self.month.start, requests: 31, tokens: 4)
        func peaks(_ minutes: [UsageMinute]) -> QuotaPeaks {
            QuotaPeaks([quarter], UsageMinutes(minutes, of: [quarter]), Self.calendar)
        }
        func quota(_ amount: Int64, _ unit: QuotaUnit = .requests) -> [QuotaRule] {
            [QuotaRule(unit: unit, frequency: .minute, amount: amount, mode: .hard)]
        }
        let all = peaks([Self.minute(0, requests: 20), Self.minute(14, requests: 11, tokens: 4)])
        #expect(all.overruns(of: quota(20)).isEmpty && all.overruns(of: quota(3, .tokens)).map(\.used) == [4])
        #expect(all.overruns(of: quota(19)).map(\.used) == [20] && all.prove(quota(19)))
        let some = peaks([Self.minute(0, requests: 20)])
        #expect(some.overruns(of: quota(20)).isEmpty && !some.prove(quota(20)) && some.prove(quota(31)))
        #expect(some.overruns(of: quota(19)).map(\.used) == [20])
    }

    @Test("where a tier counts hits otherwise, a quota is judged only as far as the direction allows")
    func shifted() throws {
        func tier(_ number: UInt64, hits: RequestCharge, _ amount: Int64) -> TierRow {
            TierRow(
                code: "t\(number)", name: "",
                version: TierRow.Version(
                    id: TierVersionID(high: 0, low: number), number: 1, state: .published,
                    offer: TierOffer(
                        currency: "EUR", requestTerms: RequestTerms(cacheHit: hits),
                        quotas: [QuotaRule(unit: .requests, frequency: .month, amount: amount, mode: .hard)]),
                    createdAt: Self.month.start),
                createdAt: Self.month.start)
        }
        /// Of a tenant with ten answers and ninety hits: feasible, proven, and for how many the quotas refused.
        func judged(on hits: RequestCharge, _ candidates: [TierRow]) throws -> [[Bool]] {
            let own = tier(9, hits: hits, 1_000)
            let used: Int64 = hits == .charged ? 100 : 10
            let usage = UsageQuantity(
                tierVersionID: own.version.id, model: "m", requests: used, inputTokens: 0, outputTokens: 0,
                termed: TermedUsage(hits: 90))
            let span = SubscriptionSpan(
                tierVersionID: own.version.id, start: Self.month.start, end: Self.month.end)
            let input = RatingInput(spans: [span], usage: [usage], terms: [own.version.id: own.terms])
            let analysis = try TierAnalysis(
                periods: [AnalysedPeriod(period: Self.month, input: input)], candidates: candidates + [own],
                quarters: [UsageQuarter(start: Self.month.start, requests: used, tokens: 0)], minutes: [],
                calendar: Self.calendar, currentID: own.version.id)
            return analysis.options.map { [$0.isFeasible, $0.areLimitsProven] }
        }
        let quotas = [tier(1, hits: .charged, 5), tier(2, hits: .charged, 50), tier(3, hits: .charged, 500)]
        #expect(try judged(on: .charged, quotas) == [[false, true], [false, true], [true, true], [true, true]])
        #expect(try judged(on: .free, quotas) == [[false, true], [true, false], [true, false], [true, true]])
        let free = [tier(1, hits: .free, 5), tier(2, hits: .free, 50), tier(3, hits: .free, 500)]
        #expect(try judged(on: .charged, free) == [[true, false], [true, false], [true, true], [true, true]])
        #expect(try judged(on: .free, free) == [[false, true], [true, true], [true, true], [true, true]])
    }

    @Test("a tier whose rate limit would have refused is not feasible, and the limit is named")
    func rates() throws {
        func tier(_ number: UInt64, fee: Int64, _ limits: [RateLimitRule]) -> TierRow {
            TierRow(
                code: "t\(number)", name: "",
                version: TierRow.Version(
                    id: TierVersionID(high: 0, low: number), number: 1, state: .published,
                    offer: TierOffer(currency: "EUR", baseFee: Micros(fee), rateLimits: limits),
                    createdAt: Self.month.start),
                createdAt: Self.month.start)
        }
        let tiers = [
            tier(1, fee: 1, [RateLimitRule(scope: .tenant, unit: .requests, amount: 10)]),
            tier(2, fee: 2, [RateLimitRule(scope: .tenant, unit: .requests, amount: 25)]),
            tier(3, fee: 3, [RateLimitRule(scope: .tenant, unit: .requests, amount: 30)]),
        ]
        let minutes = [Self.minute(3, requests: 30)]
        let analysis = try TierAnalysis(
            periods: [Self.period(tiers[2], tokens: 0)], candidates: tiers,
            quarters: [UsageQuarter(start: Self.month.start, requests: 30, tokens: 0)], minutes: minutes,
            calendar: Self.calendar, currentID: tiers[2].version.id)
        #expect(analysis.options.map(\.isFeasible) == [false, true, true])
        #expect(analysis.options.map(\.areLimitsProven) == [true, false, true])
        #expect(analysis.recommended?.tier.code == "t2" && analysis.saving == Micros(1))
        #expect(
            analysis.options[0].rateOverruns == [
                RateOverrun(
                    scope: .tenant, unit: .requests, amount: 10, burst: 10, minute: minutes[0].start, used: 30)
            ])
        #expect(tiers.allSatisfy(TierAnalysis.needsMinutes) && !TierAnalysis.needsMinutes(tier(4, fee: 0, [])))
    }

    @Test(
        "the simple rule looks at the tokens of the highest month",
        arguments: [
            (0, "basic"), (99_999, "basic"), (100_000, "standard"), (999_999, "standard"), (1_000_000, "premium"),
        ])
    func simple(tokens: Int, code: String) {
        #expect(TierAnalysis.simpleRule(Int128(tokens)) == code)
    }
}
