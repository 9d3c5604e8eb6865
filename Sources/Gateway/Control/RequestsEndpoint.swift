internal import Domain
internal import Foundation
internal import HTTPListener
internal import Hummingbird

/// `GET /api/v1/requests`, `/api/v1/requests/{id}` and `/status/{id}`: what became of requests.
struct RequestsEndpoint: Sendable {
    let records: any CustomerRecords
    let prices: PriceBook
    var jobs: (any JobRecords)?

    func list(_ request: Request, _ context: ControlContext) async throws -> Response {
        let query = try RequestListInput.query(request, tenantID: try context.caller.tenantID)
        let page = try await records.requests(query)
        let limit = query.limit - 1
        let isFull = page.rows.count > limit
        // With `before` the surplus row is the newest one, with `after` the oldest.
        let rows = query.before != nil ? page.rows.suffix(limit) : page.rows.prefix(limit)
        var data: [RequestAnswer] = []
        for row in rows { data.append(try await answer(row)) }
        let goesOnAt = isFull ? (query.before != nil ? rows.first : rows.last)?.id : page.stoppedAt
        return try .json(
            RequestListAnswer(
                data: data, firstID: data.first?.id, lastID: data.last?.id, hasMore: isFull || page.stoppedAt != nil,
                nextCursor: (query.before == nil ? goesOnAt : rows.last?.id).map(RequestCursor.text),
                previousCursor: (query.before != nil ? goesOnAt : query.after == nil ? nil : rows.first?.id).map(
                    RequestCursor.text)))
    }

    func one(_ request: Request, _ context: ControlContext) async throws -> Response {
        guard let text = context.parameters.get("id"), let id = Domain.RequestID(publicText: text),
            let detail = try await records.detail(
                of: id, tenantID: try context.caller.tenantID, readsPrompt: true)
        else { throw Refusal(.notFound, "There is no such request, or it is not yours to see.") }
        var answer = try await answer(detail.row)
        answer.detail = detail
        return try .json(answer)
    }

    func status(_ request: Request, _ context: ControlContext) async throws -> Response {
        if let jobs, let text = context.parameters.get("id"), let id = Domain.RequestID(publicText: text) {
            switch try await jobs.job(id, tenantID: try context.caller.tenantID) {
            case .job(let row): return JobAnswer.status(row)
            case .gone: throw Refusal.resultGone
            case .unknown: break
            }
        }
        return try .json(StatusAnswer(try await find(context)))
    }

    private func find(_ context: ControlContext) async throws -> RequestRow {
        // A malformed id, an unknown one and another tenant's get the same answer.
        guard let text = context.parameters.get("id"), let id = Domain.RequestID(publicText: text),
            let row = try await records.request(id, tenantID: try context.caller.tenantID)
        else { throw Refusal(.notFound, "There is no such request, or it is not yours to see.") }
        return row
    }

    private func answer(_ row: RequestRow) async throws -> RequestAnswer {
        var sheet: PriceSheet?
        if let id = row.tierVersionID { sheet = try await prices.sheet(id) }
        return RequestAnswer(row, sheet: sheet)
    }
}

private struct RequestAnswer: Encodable {
    let id: String
    /// Told for one request, not in a list.
    var detail: RequestDetail?
    private let row: RequestRow
    private let sheet: PriceSheet?

    init(_ row: RequestRow, sheet: PriceSheet?) {
        id = row.id.publicText
        self.row = row
        self.sheet = sheet
    }

    private enum Key: String, CodingKey {
        case id, object, status, model, version, usage, currency, cached, operation, prompt, result
        case keyID = "key_id"
        case userID = "user_id"
        case heldTokens = "held_tokens"
        case promptDigest = "prompt_sha256"
        case createdAt = "created_at"
        case completedAt = "completed_at"
        case processingTimeMilliseconds = "processing_time_ms"
        case httpStatus = "http_status"
        case errorCode = "error_code"
        case priceVersion = "price_version"
        case costMicros = "cost_micros"
    }

    private enum UsageKey: String, CodingKey {
        case source, requests
        case inputTokens = "input_tokens"
        case cachedInputTokens = "cached_input_tokens"
        case outputTokens = "output_tokens"
    }

