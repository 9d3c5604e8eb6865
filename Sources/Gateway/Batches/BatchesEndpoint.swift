internal import Domain
internal import Foundation
internal import HTTPListener
internal import Hummingbird

/// `/v1/batches` of the OpenAI API.
struct BatchesEndpoint: Sendable {
    let batches: any BatchRecords
    let limits: GatewayServer.BatchLimits

    static let endpoints: [String: Surface] = [
        "/v1/chat/completions": .chatCompletions, "/v1/completions": .completions, "/v1/embeddings": .embeddings,
    ]

    func add(_ request: Request, _ context: ControlContext) async throws -> Response {
        let caller = try context.caller
        let body = try await JSONObjectBody(
            request, allowed: ["input_file_id", "endpoint", "completion_window", "metadata", "output_expires_after"],
            maximumBytes: 65_536)
        guard let endpoint = try body.text("endpoint", limit: 64), Self.endpoints[endpoint] != nil else {
            throw Refusal.invalid(
                "/endpoint", "must be one of \(Self.endpoints.keys.sorted().joined(separator: ", "))",
                fix: "Send the path that every line has as its url.")
        }
        guard try body.text("completion_window", limit: 16) == "24h" else {
            throw Refusal.invalid("/completion_window", "must be 24h", fix: "Send \"completion_window\": \"24h\".")
        }
        guard let text = try body.text("input_file_id", limit: 64) else {
            throw Refusal.invalid(
                "/input_file_id", "is missing", fix: "Upload a file with purpose=batch and send its id.")
        }
        guard let fileID = FileID(publicText: text) else { throw FilesEndpoint.noFile }
        let metadata = try Self.metadata(body)
        switch try await batches.add(
            NewBatch(
                tenantID: caller.tenantID, userID: caller.userID, keyID: caller.keyID, endpoint: endpoint,
                inputFileID: fileID, metadata: metadata), limit: limits.openBatches)
        {
        case .added(let batch): return try .json(BatchAnswer(batch))
        case .noSuchFile: throw FilesEndpoint.noFile
        case .tooMany:
            throw Refusal(
                .conflict, "\(limits.openBatches) batches have not ended, which is the most. Wait for one of them.")
        }
    }

    func list(_ request: Request, _ context: ControlContext) async throws -> Response {
        let query = try QueryParameters(request, allowed: ["limit", "after"])
        let limit = try query.integer("limit", in: 1...100, default: 20)
        let after = try query.value("after", "the id of a batch", fix: "Take it from last_id of a page.") {
            BatchID(publicText: $0)
        }
        var rows = try await batches.batches(tenantID: try context.caller.tenantID, after: after, limit: limit + 1)
        let hasMore = rows.count > limit
        if hasMore { rows.removeLast() }
        let data = rows.map { BatchAnswer($0) }
        return try .json(ListAnswer(data: data, firstID: data.first?.id, lastID: data.last?.id, hasMore: hasMore))
    }

    func one(_ request: Request, _ context: ControlContext) async throws -> Response {
        guard let id = Self.id(context), let batch = try await batches.batch(id, tenantID: try context.caller.tenantID)
        else {
            throw Self.noBatch
        }
        return try .json(BatchAnswer(batch))
    }

    func cancel(_ request: Request, _ context: ControlContext) async throws -> Response {
        guard let id = Self.id(context), let batch = try await batches.cancel(id, tenantID: try context.caller.tenantID)
        else {
            throw Self.noBatch
        }
        guard batch.state == .cancelling || batch.state == .cancelled else {
            throw Refusal(.conflict, "The batch has ended as \(batch.state.rawValue). There is nothing left to cancel.")
        }
        return try .json(BatchAnswer(batch))
    }

    private static func id(_ context: ControlContext) -> BatchID? {
        context.parameters.get("id").flatMap { BatchID(publicText: $0) }
    }

    private static let noBatch = Refusal(.notFound, "There is no such batch, or it is not yours to see.")

    /// Sixteen pairs of strings at most, as text.
    private static func metadata(_ body: JSONObjectBody) throws -> String {
        guard let value = body.value("metadata"), body.tape.kind(value) != .null else { return "{}" }
        let refusal = Refusal.invalid(
            "/metadata", "must be an object of at most 16 strings, names up to 64 characters and texts up to 512",
            fix: "Shorten it, or leave it out.")
        guard body.tape.kind(value) == .object else { throw refusal }
        var pairs: [String: String] = [:]
        var isUsable = true
        body.tape.forEachMember(of: value) { key, member in
            guard let name = body.tape.string(key), let text = body.tape.string(member), name.count <= 64,
                text.count <= 512,
                !name.contains("\0"), !text.contains("\0")
            else {
                isUsable = false
                return
            }
            pairs[name] = text
        }
        guard isUsable, pairs.count <= 16 else { throw refusal }
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        return String(decoding: try encoder.encode(pairs), as: UTF8.self)
    }
}

