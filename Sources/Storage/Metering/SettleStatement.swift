internal import Domain
internal import PostgresDriver

/// Held by every settlement until its commit; whoever closes a dead gateway's lease takes it alone (see `reap_lease`).
struct HoldGatewayLock: PostgresStatement {
    static let sql = "SELECT pg_advisory_xact_lock_shared($1)"
    static let parameters: [PostgresType] = [.int8]

    let gatewayID: GatewayID

    func bind(to binds: inout PostgresBinds) { binds.append(Int64(bitPattern: gatewayID.low)) }
}

/// Taken before a batch is sent again whose fate is unknown: waits until its first sending has ended, in whatever way.
///
/// Without that, the second sending could find the lease expired and no entry, and tell the caller that nothing was written, while the first
/// one is still on its way to its commit.
struct HoldGatewayLockAlone: PostgresStatement {
    static let sql = "SELECT pg_advisory_xact_lock($1)"
    static let parameters: [PostgresType] = [.int8]

    let gatewayID: GatewayID

    func bind(to binds: inout PostgresBinds) { binds.append(Int64(bitPattern: gatewayID.low)) }
}

/// The parts of the statement that settles, which has a second form for batches with idempotency keys in them (``SettleClaimedBatch``).
///
/// All are constants of this file, put together once: two copies of the same statement would drift apart. No value ever goes in here; values
/// are parameters.
enum SettleText {
    static let parameters =
        "$2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25, $26, $27, $28, $29, "
        + "$30, $31, $32, $33, $34, $35, $36"
    static let columns = """
        request_id, tenant_id, user_id, key_id, model, model_version, is_completed, http_status, error_code, created_at,
                    completed_at, processing_us, estimated_tokens, input_tokens, cached_input_tokens, output_tokens, token_source,
                    tier_version_id, lease_id, prompt, prompt_sha256, result, served_input_tokens, served_output_tokens, operation, stream_end,
                    delivered_tokens, generated_tokens,
                    content_id, result_sha256, result_generation, binary_result, result_type, tags, charged_requests
        """

    /// From `batch`: the rows whose lease is lost, as `refused`.
    static let fence = """
        open_leases AS MATERIALIZED (
            SELECT lease_id FROM quota_leases
            WHERE lease_id = ANY ($20) AND state = 'open' AND expires_at > clock_timestamp()
        ), suspects AS MATERIALIZED (
            SELECT request_id FROM batch
            WHERE (is_completed OR charged_requests > 0) AND lease_id IS NOT NULL AND lease_id NOT IN (SELECT lease_id FROM open_leases)
        ), refused AS MATERIALIZED (
            SELECT request_id FROM suspects s WHERE NOT EXISTS (SELECT FROM ledger e WHERE e.entry_id = s.request_id)
        )
        """

