internal import Domain
internal import PostgresDriver

struct ClaimJobs: PostgresStatement {
    struct Claimed: Sendable {
        /// `nil` in the one row of a claim that got nothing.
        let job: ClaimedJob?
        let goOnAfter: TenantID
    }

    static let sql = """
        SELECT go_on_after, job, tenant, key, public_id, batch, operation, path_model, path_version, payload, head_fields, attempt,
            attempt_limit, submitted_at
        FROM claim_ready_jobs($1, $2, $3, $4, $5)
        """
    static let parameters: [PostgresType] = [.uuid, .int4, .int8, .uuid, .int4]
    static let columns: [PostgresType] = [
        .uuid, .uuid, .uuid, .uuid, .text, .uuid, .text, .text, .text, .bytea, .text, .int4, .int4, .timestamptz,
    ]

    /// How many tenants one call looks at; the next call goes on behind them.
    static let tenantLimit: Int32 = 64

    let gatewayID: GatewayID
    let limit: Int
    let leaseMilliseconds: Int64
    let after: TenantID

    func bind(to binds: inout PostgresBinds) {
        binds.append(gatewayID.postgres)
        binds.append(Int32(clamping: limit))
        binds.append(leaseMilliseconds)
        binds.append(after.postgres)
        binds.append(Self.tenantLimit)
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> Claimed {
        let goOnAfter = TenantID(try row.uuid())
        guard let id = try row.optionalUUID().map({ RequestID($0) }) else {
            return Claimed(job: nil, goOnAfter: goOnAfter)
        }
        let tenantID = TenantID(try row.uuid())
        let keyID = KeyID(try row.uuid())
        let publicID = try row.optionalText().flatMap { APIKey.PublicID($0) }
        let batchID = try row.optionalUUID().map { BatchID($0) }
        let operation = try row.text()
        let pathModel = try row.optionalText()
        let pathVersion = try row.optionalText()
        let payload = try row.bytes()
        let headFields = try row.text()
        let number = try row.int32()
        let limit = try row.int32()
        let submittedAt = Timestamp(try row.timestamp())
        let job = ClaimedJob(
            attempt: JobAttempt(jobID: id, number: number), attemptLimit: limit, tenantID: tenantID, keyID: keyID,
            publicID: publicID, batchID: batchID, operation: operation, pathModel: pathModel, pathVersion: pathVersion,
            payload: payload, headFields: headFields, submittedAt: submittedAt)
        return Claimed(job: job, goOnAfter: goOnAfter)
    }
}

/// A job that is being completed at this moment is passed over, so nobody can wait in a circle; it counts as held.
struct RenewJobs: PostgresStatement {
    static let sql = """
        WITH held AS MATERIALIZED (
            SELECT j.job_id, j.attempt FROM unnest($1, $2) AS a (job_id, attempt)
            JOIN jobs j ON j.job_id = a.job_id AND j.attempt = a.attempt
            WHERE j.state IN ('processing', 'completed')
        ), renewed AS (
            UPDATE jobs j SET lease_expires_at = clock_timestamp() + $3 * interval '1 millisecond'
            FROM (
                SELECT o.job_id FROM held h JOIN jobs o ON o.job_id = h.job_id AND o.attempt = h.attempt
                WHERE o.state = 'processing' FOR UPDATE OF o SKIP LOCKED
            ) own
            WHERE j.job_id = own.job_id
        )
        SELECT job_id, attempt FROM held
        """
    static let parameters: [PostgresType] = [.uuidArray, .int4Array, .int8]
    static let columns: [PostgresType] = [.uuid, .int4]

    let attempts: [JobAttempt]
    let leaseMilliseconds: Int64