private struct BatchAnswer: Encodable {
    struct Counts: Encodable {
        let total: Int32
        let completed: Int32
        let failed: Int32
    }

    struct Errors: Encodable {
        let object = "list"
        let data: [BatchLineError]
    }

    struct Usage: Encodable {
        struct InputDetails: Encodable {
            let cached: Int64
            enum CodingKeys: String, CodingKey { case cached = "cached_tokens" }
        }

        struct OutputDetails: Encodable {
            let reasoning: Int64 = 0
            enum CodingKeys: String, CodingKey { case reasoning = "reasoning_tokens" }
        }

        let input: Int64
        let inputDetails: InputDetails
        let output: Int64
        let outputDetails = OutputDetails()
        let total: Int64

        enum CodingKeys: String, CodingKey {
            case input = "input_tokens"
            case inputDetails = "input_tokens_details"
            case output = "output_tokens"
            case outputDetails = "output_tokens_details"
            case total = "total_tokens"
        }
    }

    let id: String
    let object = "batch"
    let endpoint: String
    @Present var errors: Errors?
    let inputFileID: String
    let completionWindow = "24h"
    let status: String
    @Present var outputFileID: String?
    @Present var errorFileID: String?
    let createdAt: Int64
    @Present var inProgressAt: Int64?
    let expiresAt: Int64
    @Present var finalizingAt: Int64?
    @Present var completedAt: Int64?
    @Present var failedAt: Int64?
    @Present var expiredAt: Int64?
    @Present var cancellingAt: Int64?
    @Present var cancelledAt: Int64?
    let counts: Counts
    let usage: Usage
    let metadata: [String: String]

    enum CodingKeys: String, CodingKey {
        case id, object, endpoint, errors, status, usage, metadata
        case inputFileID = "input_file_id"
        case completionWindow = "completion_window"
        case outputFileID = "output_file_id"
        case errorFileID = "error_file_id"
        case createdAt = "created_at"
        case inProgressAt = "in_progress_at"
        case expiresAt = "expires_at"
        case finalizingAt = "finalizing_at"
        case completedAt = "completed_at"
        case failedAt = "failed_at"
        case expiredAt = "expired_at"
        case cancellingAt = "cancelling_at"
        case cancelledAt = "cancelled_at"
        case counts = "request_counts"
    }

    init(_ batch: Batch) {
        id = batch.id.publicText
        endpoint = batch.endpoint
        let found = batch.errors.flatMap { try? JSONDecoder().decode([BatchLineError].self, from: Data($0.utf8)) }
        _errors = Present(wrappedValue: found.map { Errors(data: $0) })
        inputFileID = batch.inputFileID.publicText
        status = batch.state.rawValue
        _outputFileID = Present(wrappedValue: batch.outputFileID?.publicText)
        _errorFileID = Present(wrappedValue: batch.errorFileID?.publicText)
        let times = batch.times
        createdAt = times.createdAt.unixSeconds
        expiresAt = times.expiresAt.unixSeconds
        _inProgressAt = Present(wrappedValue: times.inProgressAt?.unixSeconds)
        _finalizingAt = Present(wrappedValue: times.finalizingAt?.unixSeconds)
        _completedAt = Present(wrappedValue: times.completedAt?.unixSeconds)
        _failedAt = Present(wrappedValue: times.failedAt?.unixSeconds)
        _expiredAt = Present(wrappedValue: times.expiredAt?.unixSeconds)
        _cancellingAt = Present(wrappedValue: times.cancellingAt?.unixSeconds)
        _cancelledAt = Present(wrappedValue: times.cancelledAt?.unixSeconds)
        counts = Counts(total: batch.total, completed: batch.completed, failed: batch.failed)
        usage = Usage(
            input: batch.inputTokens, inputDetails: .init(cached: batch.cachedTokens), output: batch.outputTokens,
            total: batch.inputTokens + batch.outputTokens)
        metadata = (try? JSONDecoder().decode([String: String].self, from: Data(batch.metadata.utf8))) ?? [:]
    }
}
