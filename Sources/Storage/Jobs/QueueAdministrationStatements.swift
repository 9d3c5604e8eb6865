public import Domain
internal import PostgresDriver

struct ReadQueueDepths: PostgresStatement {
    static let sql = """
        SELECT tenant_id, count(*) FILTER (WHERE is_ready), count(*) FILTER (WHERE state = 'queued' AND NOT is_ready),
            count(*) FILTER (WHERE state = 'processing'), min(created_at) FILTER (WHERE is_ready)
        FROM jobs WHERE state = 'queued' OR state = 'processing'
        GROUP BY tenant_id
        ORDER BY count(*) DESC, tenant_id
        LIMIT 1000
        """
    static let columns: [PostgresType] = [.uuid, .int8, .int8, .int8, .timestamptz]

    static func row(from row: inout PostgresRow) throws(PostgresError) -> QueueDepth {
        QueueDepth(
            tenantID: TenantID(try row.uuid()), ready: try row.int64(), waiting: try row.int64(),
            processing: try row.int64(), oldestReadyAt: try row.optionalTimestamp().map { Timestamp($0) })
    }
}

/// Of all tenants, newest first.
struct ListDeadJobs: PostgresStatement {
    static let sql = """
        SELECT job_id, tenant_id, model, operation, attempt, error_code, error_detail, created_at, ended_at, expires_at
        FROM jobs WHERE is_dead AND job_id < $1
        ORDER BY job_id DESC
        LIMIT $2
        """
    static let parameters: [PostgresType] = [.uuid, .int8]
    static let columns: [PostgresType] = [
        .uuid, .uuid, .text, .text, .int4, .text, .text, .timestamptz, .timestamptz, .timestamptz,
    ]

    let after: RequestID?
    let limit: Int

    func bind(to binds: inout PostgresBinds) {
        binds.append((after ?? RequestID(high: .max, low: .max)).postgres)
        binds.append(Int64(limit))
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> DeadJob {
        DeadJob(
            id: RequestID(try row.uuid()), tenantID: TenantID(try row.uuid()), model: try row.text(),
            operation: try row.text(), attempt: try row.int32(), errorCode: try row.optionalText() ?? "",
            errorDetail: try row.optionalText() ?? "", createdAt: Timestamp(try row.timestamp()),
            endedAt: Timestamp(try row.timestamp()), expiresAt: Timestamp(try row.timestamp()))
    }
}

struct CountDeadJobs: PostgresStatement {
    static let sql = "SELECT count(*) FROM jobs WHERE is_dead"
    static let columns: [PostgresType] = [.int8]

    static func row(from row: inout PostgresRow) throws(PostgresError) -> Int64 { try row.int64() }
}

struct RetryDeadJob: PostgresStatement {
    static let sql = "SELECT retry_job($1)"
    static let parameters: [PostgresType] = [.uuid]
    static let columns: [PostgresType] = [.text]

    let id: RequestID

    func bind(to binds: inout PostgresBinds) { binds.append(id.postgres) }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> String { try row.text() }
}

extension AdministrationStore: QueueAdministration {
    public func queueDepths() async throws(AdministrationFailure) -> [QueueDepth] { try await read(ReadQueueDepths()) }

    public func deadJobs(after: RequestID?, limit: Int) async throws(AdministrationFailure) -> [DeadJob] {
        try await read(ListDeadJobs(after: after, limit: limit))
    }

    public func retryDead(_ id: RequestID, by actor: AuditActor) async throws(AdministrationFailure) {
        try await change(actor) { change in
            switch try await change.connection.execute(RetryDeadJob(id: id)).first {
            case "retried": break
            case "reported":
                throw Refusal(
                    .conflict,
                    "The job is a line of a batch that has already reported it as failed, or that takes no more answers. "
                        + "It would be charged without being in the batch's output. Let its owner submit it again.")
            default:
                throw Refusal(
                    .notFound, "There is no dead job of this id. GET /admin/v1/queue/dead lists those that there are.")
            }
            try await change.audit("queue.retry", "job", id.publicText, before: nil, after: #"{"attempts_more": 5}"#)
        }
    }
}
