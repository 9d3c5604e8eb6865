internal import Billing
internal import Domain
internal import HTTPListener
internal import Hummingbird

/// `GET /api/v1/usage`: what was used and what it costs, exact to the last commit.
struct UsageEndpoint: Sendable {
    let records: any CustomerRecords
    let prices: PriceBook
    let time: any TimeSource

    /// No more rows than anybody reads.
    private static let lineLimit = 20_000
    /// What is read to make these lines: a line can have a row for each price version.
    static let rowLimit = 60_000

    func get(_ request: Request, _ context: ControlContext) async throws -> Response {
        let caller = try context.caller
        let query = try QueryParameters(request, allowed: ["start", "end", "group_by", "format"])
        let calendar = PeriodCalendar(timeZone: caller.timeZone) ?? .utc
        let range = try query.usageRange(in: calendar.period(containing: time.now, frequency: .month))
        let groups = try UsageGroups(query, among: [.model, .key, .user, .tier, .tag])
        let format = try ReportFormat(query, request)
        let stretches = try groups.stretches(of: range, calendar)
        let rows = try await records.usage(
            UsageQuery(
                tenantID: caller.tenantID, days: stretches.map(\.stretch),
                groupsByKey: groups.words.contains(.key), groupsByUser: groups.words.contains(.user),
                groupsByTag: groups.words.contains(.tag), rowLimit: Self.rowLimit))
        guard rows.count <= Self.rowLimit else { throw Self.tooManyLines }
        let report = try await Self.rate(rows, by: groups.dimensions, prices)
        guard report.lines.count <= Self.lineLimit else { throw Self.tooManyLines }
        var currency: String? = report.currency
        if report.currency.isEmpty { currency = try await prices.sheet(caller.tierVersionID)?.currency }
        let names = stretches.map(\.name)
        if format == .csv { return Self.document(report.lines, groups, names, currency).answer(name: "usage") }
        return try .json(
            UsageAnswer(
                start: range.start.description, end: range.end.description, timeZone: caller.timeZone,
                currency: currency,
                data: report.lines.map { UsageAnswer.Line($0, unit: groups.unit, names: names) },
                // A request with two tags is in two lines: their sum is nothing that was used.
                total: groups.words.contains(.tag)
                    ? nil : UsageAnswer.Line(report.total, unit: nil, names: [])))
    }

    private static func document(
        _ lines: [UsageReporter.Line], _ groups: UsageGroups, _ names: [String], _ currency: String?
    ) -> CSVDocument {
        var document = CSVDocument(columns: UsageTable.columns(groups))
        for line in lines {
            var row = UsageTable.Row(
                currency: currency,
                sums: [line.requests, line.inputTokens, line.cachedInputTokens, line.outputTokens, line.cost.value])
            row.time = line.day.flatMap { names.indices.contains($0) ? names[$0] : nil }
            (row.tag, row.tier, row.model) = (line.tag, line.tier, line.model)
            (row.userID, row.keyID) = (line.userID, line.keyID)
            document.add(UsageTable.cells(row, groups))
        }
        return document
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

extension UsageGroups {
    /// What the reporter tells apart.
    fileprivate var dimensions: Set<UsageReporter.Dimension> {
        let dimensions = words.compactMap { UsageReporter.Dimension(rawValue: $0.rawValue) }
        return Set(unit == nil ? dimensions : dimensions + [.day])
    }
}

private struct UsageAnswer: Encodable {
    let object = "list"
    let start: String
    let end: String
    let timeZone: String
    /// `nil` where nothing was used and no tier names one.
    @Present var currency: String?
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