    /// What is unknown is present and null, so that a reader need not ask whether it is there.
    func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: Key.self)
        try container.encode(id, forKey: .id)
        try container.encode("request", forKey: .object)
        try container.encode(row.status, forKey: .status)
        try container.encode(row.model, forKey: .model)
        try container.encode(row.modelVersion, forKey: .version)
        try container.encode(row.keyID.description, forKey: .keyID)
        try container.encode(row.createdAt.description, forKey: .createdAt)
        try container.encode(row.completedAt?.description, forKey: .completedAt)
        try container.encode(row.processingMicroseconds.map { $0 / 1_000 }, forKey: .processingTimeMilliseconds)
        try container.encode(row.httpStatus, forKey: .httpStatus)
        try container.encode(row.errorCode, forKey: .errorCode)
        try container.encode(row.isCached, forKey: .cached)
        try container.encode(row.operation, forKey: .operation)
        try container.encode(row.userID?.description, forKey: .userID)
        try container.encode(row.estimatedTokens, forKey: .heldTokens)
        if let detail {
            try container.encode(detail.prompt, forKey: .prompt)
            try container.encode(detail.promptDigest?.hexadecimal, forKey: .promptDigest)
            try container.encode(KeptResultAnswer(detail.result, of: id), forKey: .result)
        }
        try container.encode(row.billed == nil ? nil : row.tierVersionID?.priceVersionText, forKey: .priceVersion)
        try container.encode(row.billed == nil ? nil : sheet?.currency, forKey: .currency)
        guard let billed = row.billed else {
            try container.encodeNil(forKey: .usage)
            // Known, not unknown: what was not billed costs nothing.
            return try container.encode(row.completedAt == nil ? nil : 0, forKey: .costMicros)
        }
        try container.encode(
            sheet?.amount(requests: row.billedRequests, usage: billed, model: row.model).rounded?.value,
            forKey: .costMicros)
        var usage = container.nestedContainer(keyedBy: UsageKey.self, forKey: .usage)
        try usage.encode(row.billedRequests, forKey: .requests)
        try usage.encode(billed.inputTokens, forKey: .inputTokens)
        try usage.encode(billed.cachedInputTokens, forKey: .cachedInputTokens)
        try usage.encode(billed.outputTokens, forKey: .outputTokens)
        try usage.encode(billed.source.rawValue, forKey: .source)
    }
}

/// A page of requests, which can go on behind a place where no request was found.
private struct RequestListAnswer: Encodable {
    let object = "list"
    let data: [RequestAnswer]
    @Present var firstID: String?
    @Present var lastID: String?
    let hasMore: Bool
    @Present var nextCursor: String?
    @Present var previousCursor: String?

    enum CodingKeys: String, CodingKey {
        case object, data
        case firstID = "first_id"
        case lastID = "last_id"
        case hasMore = "has_more"
        case nextCursor = "next_cursor"
        case previousCursor = "previous_cursor"
    }
}

private struct StatusAnswer: Encodable {
    let requestID: String
    let status: String
    let result: JSONFragment?
    let error: Failure?
    let createdAt: String
    let completedAt: String?

    struct Failure: Encodable {
        let code: String
        let message: String
    }

    enum CodingKeys: String, CodingKey {
        case status, result, error
        case requestID = "request_id"
        case createdAt = "created_at"
        case completedAt = "completed_at"
    }

    init(_ row: RequestRow) {
        requestID = row.id.publicText
        status = row.status
        result = row.result.flatMap { try? JSONDecoder().decode(JSONFragment.self, from: Data($0.utf8)) }
        error = row.errorCode.map {
            Failure(code: $0, message: FailureCode(rawValue: $0)?.title ?? "The request failed")
        }
        createdAt = row.createdAt.description
        completedAt = row.completedAt?.description
    }

    func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode(requestID, forKey: .requestID)
        try container.encode(status, forKey: .status)
        try container.encode(result, forKey: .result)
        try container.encode(error, forKey: .error)
        try container.encode(createdAt, forKey: .createdAt)
        try container.encode(completedAt, forKey: .completedAt)
    }
}

/// A kept result, passed through as it is. Numbers of a model's answer are floating point; nothing that is billed is in here.
private indirect enum JSONFragment: Codable {
    case null
    case bool(Bool)
    case integer(Int64)
    case number(Double)
    case string(String)
    case array([JSONFragment])
    case object([String: JSONFragment])

    init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        if container.decodeNil() {
            self = .null
        } else if let value = try? container.decode(Bool.self) {
            self = .bool(value)
        } else if let value = try? container.decode(Int64.self) {
            self = .integer(value)
        } else if let value = try? container.decode(Double.self) {
            self = .number(value)
        } else if let value = try? container.decode(String.self) {
            self = .string(value)
        } else if let value = try? container.decode([JSONFragment].self) {
            self = .array(value)
        } else {
            self = .object(try container.decode([String: JSONFragment].self))
        }
    }

    func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        switch self {
        case .null: try container.encodeNil()
        case .bool(let value): try container.encode(value)
        case .integer(let value): try container.encode(value)
        case .number(let value): try container.encode(value)
        case .string(let value): try container.encode(value)
        case .array(let value): try container.encode(value)
        case .object(let value): try container.encode(value)
        }
    }
}