    /// From `accepted`: results, request rows and ledger entries.
    ///
    /// What was charged of a request that is not what its outcome says stands in its row too, so that the books can be compared (`requests`).
    ///
    /// An entry belongs to the period in which its request came, and the database's clock decides which that is. A gateway's word for the
    /// instant is taken where it agrees with how long the request took; one that a wrong clock made is replaced by the instant of writing.
    ///
    /// A content is written once. One that was touched within ten minutes stays for longer than the request needs it (see
    /// `remove_expired_results`), so that neither a write nor a lock is needed for it; an older one is touched, in the order of ids, so that two
    /// batches that touch the same ones do not wait for each other in a circle. It is looked up by a subquery rather than joined, because a plan that
    /// was made for an empty table would read a full one from its beginning to its end.
    static let writes = """
        kept AS (
            INSERT INTO results AS k (result_id, tenant_id, content, token_count, sha256, generation)
            SELECT DISTINCT ON (1) coalesce(content_id, request_id), tenant_id, result, output_tokens, result_sha256,
                coalesce(result_generation, 0)
            FROM accepted a WHERE result IS NOT NULL AND coalesce(
                (SELECT f.touched_at FROM results f WHERE f.result_id = a.content_id), '-infinity')
                < statement_timestamp() - interval '10 minutes'
            ORDER BY 1
            ON CONFLICT (result_id) DO UPDATE SET touched_at = statement_timestamp() WHERE k.touched_at < statement_timestamp()
        ), kept_binary AS (
            INSERT INTO binary_results AS k (result_id, tenant_id, content, mime_type, sha256, generation)
            SELECT DISTINCT ON (1) coalesce(content_id, request_id), tenant_id, binary_result, result_type, result_sha256,
                coalesce(result_generation, 0)
            FROM accepted a WHERE binary_result IS NOT NULL AND coalesce(
                (SELECT f.touched_at FROM binary_results f WHERE f.result_id = a.content_id), '-infinity')
                < statement_timestamp() - interval '10 minutes'
            ORDER BY 1
            ON CONFLICT (result_id) DO UPDATE SET touched_at = statement_timestamp() WHERE k.touched_at < statement_timestamp()
        ), recorded AS (
            INSERT INTO requests (request_id, tenant_id, user_id, key_id, gateway_id, model, model_version, status, http_status,
                error_code, created_at, completed_at, processing_us, estimated_tokens, input_tokens, output_tokens, tier_version_id,
                prompt, prompt_sha256, result_id, cached, operation, stream_end, delivered_tokens, generated_tokens,
                result_sha256, charged_requests)
            SELECT request_id, tenant_id, user_id, key_id, $1, model, model_version,
                CASE WHEN is_completed THEN 'completed' ELSE 'failed' END, http_status, error_code, created_at, completed_at,
                processing_us, estimated_tokens, input_tokens, output_tokens, tier_version_id, prompt, prompt_sha256,
                CASE WHEN result IS NOT NULL OR binary_result IS NOT NULL THEN coalesce(content_id, request_id) END,
                is_completed AND token_source = 'cache',
                coalesce(operation, 'predict'), stream_end, delivered_tokens, generated_tokens, result_sha256,
                charged_requests
            FROM accepted
            ON CONFLICT (request_id) DO NOTHING
        ), posted AS (
            INSERT INTO ledger (entry_id, tenant_id, user_id, key_id, request_id, kind, model, model_version, tier_version_id, lease_id,
                requests, input_tokens, cached_input_tokens, output_tokens, token_source, occurred_at, served_input_tokens,
                served_output_tokens, tags)
            SELECT request_id, tenant_id, user_id, key_id, request_id, 'usage', model, model_version, tier_version_id, lease_id,
                coalesce(charged_requests, 1), input_tokens, cached_input_tokens, output_tokens, token_source,
                CASE WHEN created_at BETWEEN
                        statement_timestamp() - processing_us * interval '1 microsecond' - interval '2 minutes'
                        AND statement_timestamp() + interval '2 seconds'
                    THEN created_at ELSE statement_timestamp() END,
                coalesce(served_input_tokens, 0), coalesce(served_output_tokens, 0),
                string_to_array(tags, ',')
            FROM accepted WHERE is_completed OR charged_requests > 0
            ON CONFLICT (entry_id) DO NOTHING
        )
        """
}

/// Writes a batch of settlements: request rows, ledger entries and kept results, in one statement over arrays.
///
/// Billed rows whose lease is closed or past its end by the database's clock are left out and named in the answer; a row that is in the
/// ledger already, because its first commit's answer was lost, is not. `ON CONFLICT DO NOTHING` lets the same batch be sent again.
struct SettleBatch: PostgresStatement {
    static let sql = """
        WITH batch AS MATERIALIZED (
            SELECT * FROM unnest(\(SettleText.parameters))
                AS b (\(SettleText.columns))
        ), \(SettleText.fence), accepted AS MATERIALIZED (
            SELECT * FROM batch WHERE request_id NOT IN (SELECT request_id FROM refused)
        ), \(SettleText.writes)
        SELECT request_id FROM refused
        """
    static let parameters: [PostgresType] = [
        .uuid, .uuidArray, .uuidArray, .uuidArray, .uuidArray, .textArray, .textArray, .boolArray, .int2Array,
        .textArray,
        .timestamptzArray, .timestamptzArray, .int8Array, .int8Array, .int8Array, .int8Array, .int8Array, .textArray,
        .uuidArray,
        .uuidArray, .textArray, .byteaArray, .textArray, .int8Array, .int8Array,
        .textArray, .textArray, .int8Array, .int8Array,
        .uuidArray, .byteaArray, .int4Array, .byteaArray, .textArray, .textArray, .int2Array,
    ]
    static let columns: [PostgresType] = [.uuid]

    let gatewayID: GatewayID
    let batch: ArraySlice<Settlement>

