internal import Domain
internal import HTTPListener
internal import Hummingbird

/// `/admin/v1/queue`: how full the queue of jobs is, and the jobs whose attempts are used up.
struct QueueEndpoint: Sendable {
    let queue: (any QueueAdministration)?
    let time: any TimeSource

    func depth(_ call: AdminCall) async throws -> Response {
        let now = time.now
        return try .json(DepthAnswer(data: try await present.queueDepths().map { DepthAnswer.Item($0, at: now) }))
    }

    func dead(_ call: AdminCall) async throws -> Response {
        let limit = try call.query.integer("limit", in: 1...100, default: 20)
        let after = try call.query.value("after", "a job's id", fix: "Take last_id of the page before.") {
            Domain.RequestID(publicText: $0)
        }
        var rows = try await present.deadJobs(after: after, limit: limit + 1)
        let hasMore = rows.count > limit
        if hasMore { rows.removeLast() }
        return try .json(
            ListAnswer(
                data: rows.map(DeadAnswer.init), firstID: rows.first?.id.publicText, lastID: rows.last?.id.publicText,
                hasMore: hasMore))
    }

    func retry(_ call: AdminCall) async throws -> Response {
        guard let text = call.context.parameters.get("id"), let id = Domain.RequestID(publicText: text) else {
            throw Refusal(.notFound, "There is no dead job of this id.")
        }
        try await present.retryDead(id, by: call.actor)
        return try .json(RetryAnswer(id: id.publicText, status: JobState.queued.rawValue))
    }

    private var present: any QueueAdministration {
        get throws(Refusal) {
            guard let queue else { throw Refusal(.notFound, "This server has no queue.") }
            return queue
        }
    }
}

private struct DepthAnswer: Encodable {
    let object = "queue"
    let data: [Item]

    struct Item: Encodable {
        let tenantID: String
        let ready: Int64
        let waiting: Int64
        let processing: Int64
        @Present var oldestReadySeconds: Int64?

        init(_ depth: QueueDepth, at now: Timestamp) {
            tenantID = depth.tenantID.description
            ready = depth.ready
            waiting = depth.waiting
            processing = depth.processing
            oldestReadySeconds = depth.oldestReadyAt.map { max(0, now.milliseconds(since: $0) / 1_000) }
        }

        enum CodingKeys: String, CodingKey {
            case ready, waiting, processing
            case tenantID = "tenant_id"
            case oldestReadySeconds = "oldest_ready_seconds"
        }
    }
}

private struct DeadAnswer: Encodable {
    let object = "dead_job"
    let id: String
    let tenantID: String
    let model: String
    let operation: String
    let attempts: Int32
    let errorCode: String
    let errorDetail: String
    let createdAt: String
    let endedAt: String
    let expiresAt: String

    init(_ job: DeadJob) {
        id = job.id.publicText
        tenantID = job.tenantID.description
        model = job.model
        operation = job.operation
        attempts = job.attempt
        errorCode = job.errorCode
        errorDetail = job.errorDetail
        createdAt = job.createdAt.description
        endedAt = job.endedAt.description
        expiresAt = job.expiresAt.description
    }

    enum CodingKeys: String, CodingKey {
        case object, id, model, operation, attempts
        case tenantID = "tenant_id"
        case errorCode = "error_code"
        case errorDetail = "error_detail"
        case createdAt = "created_at"
        case endedAt = "ended_at"
        case expiresAt = "expires_at"
    }
}

private struct RetryAnswer: Encodable {
    let object = "job"
    let id: String
    let status: String
}
