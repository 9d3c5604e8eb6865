internal import Billing
internal import Domain
internal import Foundation
internal import HTTPListener
internal import Hummingbird

/// `GET /v1/organization/usage/completions` and `…/costs`: usage in the shape that tools for OpenAI's API read.
///
/// All that was used is told here, of whatever surface. Buckets are whole hours and days of UTC, as they are there.
struct OrganizationUsageEndpoint: Sendable {
    let records: any CustomerRecords
    let prices: PriceBook
    let time: any TimeSource

    func completions(_ request: Request, _ context: ControlContext) async throws -> Response {
        let caller = try context.caller
        let query = try OrganizationQuery(
            request, caller.tenantID, at: time.now, widths: ["1h", "1d"], groups: ["model", "api_key_id", "user_id"],
            defaultLimit: ["1h": 24, "1d": 7], maximumLimit: ["1h": 168, "1d": 31])
        let rows = try await rows(query, caller.tenantID)
        let days = Dictionary(grouping: rows, by: \.day)
        var buckets: [OrganizationBucket] = []
        for (index, stretch) in query.stretches.enumerated() {
            var groups: [CompletionsKey: CompletionsSums] = [:]
            for row in days[index] ?? [] {
                let key = CompletionsKey(
                    model: query.groups.contains("model") ? row.model : nil,
                    keyID: query.groups.contains("api_key_id") ? row.keyID : nil,
                    userID: query.groups.contains("user_id") ? row.userID : nil)
                try groups[key, default: CompletionsSums()].add(row)
            }
            let results = groups.sorted { $0.key < $1.key }.map { key, sums in
                OrganizationBucket.Result.completions(key, sums)
            }
            buckets.append(OrganizationBucket(stretch, results))
        }
        return try .json(OrganizationAnswer(data: buckets, nextPage: query.nextPage))
    }

    func costs(_ request: Request, _ context: ControlContext) async throws -> Response {
        let caller = try context.caller
        let query = try OrganizationQuery(
            request, caller.tenantID, at: time.now, widths: ["1d"], groups: ["line_item"], defaultLimit: ["1d": 7],
            maximumLimit: ["1d": 180])
        let byModel = query.groups.contains("line_item")
        let rows = try await rows(query, caller.tenantID)
        // A tenant that has changed its currency has costs in both: each is a result of its own.
        var currencies: [TierVersionID: String] = [:]
        for id in Set(rows.map(\.tierVersionID)) { currencies[id] = try await prices.sheet(id)?.currency ?? "" }
        var results: [Int: [OrganizationBucket.Result]] = [:]
        for (currency, rows) in Dictionary(grouping: rows, by: { currencies[$0.tierVersionID] ?? "" }).sorted(by: {
            $0.key < $1.key
        }) {
            for line in try await UsageEndpoint.rate(rows, by: byModel ? [.day, .model] : [.day], prices).lines {
                results[line.day ?? 0, default: []].append(.costs(line.cost, currency: currency, lineItem: line.model))
            }
        }
        return try .json(
            OrganizationAnswer(
                data: query.stretches.enumerated().map { OrganizationBucket($1, results[$0] ?? []) },
                nextPage: query.nextPage))
    }

    private func rows(_ query: OrganizationQuery, _ tenant: TenantID) async throws -> [UsageRow] {
        guard !query.stretches.isEmpty else { return [] }
        let rows = try await records.usage(
            UsageQuery(
                tenantID: tenant, days: query.stretches,
                groupsByKey: query.groups.contains("api_key_id") || !query.keyIDs.isEmpty,
                groupsByUser: query.groups.contains("user_id"), rowLimit: UsageEndpoint.rowLimit))
        guard rows.count <= UsageEndpoint.rowLimit else {
            throw Refusal.invalid(
                "limit", "makes more than \(UsageEndpoint.rowLimit) rows", fix: "Ask for fewer buckets or fewer groups."
            )
        }
        return rows.filter { row in
            (query.models.isEmpty || query.models.contains(row.model))
                && (query.keyIDs.isEmpty || row.keyID.map { query.keyIDs.contains($0.description) } ?? false)
        }
    }
}

/// What is asked for, and which buckets of it the page has.
private struct OrganizationQuery {
    let stretches: [UsageQuery.Stretch]
    let groups: Set<String>
    let models: Set<String>
    let keyIDs: Set<String>
    let nextPage: String?

