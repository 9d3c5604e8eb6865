internal import Billing
internal import Domain
internal import HTTPListener
internal import Hummingbird

/// `GET /api/v1/usage`: what was used and what it costs, exact to the last commit.
struct UsageEndpoint: Sendable {
    let records: any CustomerRecords
    let prices: PriceBook
    let time: any TimeSource

    private static let dayLimit = 400

    func get(_ request: Request, _ context: ControlContext) async throws -> Response {
        let caller = try context.caller
        let query = try QueryParameters(request, allowed: ["start", "end", "group_by"])
        let calendar = PeriodCalendar(timeZone: caller.timeZone) ?? .utc
        let month = calendar.period(containing: time.now, frequency: .month)
        let start = try query.usageEdge("start") ?? month.start
        let end = try query.usageEdge("end") ?? max(month.end, start)
        guard start < end else {
            throw Refusal.invalid("end", "must be later than start", fix: "The range is half-open: start <= t < end.")
        }
        let groups = try Self.groups(query.text("group_by"))
        let days = try Self.days(from: start, to: end, calendar, splits: groups.contains("day"))
        let rows = try await records.usage(
            UsageQuery(
                tenantID: caller.tenantID, days: days.map(\.stretch), groupsByModel: groups.contains("model"),
                groupsByKey: groups.contains("key")))
        let report = try await rate(rows, groups)
        var currency = report.currency
        if currency.isEmpty { currency = try await prices.sheet(caller.tierVersionID)?.currency ?? "" }
        return try .json(
            UsageAnswer(
                start: start.description, end: end.description, timeZone: caller.timeZone, currency: currency,
                data: report.lines.map { UsageAnswer.Line($0, days: days.map(\.name)) },
                total: UsageAnswer.Line(report.total, days: [])))
    }

    private func rate(_ rows: [UsageRow], _ groups: Set<String>) async throws -> UsageReporter.Report {
        var sheets: [TierVersionID: PriceSheet] = [:]
        for id in Set(rows.map(\.tierVersionID)) { sheets[id] = try await prices.sheet(id) }
        do throws(UsageReporter.Failure) {
            return try UsageReporter().report(
                rows, sheets: sheets, byDay: groups.contains("day"), byModel: groups.contains("model"),
                byKey: groups.contains("key"))
        } catch {
            throw error.refusal
        }
    }

    private static func groups(_ text: String?) throws(Refusal) -> Set<String> {
        guard let text else { return [] }
        var groups: Set<String> = []
        for part in text.split(separator: ",", omittingEmptySubsequences: false) {
            guard ["day", "model", "key"].contains(String(part)), groups.insert(String(part)).inserted else {
                throw .invalid(
                    "group_by", "must be a list of day, model and key, each once", fix: "Send group_by=day,model.")
            }
        }
        return groups
    }

    /// The local days of the range, cut at its ends; or the whole range as one stretch.
    private static func days(
        from start: Timestamp, to end: Timestamp, _ calendar: PeriodCalendar, splits: Bool
    ) throws(Refusal) -> [(name: String, stretch: UsageQuery.Stretch)] {
        guard splits else { return [("", UsageQuery.Stretch(start: start, end: end))] }
        var days: [(name: String, stretch: UsageQuery.Stretch)] = []
        var cursor = start
        while cursor < end {
            guard days.count < dayLimit else {
                throw .invalid(
                    "start", "spans more than \(dayLimit) days", fix: "Ask for a shorter range, or do not group by day."
                )
            }
            let day = calendar.period(containing: cursor, frequency: .day)
            days.append((String(day.id.prefix(10)), UsageQuery.Stretch(start: cursor, end: min(day.end, end))))
            cursor = day.end
        }
        return days
    }
}

private struct UsageAnswer: Encodable {
    let object = "list"
    let start: String
    let end: String
    let timeZone: String
    let currency: String
    let data: [Line]
    let total: Line
    let hasMore = false

    enum CodingKeys: String, CodingKey {
        case object, start, end, currency, data, total
        case timeZone = "time_zone"
        case hasMore = "has_more"
    }

    struct Line: Encodable {
        let day: String?
        let model: String?
        let keyID: String?
        let requests: Int64
        let inputTokens: Int64
        let cachedInputTokens: Int64
        let outputTokens: Int64
        let costMicros: Int64

        enum CodingKeys: String, CodingKey {
            case day, model, requests
            case keyID = "key_id"
            case inputTokens = "input_tokens"
            case cachedInputTokens = "cached_input_tokens"
            case outputTokens = "output_tokens"
            case costMicros = "cost_micros"
        }

        init(_ line: UsageReporter.Line, days: [String]) {
            day = line.day.flatMap { days.indices.contains($0) ? days[$0] : nil }
            model = line.model
            keyID = line.keyID?.description
            requests = line.requests
            inputTokens = line.inputTokens
            cachedInputTokens = line.cachedInputTokens
            outputTokens = line.outputTokens
            costMicros = line.cost.value
        }
    }
}
