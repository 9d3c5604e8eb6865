internal import Domain
internal import PostgresDriver

/// What ``SettleClaimedBatch`` does, for a batch in which somebody is an attempt of a job: the job is completed in the statement that charges,
/// on the condition that the attempt still holds it.
///
/// The condition is on the job's own row, which every other end of an attempt changes too: whichever of the two comes second sees what the
/// first has written. A batch that is sent again finds its own completions and writes them once more.
///
/// The request's row was written at submission; it is changed here, and only for jobs.
struct SettleJobBatch: PostgresStatement {
    struct Refused: Sendable {
        let requestID: RequestID
        let result: SettlementResult
    }

    static let sql = """
        WITH batch AS MATERIALIZED (
            SELECT * FROM unnest(\(SettleText.parameters), $37, $38, $39, $40, $41)
                AS b (\(SettleText.columns),
                    idempotency_key, answer_fields, answer_body, job_attempt, job_answer)
        ), \(SettleText.fence), claimants AS MATERIALIZED (
            SELECT tenant_id, idempotency_key, request_id, http_status, answer_fields, answer_body FROM batch
            WHERE idempotency_key IS NOT NULL AND request_id NOT IN (SELECT request_id FROM refused)
        ), answered AS (
            UPDATE idempotency_keys k SET state = 'answered', http_status = c.http_status, answer_fields = c.answer_fields,
                answer_body = c.answer_body, answered_at = clock_timestamp(), expires_at = clock_timestamp() + interval '48 hours'
            FROM claimants c
            WHERE k.tenant_id = c.tenant_id AND k.idempotency_key = c.idempotency_key AND k.request_id = c.request_id
            RETURNING k.request_id
        ), disowned AS MATERIALIZED (
            SELECT request_id FROM claimants WHERE request_id NOT IN (SELECT request_id FROM answered)
        ), runners AS MATERIALIZED (
            SELECT b.request_id, b.job_attempt, b.job_answer, b.http_status, job_result_ttl(b.tenant_id, b.tier_version_id) AS ttl_seconds
            FROM batch b
            WHERE b.job_attempt IS NOT NULL AND b.request_id NOT IN (SELECT request_id FROM refused)
        ), finished AS (
            UPDATE jobs j SET state = 'completed', answer = r.job_answer, payload = NULL, http_status = r.http_status, error_code = NULL,
                error_detail = NULL, lease_owner = NULL, lease_expires_at = NULL, ended_at = clock_timestamp(),
                expires_at = clock_timestamp() + r.ttl_seconds * interval '1 second', ended_tx = pg_current_xact_id()
            FROM runners r
            WHERE j.job_id = r.request_id AND j.attempt = r.job_attempt AND j.state IN ('processing', 'completed')
            RETURNING j.job_id
        ), outrun AS MATERIALIZED (
            SELECT request_id FROM runners WHERE request_id NOT IN (SELECT job_id FROM finished)
        ), accepted AS MATERIALIZED (
            SELECT * FROM batch
            WHERE request_id NOT IN (SELECT request_id FROM refused) AND request_id NOT IN (SELECT request_id FROM disowned)
                AND request_id NOT IN (SELECT request_id FROM outrun)
        ), \(SettleText.writes), changed AS (
            UPDATE requests r SET gateway_id = $1, model = a.model, model_version = a.model_version, status = 'completed',
                http_status = a.http_status, error_code = NULL, completed_at = a.completed_at, processing_us = a.processing_us,
                estimated_tokens = a.estimated_tokens, input_tokens = a.input_tokens, output_tokens = a.output_tokens,
                tier_version_id = a.tier_version_id, cached = a.token_source = 'cache', prompt = a.prompt, prompt_sha256 = a.prompt_sha256,
                result_id = CASE WHEN a.result IS NOT NULL OR a.binary_result IS NOT NULL
                    THEN coalesce(a.content_id, a.request_id) END,
                result_sha256 = a.result_sha256, charged_requests = a.charged_requests, tx = pg_current_xact_id()
            FROM accepted a
            WHERE a.job_attempt IS NOT NULL AND r.request_id = a.request_id AND r.is_job
        )
        SELECT request_id, 'lease' FROM refused UNION ALL SELECT request_id, 'claim' FROM disowned
            UNION ALL SELECT request_id, 'job' FROM outrun
        """
    static let parameters: [PostgresType] = SettleClaimedBatch.parameters + [.int4Array, .byteaArray]
    static let columns: [PostgresType] = [.uuid, .text]

    let gatewayID: GatewayID
    let batch: ArraySlice<Settlement>

    func bind(to binds: inout PostgresBinds) {
        SettleClaimedBatch(gatewayID: gatewayID, batch: batch).bind(to: &binds)
        binds.appendArray(of: .int4, count: batch.count) { array in
            for settlement in batch { array.append(settlement.job?.attempt.number) }
        }
        binds.appendArray(of: .bytea, count: batch.count) { array in
            for settlement in batch { array.append(settlement.job?.answer) }
        }
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> Refused {
        let id = RequestID(try row.uuid())
        let result: SettlementResult =
            switch try row.text() {
            case "claim": .claimLost
            case "job": .jobLost
            default: .leaseLost
            }
        return Refused(requestID: id, result: result)
    }
}