    private static let bucketLimit = 9_600

    /// - Throws: `validation_failed`, which is a 400 of `invalid_request_error` on this surface.
    init(
        _ request: Request, _ tenant: TenantID, at now: Timestamp, widths: Set<String>, groups known: Set<String>,
        defaultLimit: [String: Int], maximumLimit: [String: Int]
    ) throws(Refusal) {
        let fields = try Self.fields(request)
        let width = fields["bucket_width"]?.first ?? "1d"
        guard width != "1m" else {
            throw .invalid(
                "bucket_width", "cannot be 1m: usage is kept by quarters of an hour",
                fix: "Send \(widths.sorted().joined(separator: " or ")).")
        }
        guard widths.contains(width), let standard = defaultLimit[width], let most = maximumLimit[width] else {
            throw .invalid(
                "bucket_width", "must be \(widths.sorted().joined(separator: " or "))", fix: "Leave it out for 1d.")
        }
        groups = Set(fields["group_by"] ?? [])
        guard groups.isSubset(of: known) else {
            throw .invalid(
                "group_by", "must be of \(known.sorted().joined(separator: ", "))", fix: "Leave the others out.")
        }
        models = Set(fields["models"] ?? [])
        keyIDs = Set(fields["api_key_ids"] ?? [])
        let seconds: Int64 = width == "1h" ? 3_600 : 86_400
        guard let start = try Self.seconds(fields, "start_time") else {
            throw .invalid("start_time", "is required", fix: "Send it as unix seconds.")
        }
        let end = try Self.seconds(fields, "end_time") ?? now.microsecondsSince1970 / 1_000_000
        guard start < end else {
            throw .invalid("end_time", "must be later than start_time", fix: "The range is half-open.")
        }
        let first = start / seconds
        let count = Int((end + seconds - 1) / seconds - first)
        guard count <= Self.bucketLimit, width == "1h" || count <= 397 else {
            throw .invalid("start_time", "spans more than thirteen months", fix: "Ask for a shorter range.")
        }
        var limit = standard
        if let text = fields["limit"]?.first {
            guard let number = Int(text), (1...most).contains(number) else {
                throw .invalid("limit", "must be a number from 1 to \(most)", fix: "Leave it out for \(standard).")
            }
            limit = number
        }
        // The end that is left out moves with time and must not make pages of one question strangers.
        let subject =
            "\(tenant) \(width) \(start) \(fields["end_time"] ?? []) \(groups.sorted()) \(models.sorted()) \(keyIDs.sorted())"
        var offset = 0
        if let page = fields["page"]?.first {
            guard let place = PageToken.offset(page, of: subject) else {
                throw .invalid(
                    "page", "must be the next_page of an answer to the same question", fix: "Take it from there.")
            }
            offset = place
        }
        let numbers = min(offset, count)..<min(offset + limit, count)
        stretches = numbers.map { number in
            let begin = (first + Int64(number)) * seconds
            return UsageQuery.Stretch(
                start: Timestamp(microsecondsSince1970: begin * 1_000_000),
                end: Timestamp(microsecondsSince1970: (begin + seconds) * 1_000_000))
        }
        nextPage = offset + limit < count ? PageToken.text(offset + limit, of: subject) : nil
    }

    /// Lists may be repeated, with or without brackets, or have commas; anything else is there once.
    private static func fields(_ request: Request) throws(Refusal) -> [String: [String]] {
        let lists: Set = ["group_by", "models", "api_key_ids"]
        let single: Set = ["start_time", "end_time", "bucket_width", "limit", "page"]
        var fields: [String: [String]] = [:]
        for (rawName, value) in request.uri.queryParameters {
            var name = String(rawName)
            if name.hasSuffix("[]") { name.removeLast(2) }
            if lists.contains(name) {
                fields[name, default: []] += value.split(separator: ",").map(String.init)
            } else if single.contains(name), fields[name] == nil {
                fields[name] = [String(value)]
            } else {
                throw .invalid(
                    String(name.prefix(64)), "is not a parameter of this route, or is there twice",
                    fix: "The parameters are \(lists.union(single).sorted().joined(separator: ", ")).")
            }
        }
        return fields
    }