    func bind(to binds: inout PostgresBinds) {
        bindSettleBatch(batch, gatewayID: gatewayID, to: &binds)
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> RequestID { RequestID(try row.uuid()) }
}

/// Column by column, straight into the buffer of the binds.
func bindSettleBatch(_ batch: ArraySlice<Settlement>, gatewayID: GatewayID, to binds: inout PostgresBinds) {
    func column(
        _ type: PostgresType, _ binds: inout PostgresBinds, _ write: (inout PostgresArrayBuilder, Settlement) -> Void
    ) {
        binds.appendArray(of: type, count: batch.count) { array in
            for settlement in batch { write(&array, settlement) }
        }
    }
    binds.append(gatewayID.postgres)
    column(.uuid, &binds) { $0.append($1.requestID.postgres) }
    column(.uuid, &binds) { $0.append($1.tenantID.postgres) }
    column(.uuid, &binds) { $0.append($1.userID?.postgres) }
    column(.uuid, &binds) { $0.append($1.keyID.postgres) }
    column(.text, &binds) { $0.append($1.model) }
    column(.text, &binds) { $0.append($1.modelVersion) }
    column(.bool, &binds) { $0.append($1.outcome == .completed) }
    column(.int2, &binds) { $0.append($1.httpStatus) }
    column(.text, &binds) { $0.append($1.errorCode) }
    column(.timestamptz, &binds) { $0.append($1.createdAt.postgres) }
    column(.timestamptz, &binds) { $0.append($1.completedAt.postgres) }
    column(.int8, &binds) { $0.append($1.processingMicroseconds) }
    column(.int8, &binds) { $0.append($1.estimatedTokens) }
    column(.int8, &binds) { $0.append($1.usage.inputTokens) }
    column(.int8, &binds) { $0.append($1.usage.cachedInputTokens) }
    column(.int8, &binds) { $0.append($1.usage.outputTokens) }
    column(.text, &binds) { $0.append($1.usage.source.rawValue) }
    column(.uuid, &binds) { $0.append($1.tierVersionID.postgres) }
    column(.uuid, &binds) { $0.append($1.leaseID?.postgres) }
    column(.text, &binds) { array, settlement in
        if let prompt = settlement.prompt { array.appendText(prompt) } else { array.appendNull() }
    }
    column(.bytea, &binds) { $0.append($1.promptDigest) }
    column(.text, &binds) { array, settlement in
        if let result = settlement.result, settlement.resultMediaType == nil {
            array.appendText(result)
        } else {
            array.appendNull()
        }
    }
    // Where nobody was answered from the cache they are empty, and `unnest` fills them with NULL.
    let served = batch.contains { $0.servedUsage != nil } ? batch : []
    binds.appendArray(of: .int8, count: served.count) { array in
        for settlement in served { array.append(settlement.servedUsage?.inputTokens) }
    }
    binds.appendArray(of: .int8, count: served.count) { array in
        for settlement in served { array.append(settlement.servedUsage?.outputTokens) }
    }
    let named = batch.contains { $0.operation != Settlement.usualOperation } ? batch : []
    binds.appendArray(of: .text, count: named.count) { array in
        for settlement in named { array.append(settlement.operation) }
    }
    let streams = batch.contains { $0.stream != nil } ? batch : []
    binds.appendArray(of: .text, count: streams.count) { array in
        for settlement in streams { array.append(settlement.stream?.end.rawValue) }
    }
    for count in [\StreamRecord.deliveredTokens, \StreamRecord.generatedTokens] {
        binds.appendArray(of: .int8, count: streams.count) { array in
            for settlement in streams { array.append(settlement.stream?[keyPath: count]) }
        }
    }
    bindKeptResults(batch, to: &binds)
    let tagged = batch.contains { $0.tags != nil } ? batch : []
    binds.appendArray(of: .text, count: tagged.count) { array in
        for settlement in tagged { array.append(settlement.tags?.text) }
    }
    let unusual = batch.contains { $0.unusualRequests != nil } ? batch : []
    binds.appendArray(of: .int2, count: unusual.count) { array in
        for settlement in unusual {
            if let requests = settlement.unusualRequests {
                array.append(Int16(clamping: requests))
            } else {
                array.appendNull()
            }
        }
    }
}

/// Where nothing is kept of any result these are empty, too.
private func bindKeptResults(_ batch: ArraySlice<Settlement>, to binds: inout PostgresBinds) {
    let kept = batch.contains { $0.resultDigest != nil } ? batch : []
    let binary = kept.contains { $0.resultMediaType != nil } ? kept : []
    binds.appendArray(of: .uuid, count: kept.count) { array in
        for settlement in kept { array.append(settlement.resultID?.postgres) }
    }
    binds.appendArray(of: .bytea, count: kept.count) { array in
        for settlement in kept { array.append(settlement.resultDigest) }
    }
    binds.appendArray(of: .int4, count: kept.count) { array in
        for settlement in kept { array.append(settlement.retentionGeneration) }
    }
    binds.appendArray(of: .bytea, count: binary.count) { array in
        for settlement in binary {
            array.append(settlement.resultMediaType == nil ? nil : settlement.result)
        }
    }
    binds.appendArray(of: .text, count: binary.count) { array in
        for settlement in binary { array.append(settlement.resultMediaType) }
    }
}

#if WEIR_FAULTS
    /// The defect that a test plants to prove that it would notice: a batch that cannot be sent twice.
    struct SettleBatchOnce: PostgresStatement {
        static let sql = SettleBatch.sql.split(separator: "\n").filter { !$0.contains("ON CONFLICT") }.joined(
            separator: "\n")
        static let parameters = SettleBatch.parameters
        static let columns = SettleBatch.columns

        let inner: SettleBatch

        func bind(to binds: inout PostgresBinds) { inner.bind(to: &binds) }

        static func row(from row: inout PostgresRow) throws(PostgresError) -> RequestID { RequestID(try row.uuid()) }
    }
#endif
