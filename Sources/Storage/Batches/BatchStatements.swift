internal import Domain
internal import PostgresDriver

private let batchColumns: [PostgresType] = [
    .uuid, .text, .uuid, .uuid, .uuid, .text, .text, .text, .int4, .int4, .int4, .int8, .int8, .int8, .timestamptz,
    .timestamptz, .timestamptz, .timestamptz, .timestamptz, .timestamptz, .timestamptz, .timestamptz, .timestamptz,
]

private func batchRow(_ row: inout PostgresRow) throws(PostgresError) -> Batch {
    let id = BatchID(try row.uuid())
    let endpoint = try row.text()
    let input = FileID(try row.uuid())
    let output = try row.optionalUUID().map { FileID($0) }
    let error = try row.optionalUUID().map { FileID($0) }
    let metadata = try row.text()
    guard let state = Batch.State(rawValue: try row.text()) else { throw row.failure(6, "is no state of a batch") }
    let errors = try row.optionalText()
    let total = try row.int32()
    let completed = try row.int32()
    let failed = try row.int32()
    let inputTokens = try row.int64()
    let cachedTokens = try row.int64()
    let outputTokens = try row.int64()
    var times = Batch.Times(
        createdAt: Timestamp(try row.timestamp()), expiresAt: Timestamp(try row.timestamp()))
    times.inProgressAt = try row.optionalTimestamp().map { Timestamp($0) }
    times.finalizingAt = try row.optionalTimestamp().map { Timestamp($0) }
    times.completedAt = try row.optionalTimestamp().map { Timestamp($0) }
    times.failedAt = try row.optionalTimestamp().map { Timestamp($0) }
    times.expiredAt = try row.optionalTimestamp().map { Timestamp($0) }
    times.cancellingAt = try row.optionalTimestamp().map { Timestamp($0) }
    times.cancelledAt = try row.optionalTimestamp().map { Timestamp($0) }
    // The files of a batch are there when it has ended.
    return Batch(
        id: id, endpoint: endpoint, inputFileID: input, outputFileID: state.isEnded ? output : nil,
        errorFileID: state.isEnded ? error : nil, metadata: metadata, state: state, errors: errors, total: total,
        completed: completed, failed: failed, inputTokens: inputTokens, cachedTokens: cachedTokens,
        outputTokens: outputTokens, times: times)
}

struct LockBatchesOfTenant: PostgresStatement {
    static let sql = "SELECT pg_advisory_xact_lock(hashtextextended('weir.batches ' || $1::text, 0))"
    static let parameters: [PostgresType] = [.uuid]

    let tenantID: TenantID

    func bind(to binds: inout PostgresBinds) { binds.append(tenantID.postgres) }
}

struct CountOpenBatches: PostgresStatement {
    static let sql = """
        SELECT count(*) FROM batches WHERE tenant_id = $1 AND state IN ('validating', 'in_progress', 'finalizing', 'cancelling')
        """
    static let parameters: [PostgresType] = [.uuid]
    static let columns: [PostgresType] = [.int8]

    let tenantID: TenantID

    func bind(to binds: inout PostgresBinds) { binds.append(tenantID.postgres) }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> Int64 { try row.int64() }
}

/// Of a file that is there and complete, and only where the tenant has room.
struct InsertBatch: PostgresStatement {
    static let sql = """
        INSERT INTO batches (batch_id, tenant_id, user_id, key_id, endpoint, input_file_id, metadata, expires_at)
        SELECT $1, $2, $3, $4, $5, f.file_id, $7::text::json, clock_timestamp() + interval '24 hours'
        FROM files f
        WHERE f.file_id = $6 AND f.tenant_id = $2 AND f.is_complete AND f.purpose = 'batch' AND (SELECT count(*) FROM batches b
            WHERE b.tenant_id = $2 AND b.state IN ('validating', 'in_progress', 'finalizing', 'cancelling')) < $8
        RETURNING batch_id, endpoint, input_file_id, output_file_id, error_file_id, metadata::text, state, errors::text, total, completed,
            failed, input_tokens, cached_tokens, output_tokens, created_at, expires_at, in_progress_at, finalizing_at, completed_at, failed_at,
            expired_at, cancelling_at, cancelled_at
        """
    static let parameters: [PostgresType] = [.uuid, .uuid, .uuid, .uuid, .text, .uuid, .text, .int8]
    static let columns = batchColumns

    let id: BatchID
    let batch: NewBatch
    let limit: Int64

    func bind(to binds: inout PostgresBinds) {
        binds.append(id.postgres)
        binds.append(batch.tenantID.postgres)
        binds.append(batch.userID?.postgres)
        binds.append(batch.keyID.postgres)
        binds.append(batch.endpoint)
        binds.append(batch.inputFileID.postgres)
        binds.append(batch.metadata)
        binds.append(limit)
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> Batch { try batchRow(&row) }
}

struct ReadBatches: PostgresStatement {
    static let sql = """
        SELECT batch_id, endpoint, input_file_id, output_file_id, error_file_id, metadata::text, state, errors::text, total, completed,
            failed, input_tokens, cached_tokens, output_tokens, created_at, expires_at, in_progress_at, finalizing_at, completed_at, failed_at,
            expired_at, cancelling_at, cancelled_at
        FROM batches WHERE tenant_id = $1 AND batch_id < $2 AND ($3::uuid IS NULL OR batch_id = $3) ORDER BY batch_id DESC LIMIT $4
        """
    static let parameters: [PostgresType] = [.uuid, .uuid, .uuid, .int8]
    static let columns = batchColumns

    let tenantID: TenantID
    var after: BatchID?
    var only: BatchID?
    let limit: Int64

    func bind(to binds: inout PostgresBinds) {
        binds.append(tenantID.postgres)
        binds.append((after ?? BatchID(high: .max, low: .max)).postgres)
        binds.append(only?.postgres)
        binds.append(limit)
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> Batch { try batchRow(&row) }
}

/// Leaves the claim to who holds it: the holder sees the state at its next step and gives the batch back.
struct CancelBatch: PostgresStatement {
    static let sql = """
        UPDATE batches SET cancelling_at = clock_timestamp(), state = 'cancelling'
        WHERE batch_id = $1 AND tenant_id = $2 AND state IN ('validating', 'in_progress')
        RETURNING batch_id
        """
    static let parameters: [PostgresType] = [.uuid, .uuid]
    static let columns: [PostgresType] = [.uuid]

    let id: BatchID
    let tenantID: TenantID

    func bind(to binds: inout PostgresBinds) {
        binds.append(id.postgres)
        binds.append(tenantID.postgres)
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> BatchID { BatchID(try row.uuid()) }
}