    private static func seconds(_ fields: [String: [String]], _ name: String) throws(Refusal) -> Int64? {
        guard let text = fields[name]?.first else { return nil }
        guard text.utf8.allSatisfy({ (0x30...0x39).contains($0) }), let number = Int64(text), number < 253_402_300_800
        else { throw .invalid(name, "must be unix seconds", fix: "Send it as 1772323200.") }
        return number
    }
}

private struct CompletionsKey: Hashable, Comparable {
    let model: String?
    let keyID: KeyID?
    let userID: UserID?

    static func < (left: CompletionsKey, right: CompletionsKey) -> Bool { left.text < right.text }

    private var text: String { "\(model ?? "")/\(keyID?.description ?? "")/\(userID?.description ?? "")" }
}

private struct CompletionsSums {
    var requests: Int64 = 0
    var input: Int64 = 0
    var cached: Int64 = 0
    var output: Int64 = 0

    mutating func add(_ row: UsageRow) throws(Refusal) {
        for (path, value) in [
            (\CompletionsSums.requests, row.requests), (\.input, row.inputTokens), (\.cached, row.cachedInputTokens),
            (\.output, row.outputTokens),
        ] {
            let (sum, overflow) = self[keyPath: path].addingReportingOverflow(value)
            guard !overflow else { throw Refusal(.internalError, "The usage cannot be added up.") }
            self[keyPath: path] = sum
        }
    }
}

private struct OrganizationAnswer: Encodable {
    let object = "page"
    let data: [OrganizationBucket]
    let hasMore: Bool
    @Present var nextPage: String?

    enum CodingKeys: String, CodingKey {
        case object, data
        case hasMore = "has_more"
        case nextPage = "next_page"
    }

    init(data: [OrganizationBucket], nextPage: String?) {
        self.data = data
        hasMore = nextPage != nil
        self.nextPage = nextPage
    }
}

private struct OrganizationBucket: Encodable {
    enum Result: Encodable {
        case completions(CompletionsKey, CompletionsSums)
        case costs(Micros, currency: String, lineItem: String?)

        func encode(to encoder: any Encoder) throws {
            var fields = encoder.container(keyedBy: Field.self)
            try fields.encodeNil(forKey: "project_id")
            switch self {
            case .completions(let key, let sums):
                try fields.encode("organization.usage.completions.result", forKey: "object")
                try fields.encode(sums.input, forKey: "input_tokens")
                try fields.encode(sums.output, forKey: "output_tokens")
                try fields.encode(sums.cached, forKey: "input_cached_tokens")
                try fields.encode(0, forKey: "input_audio_tokens")
                try fields.encode(0, forKey: "output_audio_tokens")
                try fields.encode(sums.requests, forKey: "num_model_requests")
                try fields.encode(key.userID?.description, forKey: "user_id")
                try fields.encode(key.keyID?.description, forKey: "api_key_id")
                try fields.encode(key.model, forKey: "model")
                try fields.encodeNil(forKey: "batch")
            case .costs(let cost, let currency, let lineItem):
                try fields.encode("organization.costs.result", forKey: "object")
                var amount = fields.nestedContainer(keyedBy: Field.self, forKey: "amount")
                // A decimal, exact to the micro-unit; never a binary fraction.
                try amount.encode(Decimal(cost.value) / 1_000_000, forKey: "value")
                try amount.encode(currency.lowercased(), forKey: "currency")
                try amount.encode(cost.value, forKey: "amount_micros")
                try fields.encode(lineItem, forKey: "line_item")
            }
        }
    }

    struct Field: CodingKey, ExpressibleByStringLiteral {
        let stringValue: String
        var intValue: Int? { nil }

        init(stringLiteral value: String) { stringValue = value }
        init?(stringValue: String) { self.stringValue = stringValue }
        init?(intValue: Int) { nil }
    }

    let object = "bucket"
    let startTime: Int64
    let endTime: Int64
    let results: [Result]

    enum CodingKeys: String, CodingKey {
        case object, results
        case startTime = "start_time"
        case endTime = "end_time"
    }

    init(_ stretch: UsageQuery.Stretch, _ results: [Result]) {
        startTime = stretch.start.microsecondsSince1970 / 1_000_000
        endTime = stretch.end.microsecondsSince1970 / 1_000_000
        self.results = results
    }
}
