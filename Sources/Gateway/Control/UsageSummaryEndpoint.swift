internal import Billing
internal import Domain
internal import HTTPListener
internal import Hummingbird

/// `GET /api/v1/usage/summary`: what the running period costs so far by the tenant's terms, what is left of what they include, and what it will come to.
struct UsageSummaryEndpoint: Sendable {
    let records: any CustomerRecords
    let time: any TimeSource

    func get(_ request: Request, _ context: ControlContext) async throws -> Response {
        let caller = try context.caller
        _ = try QueryParameters(request, allowed: [])
        let now = time.now
        let forecaster = PeriodForecaster(at: now, calendar: PeriodCalendar(timeZone: caller.timeZone) ?? .utc)
        let input = try await records.ratingInput(tenantID: caller.tenantID, period: forecaster.period)
        let hours = try await records.hours(of: caller.tenantID, from: forecaster.historyStart, to: now)
        let rated: RatedPeriod
        let forecast: PeriodForecast
        do throws(RatingFailure) {
            rated = try Rating(period: forecaster.period).rate(
                spans: input.spans, terms: input.terms, usage: input.usage)
            forecast = try forecaster.forecast(hours, input: input)
        } catch {
            throw error.refusal
        }
        return try .json(
            UsageSummaryAnswer(
                periodID: forecaster.period.id, start: forecaster.period.start.description,
                end: forecaster.period.end.description, at: now.description, timeZone: caller.timeZone,
                currency: rated.currency,
                soFar: .init(forecast.soFar, cost: rated.currency == nil ? nil : rated.subtotal),
                included: IncludedRest.of(rated, input, forecaster.period).map { UsageSummaryAnswer.Included($0) },
                forecast: .init(forecast)))
    }
}

private struct UsageSummaryAnswer: Encodable {
    struct Quantities: Encodable {
        let requests: Int64
        let inputTokens: Int64
        let cachedInputTokens: Int64
        let outputTokens: Int64
        @Present var costMicros: Int64?

        enum CodingKeys: String, CodingKey {
            case requests
            case inputTokens = "input_tokens"
            case cachedInputTokens = "cached_input_tokens"
            case outputTokens = "output_tokens"
            case costMicros = "cost_micros"
        }

        init(_ quantities: PeriodForecast.Quantities, cost: Micros?) {
            requests = quantities.requests
            inputTokens = quantities.inputTokens
            cachedInputTokens = quantities.cachedInputTokens
            outputTokens = quantities.outputTokens
            costMicros = cost?.value
        }
    }

    struct Included: Encodable {
        let unit: String
        let amount: Int64
        let used: Int64
        let left: Int64

        init(_ rest: IncludedRest) {
            unit = rest.unit.rawValue
            amount = rest.amount
            used = rest.used
            left = rest.amount - rest.used
        }
    }

    struct Forecast: Encodable {
        let atEnd: Quantities
        let method = "same_hour_of_week"
        let comparedPeriods: Int
        @Present var requestErrorBasisPoints: Int64?
        @Present var tokenErrorBasisPoints: Int64?
        @Present var costErrorBasisPoints: Int64?

        enum CodingKeys: String, CodingKey {
            case method
            case atEnd = "at_end"
            case comparedPeriods = "compared_periods"
            case requestErrorBasisPoints = "request_error_basis_points"
            case tokenErrorBasisPoints = "token_error_basis_points"
            case costErrorBasisPoints = "cost_error_basis_points"
        }

        init(_ forecast: PeriodForecast) {
            atEnd = Quantities(forecast.atEnd, cost: forecast.costAtEnd)
            comparedPeriods = forecast.comparedPeriods
            requestErrorBasisPoints = forecast.requestErrorBasisPoints
            tokenErrorBasisPoints = forecast.tokenErrorBasisPoints
            costErrorBasisPoints = forecast.costErrorBasisPoints
        }
    }

    let object = "usage.summary"
    let periodID: String
    let start: String
    let end: String
    let at: String
    let timeZone: String
    @Present var currency: String?
    let soFar: Quantities
    let included: [Included]
    let forecast: Forecast

    enum CodingKeys: String, CodingKey {
        case object, at, currency, included, forecast
        case periodID = "period_id"
        case start = "period_start"
        case end = "period_end"
        case timeZone = "time_zone"
        case soFar = "so_far"
    }

    init(
        periodID: String, start: String, end: String, at: String, timeZone: String, currency: String?,
        soFar: Quantities, included: [Included], forecast: Forecast
    ) {
        self.periodID = periodID
        self.start = start
        self.end = end
        self.at = at
        self.timeZone = timeZone
        self.currency = currency
        self.soFar = soFar
        self.included = included
        self.forecast = forecast
    }
}
