internal import Domain
internal import PostgresDriver

private let jobColumns: [PostgresType] = [
    .uuid, .uuid, .text, .text, .text, .text, .int2, .int4, .int2, .text, .timestamptz, .timestamptz, .timestamptz,
    .timestamptz, .timestamptz, .bytea,
]

/// - Returns: `nil` for a state that this release does not know.
private func jobRow(_ row: inout PostgresRow) throws(PostgresError) -> JobRow? {
    let id = RequestID(try row.uuid())
    let batchID = try row.optionalUUID().map { BatchID($0) }
    let customID = try row.optionalText()
    let operation = try row.text()
    let model = try row.text()
    let state = JobState(rawValue: try row.text())
    let priority = try row.int16()
    let attempt = try row.int32()
    let httpStatus = try row.optionalInt16()
    let errorCode = try row.optionalText()
    let createdAt = Timestamp(try row.timestamp())
    let runAt = Timestamp(try row.timestamp())
    let startedAt = try row.optionalTimestamp().map { Timestamp($0) }
    let endedAt = try row.optionalTimestamp().map { Timestamp($0) }
    let expiresAt = try row.optionalTimestamp().map { Timestamp($0) }
    let answer = try row.optionalBytes()
    return state.map {
        JobRow(
            id: id, batchID: batchID, customID: customID, operation: operation, model: model, state: $0,
            priority: priority, attempt: attempt, httpStatus: httpStatus, errorCode: errorCode, createdAt: createdAt,
            runAt: runAt, startedAt: startedAt, endedAt: endedAt, expiresAt: expiresAt, answer: answer)
    }
}

/// One job of a tenant, as long as it is kept. The answer of a batch's line may be erased before its row.
struct ReadJob: PostgresStatement {
    static let sql = """
        SELECT job_id, batch_id, custom_id, operation, model, state, priority, attempt, http_status,
            CASE WHEN ended_at IS NOT NULL THEN error_code END, created_at, run_at, started_at, ended_at, expires_at, answer
        FROM jobs
        WHERE job_id = $1 AND tenant_id = $2 AND (expires_at IS NULL OR expires_at > clock_timestamp())
            AND (state <> 'completed' OR octet_length(answer) > 0)
        """
    static let parameters: [PostgresType] = [.uuid, .uuid]
    static let columns = jobColumns

    let id: RequestID
    let tenantID: TenantID

    func bind(to binds: inout PostgresBinds) {
        binds.append(id.postgres)
        binds.append(tenantID.postgres)
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> JobRow? { try jobRow(&row) }
}

/// Whether a request of a tenant was a job once.
struct FindFormerJob: PostgresStatement {
    static let sql = "SELECT true FROM requests WHERE request_id = $1 AND tenant_id = $2 AND is_job"
    static let parameters: [PostgresType] = [.uuid, .uuid]
    static let columns: [PostgresType] = [.bool]

    let id: RequestID
    let tenantID: TenantID

    func bind(to binds: inout PostgresBinds) {
        binds.append(id.postgres)
        binds.append(tenantID.postgres)
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> Bool { try row.bool() }
}

struct ReadBatchJobs: PostgresStatement {
    static let sql = """
        SELECT job_id, batch_id, custom_id, operation, model, state, priority, attempt, http_status,
            CASE WHEN ended_at IS NOT NULL THEN error_code END, created_at, run_at, started_at, ended_at, expires_at, answer
        FROM jobs
        WHERE batch_id = $1 AND tenant_id = $2 AND job_id > $3
        ORDER BY job_id
        LIMIT $4
        """
    static let parameters: [PostgresType] = [.uuid, .uuid, .uuid, .int8]
    static let columns = jobColumns

    let batchID: BatchID
    let tenantID: TenantID
    let after: RequestID?
    let limit: Int

    func bind(to binds: inout PostgresBinds) {
        binds.append(batchID.postgres)
        binds.append(tenantID.postgres)
        binds.append((after ?? RequestID(high: 0, low: 0)).postgres)
        binds.append(Int64(limit))
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> JobRow? { try jobRow(&row) }
}

struct CountBatchJobs: PostgresStatement {
    struct Count: Sendable {
        let state: JobState?
        let jobs: Int64
    }

