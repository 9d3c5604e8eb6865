public import Domain
public import PostgresDriver

/// Refusals in PostgreSQL, for explanations.
public struct RefusalTable: RefusalStore {
    private let pool: PostgresPool

    /// - Parameter pool: connections of the role `weir_writer`.
    public init(pool: PostgresPool) { self.pool = pool }

    public func keep(_ refusals: [RefusalRecord]) async throws(StoreUnavailable) {
        do throws(PostgresError) {
            _ = try await pool.execute(InsertRefusals(refusals: refusals))
        } catch {
            throw StoreUnavailable(error)
        }
    }
}

struct InsertRefusals: PostgresStatement {
    static let sql = """
        INSERT INTO refusals (request_id, tenant_id, key_id, model, code, refused_at, policy, unit, allowed, settled, held, remaining,
            requested, retry_after_ms, period_start, period_end)
        SELECT * FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)
        ON CONFLICT (request_id) DO NOTHING
        """
    static let parameters: [PostgresType] = [
        .uuidArray, .uuidArray, .uuidArray, .textArray, .textArray, .timestamptzArray, .textArray, .textArray,
        .int8Array, .int8Array, .int8Array, .int8Array, .int8Array, .int8Array, .timestamptzArray, .timestamptzArray,
    ]

    let refusals: [RefusalRecord]

    func bind(to binds: inout PostgresBinds) {
        binds.append(refusals.map(\.requestID.postgres))
        binds.append(refusals.map(\.tenantID.postgres))
        binds.append(refusals.map(\.keyID.postgres))
        binds.append(refusals.map(\.model))
        binds.append(refusals.map(\.code.rawValue))
        binds.append(refusals.map(\.refusedAt.postgres))
        binds.append(refusals.map(\.numbers.policy))
        binds.append(refusals.map(\.numbers.unit.rawValue))
        binds.append(refusals.map(\.numbers.limit))
        append(\.numbers.settled, to: &binds)
        append(\.numbers.held, to: &binds)
        binds.append(refusals.map(\.numbers.remaining))
        binds.append(refusals.map(\.numbers.requested))
        append(\.numbers.retryAfterMilliseconds, to: &binds)
        append(\.numbers.periodStart, to: &binds)
        append(\.numbers.periodEnd, to: &binds)
    }

    private func append(_ number: (RefusalRecord) -> Int64?, to binds: inout PostgresBinds) {
        binds.appendArray(of: .int8, count: refusals.count) { array in
            for refusal in refusals { array.append(number(refusal)) }
        }
    }

    private func append(_ instant: (RefusalRecord) -> Timestamp?, to binds: inout PostgresBinds) {
        binds.appendArray(of: .timestamptz, count: refusals.count) { array in
            for refusal in refusals { array.append(instant(refusal)?.postgres) }
        }
    }
}

/// One refusal; no row for another tenant's, whoever asks.
struct ReadRefusal: PostgresStatement {
    static let sql = """
        SELECT request_id, tenant_id, key_id, model, code, refused_at, policy, unit, allowed, settled, held, remaining, requested,
            retry_after_ms, period_start, period_end
        FROM refusals WHERE request_id = $1 AND tenant_id = $2
        """
    static let parameters: [PostgresType] = [.uuid, .uuid]
    static let columns: [PostgresType] = [
        .uuid, .uuid, .uuid, .text, .text, .timestamptz, .text, .text, .int8, .int8, .int8, .int8, .int8, .int8,
        .timestamptz, .timestamptz,
    ]

    let id: RequestID
    let tenantID: TenantID

    func bind(to binds: inout PostgresBinds) {
        binds.append(id.postgres)
        binds.append(tenantID.postgres)
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> RefusalRecord {
        let id = RequestID(try row.uuid())
        let tenantID = TenantID(try row.uuid())
        let keyID = KeyID(try row.uuid())
        let model = try row.text()
        guard let code = FailureCode(rawValue: try row.text()) else { throw row.failure(4, "is no code of a failure") }
        let refusedAt = Timestamp(try row.timestamp())
        let policy = try row.text()
        guard let unit = RateUnit(rawValue: try row.text()) else { throw row.failure(7, "is no unit of a limit") }
        return RefusalRecord(
            requestID: id, tenantID: tenantID, keyID: keyID, model: model, code: code, refusedAt: refusedAt,
            numbers: RefusalRecord.Numbers(
                policy: policy, unit: unit, limit: try row.int64(), settled: try row.optionalInt64(),
                held: try row.optionalInt64(), remaining: try row.int64(), requested: try row.int64(),
                retryAfterMilliseconds: try row.optionalInt64(),
                periodStart: try row.optionalTimestamp().map { Timestamp($0) },
                periodEnd: try row.optionalTimestamp().map { Timestamp($0) }))
    }
}

struct RemoveRefusals: PostgresStatement {
    static let sql = "SELECT remove_refusals($1, $2)"
    static let parameters: [PostgresType] = [.int4, .int4]
    static let columns: [PostgresType] = [.int4]

    let keepHours: Int32
    let limit: Int32

    func bind(to binds: inout PostgresBinds) {
        binds.append(keepHours)
        binds.append(limit)
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> Int32 { try row.int32() }
}