    func bind(to binds: inout PostgresBinds) {
        bindAttempts(attempts, to: &binds)
        binds.append(leaseMilliseconds)
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> JobAttempt { try attemptRow(&row) }
}

/// Ends attempts that were not completed. An attempt that no longer holds its job changes nothing.
struct ReturnJobs: PostgresStatement {
    static let sql = """
        WITH batch AS MATERIALIZED (
            SELECT * FROM unnest($1, $2, $3, $4, $5, $6, $7)
                AS b (job_id, attempt, disposition, delay_ms, error_code, http_status, error_detail)
        ), subjects AS MATERIALIZED (
            SELECT b.* FROM batch b
            JOIN jobs j ON j.job_id = b.job_id AND j.attempt = b.attempt
            WHERE j.state = 'processing'
            ORDER BY j.job_id FOR UPDATE OF j
        ), again AS (
            UPDATE jobs j SET state = 'queued', is_ready = s.delay_ms = 0,
                run_at = clock_timestamp() + s.delay_ms * interval '1 millisecond',
                attempt_limit = j.attempt_limit + (s.disposition = 'give_back')::integer, lease_owner = NULL, lease_expires_at = NULL,
                error_code = s.error_code, error_detail = s.error_detail
            FROM subjects s WHERE j.job_id = s.job_id AND s.disposition IN ('retry', 'give_back')
            RETURNING j.job_id
        ), failed AS (
            UPDATE jobs j SET state = 'failed', payload = NULL, lease_owner = NULL, lease_expires_at = NULL, error_code = s.error_code,
                error_detail = s.error_detail, http_status = s.http_status, ended_at = clock_timestamp(),
                expires_at = clock_timestamp() + interval '24 hours', ended_tx = pg_current_xact_id()
            FROM subjects s WHERE j.job_id = s.job_id AND s.disposition = 'fail'
            RETURNING j.job_id
        ), buried AS (
            UPDATE jobs j SET state = 'failed', is_dead = true, lease_owner = NULL, lease_expires_at = NULL, error_code = s.error_code,
                error_detail = s.error_detail, http_status = s.http_status, ended_at = clock_timestamp(),
                expires_at = clock_timestamp() + interval '7 days', ended_tx = pg_current_xact_id()
            FROM subjects s WHERE j.job_id = s.job_id AND s.disposition = 'bury'
            RETURNING j.job_id
        ), requeued AS (
            UPDATE requests r SET status = 'queued' FROM again a WHERE r.request_id = a.job_id AND r.is_job
        ), recorded AS (
            UPDATE requests r SET status = 'failed', http_status = s.http_status, error_code = s.error_code,
                completed_at = clock_timestamp(), tx = pg_current_xact_id()
            FROM subjects s WHERE r.request_id = s.job_id AND s.disposition IN ('fail', 'bury') AND r.is_job
        )
        SELECT job_id, attempt FROM subjects
        """
    static let parameters: [PostgresType] = [
        .uuidArray, .int4Array, .textArray, .int8Array, .textArray, .int2Array, .textArray,
    ]
    static let columns: [PostgresType] = [.uuid, .int4]

    let returns: [JobReturn]

    func bind(to binds: inout PostgresBinds) {
        bindAttempts(returns.map(\.attempt), to: &binds)
        binds.append(returns.map(\.disposition.text))
        binds.append(returns.map(\.disposition.pauseMilliseconds))
        binds.append(returns.map(\.code.rawValue))
        binds.append(returns.map { Int16($0.code.httpStatus) })
        binds.append(returns.map { String($0.detail.prefix(1_000)) })
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> JobAttempt { try attemptRow(&row) }
}

struct RecoverJobs: PostgresStatement {
    static let sql = "SELECT returned, dead FROM recover_jobs($1, $2, $3)"
    static let parameters: [PostgresType] = [.int4, .int8, .int8]
    static let columns: [PostgresType] = [.int4, .int4]

    let limit: Int
    let backoff: JobBackoff

    func bind(to binds: inout PostgresBinds) {
        binds.append(Int32(clamping: limit))
        binds.append(backoff.baseMilliseconds)
        binds.append(backoff.limitMilliseconds)
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> JobRecovery {
        JobRecovery(returned: Int(try row.int32()), dead: Int(try row.int32()))
    }
}

struct RemoveExpiredJobs: PostgresStatement {
    static let sql = "SELECT remove_expired_jobs($1)"
    static let parameters: [PostgresType] = [.int4]
    static let columns: [PostgresType] = [.int4]

    let limit: Int32

    func bind(to binds: inout PostgresBinds) { binds.append(limit) }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> Int32 { try row.int32() }
}

private func bindAttempts(_ attempts: [JobAttempt], to binds: inout PostgresBinds) {
    binds.append(attempts.map(\.jobID.postgres))
    binds.append(attempts.map(\.number))
}

private func attemptRow(_ row: inout PostgresRow) throws(PostgresError) -> JobAttempt {
    JobAttempt(jobID: RequestID(try row.uuid()), number: try row.int32())
}

extension JobDisposition {
    fileprivate var text: String {
        switch self {
        case .retry: "retry"
        case .giveBack: "give_back"
        case .fail: "fail"
        case .bury: "bury"
        }
    }

    fileprivate var pauseMilliseconds: Int64 {
        switch self {
        case .retry(let pause), .giveBack(let pause): max(0, pause)
        case .fail, .bury: 0
        }
    }
}
