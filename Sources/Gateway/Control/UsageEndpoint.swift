internal import Billing
internal import Domain
internal import HTTPListener
internal import Hummingbird

/// `GET /api/v1/usage`: what was used and what it costs, exact to the last commit.
struct UsageEndpoint: Sendable {
    let records: any CustomerRecords
    let prices: PriceBook
    let time: any TimeSource

    /// Thirteen months of hours, and no more rows than anybody reads.
    static let stretchLimit = 9_600
    private static let lineLimit = 20_000
    /// What is read to make these lines: a line can have a row for each price version.
    static let rowLimit = 60_000

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
        let groups = try UsageGroups(query.text("group_by"))
        let stretches = try groups.stretches(from: start, to: end, calendar)
        let rows = try await records.usage(
            UsageQuery(
                tenantID: caller.tenantID, days: stretches.map(\.stretch),
                groupsByKey: groups.dimensions.contains(.key), groupsByUser: groups.dimensions.contains(.user),
                groupsByTag: groups.dimensions.contains(.tag), rowLimit: Self.rowLimit))
        guard rows.count <= Self.rowLimit else { throw Self.tooManyLines }
        let report = try await Self.rate(rows, by: groups.dimensions, prices)
        guard report.lines.count <= Self.lineLimit else { throw Self.tooManyLines }
        var currency = report.currency
        if currency.isEmpty { currency = try await prices.sheet(caller.tierVersionID)?.currency ?? "" }
        let names = stretches.map(\.name)
        return try .json(
            UsageAnswer(
                start: start.description, end: end.description, timeZone: caller.timeZone, currency: currency,
                data: report.lines.map { UsageAnswer.Line($0, unit: groups.unit, names: names) },
                // A request with two tags is in two lines: their sum is nothing that was used.
                total: groups.dimensions.contains(.tag)
                    ? nil : UsageAnswer.Line(report.total, unit: nil, names: [])))
    }

    private static let tooManyLines = Refusal.invalid(
        "group_by", "makes more than \(lineLimit) rows", fix: "Ask for a shorter range or fewer groups.")

    static func rate(
        _ rows: [UsageRow], by dimensions: Set<UsageReporter.Dimension>, _ prices: PriceBook
    ) async throws -> UsageReporter.Report {
        var sheets: [TierVersionID: PriceSheet] = [:]
        for id in Set(rows.map(\.tierVersionID)) { sheets[id] = try await prices.sheet(id) }
        do throws(UsageReporter.Failure) {
            return try UsageReporter().report(rows, sheets: sheets, by: dimensions)
        } catch {
            throw error.refusal
        }
    }
}

/// What `group_by` asks for.
struct UsageGroups {
    /// A stretch of time that has lines of its own.
    enum Unit: String {
        case hour, day, month

        var frequency: Frequency {
            switch self {
            case .hour: .hour
            case .day: .day
            case .month: .month
            }
        }
    }

    let unit: Unit?
    let dimensions: Set<UsageReporter.Dimension>

    /// - Throws: `validation_failed`.
    init(_ text: String?) throws(Refusal) {
        var unit: Unit?
        var dimensions: Set<UsageReporter.Dimension> = []
        for part in text?.split(separator: ",", omittingEmptySubsequences: false) ?? [] {
            if unit == nil, let asked = Unit(rawValue: String(part)) {
                unit = asked
            } else if let dimension = UsageReporter.Dimension(rawValue: String(part)), dimension != .day,
                dimensions.insert(dimension).inserted
            {
                continue
            } else {
                throw .invalid(
                    "group_by",
                    "must be a list of model, key, user, tier and tag, each once, and one of hour, day and month",
                    fix: "Send group_by=day,model.")
            }
        }
        guard !dimensions.contains(.tag) || dimensions.isDisjoint(with: [.key, .user]) else {
            throw .invalid(
                "group_by", "cannot name tag together with key or user",
                fix: "Ask for one of them: the usage of tags is not kept by key.")
        }
        if unit != nil { dimensions.insert(.day) }
        self.unit = unit
        self.dimensions = dimensions
    }

    /// The stretches of the range, cut at its ends: local days and months, hours of UTC; or the whole range as one.
    /// - Throws: `validation_failed` where there are too many.
    func stretches(
        from start: Timestamp, to end: Timestamp, _ calendar: PeriodCalendar
    ) throws(Refusal) -> [(name: String, stretch: UsageQuery.Stretch)] {
        guard let unit else { return [("", UsageQuery.Stretch(start: start, end: end))] }
        let limit = unit == .hour ? UsageEndpoint.stretchLimit : 400
        var stretches: [(name: String, stretch: UsageQuery.Stretch)] = []
        var cursor = start
        while cursor < end {
            guard stretches.count < limit else {
                throw .invalid(
                    "start", "spans more than \(limit) of what it is grouped by",
                    fix: "Ask for a shorter range, or do not group by \(unit.rawValue).")
            }
            let period = calendar.period(containing: cursor, frequency: unit.frequency)
            let name =
                switch unit {
                case .hour: period.start.description
                case .day: String(period.id.prefix(10))
                case .month: String(period.id.prefix(7))
                }
            stretches.append((name, UsageQuery.Stretch(start: cursor, end: min(period.end, end))))
            cursor = period.end
        }
        return stretches
    }
}

private struct UsageAnswer: Encodable {
    let object = "list"
    let start: String
    let end: String
    let timeZone: String
    let currency: String
    let data: [Line]
    let total: Line?
    let hasMore = false

    enum CodingKeys: String, CodingKey {
        case object, start, end, currency, data, total
        case timeZone = "time_zone"
        case hasMore = "has_more"
    }

    struct Line: Encodable {
        let hour: String?
        let day: String?
        let month: String?
        let tag: String?
        let tier: String?
        let model: String?
        let userID: String?
        let keyID: String?
        let requests: Int64
        let inputTokens: Int64
        let cachedInputTokens: Int64
        let outputTokens: Int64
        let costMicros: Int64

        enum CodingKeys: String, CodingKey {
            case hour, day, month, tag, tier, model, requests
            case userID = "user_id"
            case keyID = "key_id"
            case inputTokens = "input_tokens"
            case cachedInputTokens = "cached_input_tokens"
            case outputTokens = "output_tokens"
            case costMicros = "cost_micros"
        }

        init(_ line: UsageReporter.Line, unit: UsageGroups.Unit?, names: [String]) {
            let name = line.day.flatMap { names.indices.contains($0) ? names[$0] : nil }
            hour = unit == .hour ? name : nil
            day = unit == .day ? name : nil
            month = unit == .month ? name : nil
            tag = line.tag
            tier = line.tier
            model = line.model
            userID = line.userID?.description
            keyID = line.keyID?.description
            requests = line.requests
            inputTokens = line.inputTokens
            cachedInputTokens = line.cachedInputTokens
            outputTokens = line.outputTokens
            costMicros = line.cost.value
        }
    }
}
