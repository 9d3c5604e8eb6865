internal import Domain
internal import PostgresDriver

/// Puts jobs into the queue: the job, its request's row, and the answer under the caller's idempotency key, in one statement over arrays.
///
/// A job whose claim is another attempt's by now is left out and named in the answer, and so is the job of a batch that another keeper has claimed
/// since or that does not run any more: the batch's row is locked against both until the jobs are there. The same batch can be sent again.
struct SubmitJobs: PostgresStatement {
    static let sql = """
        WITH batch AS MATERIALIZED (
            SELECT * FROM unnest($2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23)
                AS b (job_id, tenant_id, user_id, key_id, batch_id, custom_id, operation, model, path_model, path_version, payload,
                    head_fields, priority, run_at, lifetime_ms, estimated_tokens, created_at, idempotency_key, http_status, answer_fields,
                    answer_body, batch_claim)
        ), claimants AS MATERIALIZED (
            SELECT tenant_id, idempotency_key, job_id, http_status, answer_fields, answer_body FROM batch WHERE idempotency_key IS NOT NULL
        ), answered AS (
            UPDATE idempotency_keys k SET state = 'answered', http_status = c.http_status, answer_fields = c.answer_fields,
                answer_body = c.answer_body, answered_at = clock_timestamp(), expires_at = clock_timestamp() + interval '48 hours'
            FROM claimants c
            WHERE k.tenant_id = c.tenant_id AND k.idempotency_key = c.idempotency_key AND k.request_id = c.job_id
            RETURNING k.request_id
        ), disowned AS MATERIALIZED (
            SELECT job_id FROM claimants WHERE job_id NOT IN (SELECT request_id FROM answered)
        ), held AS MATERIALIZED (
            SELECT batch, holder FROM share_batches(ARRAY(SELECT DISTINCT batch_id FROM batch WHERE batch_id IS NOT NULL))
        ), accepted AS MATERIALIZED (
            SELECT *, greatest(coalesce(run_at, statement_timestamp()), statement_timestamp()) AS starts_at FROM batch
            WHERE job_id NOT IN (SELECT job_id FROM disowned)
                AND (batch_id IS NULL OR (batch_id, batch_claim) IN (SELECT batch, holder FROM held))
        ), queued AS (
            INSERT INTO jobs (job_id, tenant_id, user_id, key_id, batch_id, custom_id, operation, model, path_model, path_version, payload,
                head_fields, priority, run_at, deadline_at, is_ready, created_at)
            SELECT job_id, tenant_id, user_id, key_id, batch_id, custom_id, operation, model, path_model, path_version, payload,
                head_fields, priority, starts_at, starts_at + lifetime_ms * interval '1 millisecond', starts_at <= statement_timestamp(),
                created_at
            FROM accepted
            ON CONFLICT (job_id) DO NOTHING
        ), recorded AS (
            INSERT INTO requests (request_id, tenant_id, user_id, key_id, gateway_id, model, status, created_at, estimated_tokens, operation, is_job)
            SELECT job_id, tenant_id, user_id, key_id, $1, model, 'queued', created_at, estimated_tokens, operation, true FROM accepted
            ON CONFLICT (request_id) DO NOTHING
        )
        SELECT job_id FROM batch WHERE job_id NOT IN (SELECT job_id FROM accepted)
        """
    static let parameters: [PostgresType] = [
        .uuid, .uuidArray, .uuidArray, .uuidArray, .uuidArray, .uuidArray, .textArray, .textArray, .textArray,
        .textArray, .textArray, .byteaArray, .textArray, .int2Array, .timestamptzArray, .int8Array, .int8Array,
        .timestamptzArray, .textArray, .int2Array, .textArray, .byteaArray, .int4Array,
    ]
    static let columns: [PostgresType] = [.uuid]

    let gatewayID: GatewayID
    let jobs: [JobSubmission]

    func bind(to binds: inout PostgresBinds) {
        func column(_ type: PostgresType, _ write: (inout PostgresArrayBuilder, JobSubmission) -> Void) {
            binds.appendArray(of: type, count: jobs.count) { array in for job in jobs { write(&array, job) } }
        }
        binds.append(gatewayID.postgres)
        column(.uuid) { $0.append($1.jobID.postgres) }
        column(.uuid) { $0.append($1.tenantID.postgres) }
        column(.uuid) { $0.append($1.userID?.postgres) }
        column(.uuid) { $0.append($1.keyID.postgres) }
        column(.uuid) { $0.append($1.batchID?.postgres) }
        column(.text) { $0.append($1.customID) }
        column(.text) { $0.append($1.operation) }
        column(.text) { $0.append($1.model) }
        column(.text) { $0.append($1.pathModel) }
        column(.text) { $0.append($1.pathVersion) }
        column(.bytea) { $0.append($1.payload) }
        column(.text) { $0.append($1.headFields) }
        column(.int2) { $0.append($1.schedule.priority) }
        column(.timestamptz) { $0.append($1.schedule.runAt?.postgres) }
        column(.int8) { $0.append($1.lifetimeMilliseconds) }
        column(.int8) { $0.append($1.estimatedTokens) }
        column(.timestamptz) { $0.append($1.createdAt.postgres) }
        column(.text) { $0.append($1.answer?.claim.key.text) }
        // The only answer that a submission is given.
        column(.int2) { $0.append(Int16($1.answer == nil ? 0 : 202)) }
        column(.text) { array, job in
            if let fields = job.answer?.fields { array.appendText(fields) } else { array.appendNull() }
        }
        column(.bytea) { $0.append($1.answer?.body) }
        column(.int4) { $0.append($1.batchClaim) }
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> RequestID { RequestID(try row.uuid()) }
}

/// Tells dispatchers that there is something to do. A hint, sent seldom, and in a transaction of its own: it takes a lock of the whole
/// database at its commit.
struct NotifyJobs: PostgresStatement {
    static let sql = "SELECT pg_notify('weir_jobs', '')::text"
    static let columns: [PostgresType] = [.text]

    static func row(from row: inout PostgresRow) throws(PostgresError) -> String { try row.text() }
}
