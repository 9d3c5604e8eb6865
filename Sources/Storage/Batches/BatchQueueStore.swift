public import Domain
public import PostgresDriver

/// Batches that are worked on, in PostgreSQL: functions of the schema, one call each.
public struct BatchQueueStore: BatchQueue {
    private let pool: PostgresPool
    private let jobs: PostgresPool

    /// - Parameters:
    ///   - pool: connections of the role `weir_writer`.
    ///   - jobs: connections of the role `weir_jobs`.
    public init(pool: PostgresPool, jobs: PostgresPool) {
        self.pool = pool
        self.jobs = jobs
    }

    public func claim(leaseMilliseconds: Int64) async throws(StoreUnavailable) -> ClaimedBatch? {
        try await first(ClaimBatch(leaseMilliseconds: leaseMilliseconds), of: pool)
    }

    public func hold(_ batch: ClaimedBatch, leaseMilliseconds: Int64) async throws(StoreUnavailable) -> Batch.State? {
        try await first(HoldBatch(batch: batch, leaseMilliseconds: leaseMilliseconds), of: pool)
            .flatMap { $0 }.flatMap { Batch.State(rawValue: $0) }
    }

    public func piece(_ position: Int32, of batch: BatchID) async throws(StoreUnavailable) -> [UInt8]? {
        try await first(ReadBatchInput(batch: batch, position: position), of: pool).flatMap { $0 }
    }

    public func finishValidation(_ batch: ClaimedBatch, total: Int32, errors: String?) async throws(StoreUnavailable)
        -> Bool
    {
        try await first(FinishBatchValidation(batch: batch, total: total, errors: errors), of: pool) ?? false
    }

    public func noteReading(
        _ batch: ClaimedBatch, lines: Int32, place: InputPlace, skipped: [SkippedLine]
    ) async throws(StoreUnavailable) -> Bool {
        try await first(NoteBatchReading(batch: batch, lines: lines, place: place, skipped: skipped), of: pool) ?? false
    }

    public func collect(_ batch: ClaimedBatch, limit: Int) async throws(StoreUnavailable) -> Int? {
        guard let count = try await first(CollectBatch(batch: batch, limit: Int32(clamping: limit)), of: pool),
            count >= 0
        else { return nil }
        return Int(count)
    }

    public func removeExpiredFiles(limit: Int) async throws(StoreUnavailable) -> Int {
        Int(try await first(RemoveExpiredFiles(limit: Int32(clamping: limit)), of: jobs) ?? 0)
    }

    private func first<S: PostgresStatement>(_ statement: S, of pool: PostgresPool) async throws(StoreUnavailable) -> S
        .Row?
    {
        do throws(PostgresError) {
            return try await pool.execute(statement).first
        } catch {
            throw StoreUnavailable(error)
        }
    }
}

struct ClaimBatch: PostgresStatement {
    static let sql = """
        SELECT batch_id, tenant_id, user_id, key_id, endpoint, state, total, read_lines, read_position, read_offset, skipped, collected,
            created_at, expires_at, claim
        FROM claim_batch($1)
        """
    static let parameters: [PostgresType] = [.int8]
    static let columns: [PostgresType] = [
        .uuid, .uuid, .uuid, .uuid, .text, .text, .int4, .int4, .int4, .int4, .int4, .int4, .timestamptz, .timestamptz,
        .int4,
    ]

    let leaseMilliseconds: Int64

    func bind(to binds: inout PostgresBinds) { binds.append(leaseMilliseconds) }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> ClaimedBatch {
        let id = BatchID(try row.uuid())
        let tenantID = TenantID(try row.uuid())
        let userID = try row.optionalUUID().map { UserID($0) }
        let keyID = KeyID(try row.uuid())
        let endpoint = try row.text()
        guard let state = Batch.State(rawValue: try row.text()) else { throw row.failure(5, "is no state of a batch") }
        return ClaimedBatch(
            id: id, tenantID: tenantID, userID: userID, keyID: keyID, endpoint: endpoint, state: state,
            total: try row.int32(), readLines: try row.int32(),
            place: InputPlace(position: try row.int32(), offset: try row.int32()), skipped: try row.int32(),
            collected: try row.int32(), createdAt: Timestamp(try row.timestamp()),
            expiresAt: Timestamp(try row.timestamp()), claim: try row.int32())
    }
}

struct HoldBatch: PostgresStatement {
    static let sql = "SELECT hold_batch($1, $2, $3)"
    static let parameters: [PostgresType] = [.uuid, .int4, .int8]
    static let columns: [PostgresType] = [.text]

    let batch: ClaimedBatch
    let leaseMilliseconds: Int64

    func bind(to binds: inout PostgresBinds) {
        binds.append(batch.id.postgres)
        binds.append(batch.claim)
        binds.append(leaseMilliseconds)
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> String? { try row.optionalText() }
}

struct ReadBatchInput: PostgresStatement {
    static let sql = "SELECT read_batch_input($1, $2)"
    static let parameters: [PostgresType] = [.uuid, .int4]
    static let columns: [PostgresType] = [.bytea]

    let batch: BatchID
    let position: Int32

    func bind(to binds: inout PostgresBinds) {
        binds.append(batch.postgres)
        binds.append(position)
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> [UInt8]? { try row.optionalBytes() }
}

struct FinishBatchValidation: PostgresStatement {
    static let sql = "SELECT finish_batch_validation($1, $2, $3, $4)"
    static let parameters: [PostgresType] = [.uuid, .int4, .int4, .text]
    static let columns: [PostgresType] = [.bool]

    let batch: ClaimedBatch
    let total: Int32
    let errors: String?

    func bind(to binds: inout PostgresBinds) {
        binds.append(batch.id.postgres)
        binds.append(batch.claim)
        binds.append(total)
        binds.append(errors)
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> Bool { try row.bool() }
}

struct NoteBatchReading: PostgresStatement {
    static let sql = "SELECT note_batch_reading($1, $2, $3, $4, $5, $6, $7)"
    static let parameters: [PostgresType] = [.uuid, .int4, .int4, .int4, .int4, .uuidArray, .textArray]
    static let columns: [PostgresType] = [.bool]

    let batch: ClaimedBatch
    let lines: Int32
    let place: InputPlace
    let skipped: [SkippedLine]

    func bind(to binds: inout PostgresBinds) {
        binds.append(batch.id.postgres)
        binds.append(batch.claim)
        binds.append(lines)
        binds.append(place.position)
        binds.append(place.offset)
        binds.appendArray(of: .uuid, count: skipped.count) { array in
            for line in skipped { array.append(line.jobID.postgres) }
        }
        binds.appendArray(of: .text, count: skipped.count) { array in for line in skipped { array.append(line.text) } }
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> Bool { try row.bool() }
}

struct CollectBatch: PostgresStatement {
    static let sql = "SELECT collect_batch($1, $2, $3)"
    static let parameters: [PostgresType] = [.uuid, .int4, .int4]
    static let columns: [PostgresType] = [.int4]

    let batch: ClaimedBatch
    let limit: Int32

    func bind(to binds: inout PostgresBinds) {
        binds.append(batch.id.postgres)
        binds.append(batch.claim)
        binds.append(limit)
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> Int32 { try row.int32() }
}

struct RemoveExpiredFiles: PostgresStatement {
    static let sql = "SELECT remove_expired_files($1)"
    static let parameters: [PostgresType] = [.int4]
    static let columns: [PostgresType] = [.int4]

    let limit: Int32

    func bind(to binds: inout PostgresBinds) { binds.append(limit) }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> Int32 { try row.int32() }
}
