internal import Domain
internal import HTTPListener
internal import Hummingbird

/// `GET /api/v1/quota`: the numbers that decide, quotas as they stand in the database and rate limits as their owner has them.
struct QuotaEndpoint: Sendable {
    let records: any CustomerRecords
    let rates: RateKeeper
    let quota: QuotaKeeper

    func get(_ request: Request, _ context: ControlContext) async throws -> Response {
        let caller = try context.caller
        _ = try QueryParameters(request, allowed: [])
        let calendar = PeriodCalendar(timeZone: caller.timeZone) ?? .utc
        let now = quota.now(of: caller.tenantID)
        let periods = caller.quotas.map { ($0, calendar.period(containing: now, of: $0)) }
        let states = try await records.quotaStates(tenantID: caller.tenantID, periods: periods.map { ($0.0.id, $0.1) })
        let lines = periods.map { quota, period in
            QuotaLine(quota, period, states.first { $0.quota.id == quota.id }, timeZone: caller.timeZone)
        }
        let limits = await rates.look(caller).map { RateLimitLine($0) }
        return try .json(
            QuotaReport(
                quotas: ListAnswer(data: lines, firstID: nil, lastID: nil, hasMore: false), rateLimits: limits))
    }
}

/// A list of quotas, with the rate limits beside it.
private struct QuotaReport: Encodable {
    let quotas: ListAnswer<QuotaLine>
    let rateLimits: [RateLimitLine]

    enum CodingKeys: String, CodingKey {
        case rateLimits = "rate_limits"
    }

    func encode(to encoder: any Encoder) throws {
        try quotas.encode(to: encoder)
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode(rateLimits, forKey: .rateLimits)
    }
}

private struct RateLimitLine: Encodable {
    let policy: String
    let scope: String
    let unit: String
    let limit: Int64
    /// This and the next two are left out for concurrency, which has no minute.
    let burst: Int64?
    let windowSeconds: Int64?
    let resetSeconds: Int64?
    let remaining: Int64
    let mode: String

    enum CodingKeys: String, CodingKey {
        case policy, scope, unit, limit, burst, remaining, mode
        case windowSeconds = "window_seconds"
        case resetSeconds = "reset_seconds"
    }

    init(_ line: RateStandingLine) {
        policy = line.reading.policy
        scope = line.scope.rawValue
        unit = line.reading.unit.rawValue
        limit = line.reading.limit
        burst = line.reading.windowSeconds == nil ? nil : line.burst
        windowSeconds = line.reading.windowSeconds
        resetSeconds = line.reading.resetSeconds
        remaining = line.reading.remaining
        mode = line.isExact ? "exact" : "in_process"
    }
}

private struct QuotaLine: Encodable {
    let policy: String
    let level: String
    let unit: String
    let frequency: String
    let alignment: String
    let mode: String
    let limit: Int64
    let settled: Int64
    let held: Int64
    let available: Int64
    let periodID: String
    let periodStart: String
    /// Left out where the period has no end.
    let periodEnd: String?
    let timeZone: String
    let thresholds: [Threshold]
    /// What the price includes; of pay-as-you-go alone.
    let included: Int64?
    /// What was used beyond that; of pay-as-you-go alone.
    let overage: Int64?
    /// What was used beyond the limit; of a soft quota alone.
    let over: Int64?

    struct Threshold: Encodable {
        let percent: Int16
        /// Left out for one that was not crossed in this period.
        let crossedAt: String?

        enum CodingKeys: String, CodingKey {
            case percent
            case crossedAt = "crossed_at"
        }
    }

    enum CodingKeys: String, CodingKey {
        case policy, level, unit, frequency, alignment, mode, limit, settled, held, available, thresholds, included,
            overage, over
        case periodID = "period_id"
        case periodStart = "period_start"
        case periodEnd = "period_end"
        case timeZone = "time_zone"
    }

    init(_ quota: Quota, _ period: Period, _ state: QuotaState?, timeZone: String) {
        policy = quota.policy
        level = quota.level.rawValue
        unit = quota.unit.rawValue
        frequency = quota.frequency.rawValue
        alignment = quota.alignment.rawValue
        mode = quota.mode.rawValue
        limit = state?.quota.amount ?? quota.amount
        settled = state?.settled ?? 0
        held = state?.held ?? 0
        available = max(0, limit - settled - held)
        periodID = period.id
        periodStart = period.start.description
        periodEnd = quota.frequency.recurs ? period.end.description : nil
        self.timeZone = timeZone
        included = quota.mode == .payAsYouGo ? limit : nil
        let beyond = quota.with(amount: limit).beyond(units: settled, after: 0)
        overage = quota.mode == .payAsYouGo ? beyond : nil
        over = quota.mode == .soft ? beyond : nil
        // A threshold that was taken away since is still told of: its event is there.
        let crossed = Dictionary(
            (state?.crossed ?? []).map { ($0.percent, $0.at) }, uniquingKeysWith: { first, _ in first })
        thresholds = Set((state?.thresholds ?? .standard).percents).union(crossed.keys).sorted().map {
            Threshold(percent: $0, crossedAt: crossed[$0]?.description)
        }
    }
}