    static let sql = "SELECT state, count(*) FROM jobs WHERE batch_id = $1 AND tenant_id = $2 GROUP BY state"
    static let parameters: [PostgresType] = [.uuid, .uuid]
    static let columns: [PostgresType] = [.text, .int8]

    let batchID: BatchID
    let tenantID: TenantID

    func bind(to binds: inout PostgresBinds) {
        binds.append(batchID.postgres)
        binds.append(tenantID.postgres)
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> Count {
        Count(state: JobState(rawValue: try row.text()), jobs: try row.int64())
    }
}

struct CancelJobs: PostgresStatement {
    static let sql = "SELECT cancel_jobs($1, $2)"
    static let parameters: [PostgresType] = [.uuid, .uuidArray]
    static let columns: [PostgresType] = [.uuid]

    let tenantID: TenantID
    let ids: [RequestID]

    func bind(to binds: inout PostgresBinds) {
        binds.append(tenantID.postgres)
        binds.append(ids.map(\.postgres))
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> RequestID { RequestID(try row.uuid()) }
}

/// Erases what a dead job would need to run again; whether it was dead.
struct ForgetDeadJob: PostgresStatement {
    static let sql = "SELECT forget_dead_job($1, $2)"
    static let parameters: [PostgresType] = [.uuid, .uuid]
    static let columns: [PostgresType] = [.bool]

    let tenantID: TenantID
    let id: RequestID

    func bind(to binds: inout PostgresBinds) {
        binds.append(tenantID.postgres)
        binds.append(id.postgres)
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> Bool { try row.bool() }
}

struct CancelBatchJobs: PostgresStatement {
    static let sql = "SELECT cancel_batch_jobs($1, $2, $3)"
    static let parameters: [PostgresType] = [.uuid, .uuid, .int4]
    static let columns: [PostgresType] = [.uuid]

    let tenantID: TenantID
    let batchID: BatchID
    let limit: Int

    func bind(to binds: inout PostgresBinds) {
        binds.append(tenantID.postgres)
        binds.append(batchID.postgres)
        binds.append(Int32(clamping: limit))
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> RequestID { RequestID(try row.uuid()) }
}

/// Those of many jobs about which there is nothing left to wait for.
struct FindEndedJobs: PostgresStatement {
    static let sql = """
        SELECT w.job_id FROM unnest($1) AS w (job_id)
        LEFT JOIN jobs j ON j.job_id = w.job_id
        WHERE j.job_id IS NULL OR j.ended_at IS NOT NULL
        """
    static let parameters: [PostgresType] = [.uuidArray]
    static let columns: [PostgresType] = [.uuid]

    let ids: [RequestID]

    func bind(to binds: inout PostgresBinds) { binds.append(ids.map(\.postgres)) }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> RequestID { RequestID(try row.uuid()) }
}

/// Lines of batches have a bound of their own and take no place from what the tenant submits beside them.
struct CountQueuedJobs: PostgresStatement {
    // Ready jobs and waiting ones are in an index each.
    static let sql = """
        SELECT least($2,
            (SELECT count(*) FROM (
                SELECT FROM jobs WHERE tenant_id = $1 AND state = 'queued' AND is_ready AND batch_id IS NULL LIMIT $2) AS r)
            + (SELECT count(*) FROM (
                SELECT FROM jobs WHERE tenant_id = $1 AND state = 'queued' AND NOT is_ready AND batch_id IS NULL LIMIT $2) AS w))
        """
    static let parameters: [PostgresType] = [.uuid, .int8]
    static let columns: [PostgresType] = [.int8]

    let tenantID: TenantID
    let bound: Int

    func bind(to binds: inout PostgresBinds) {
        binds.append(tenantID.postgres)
        binds.append(Int64(bound))
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> Int64 { try row.int64() }
}
