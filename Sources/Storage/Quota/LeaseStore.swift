public import Domain
public import PostgresDriver

/// Leases of quota in PostgreSQL: the functions `acquire_lease` and `close_leases` of the schema, one call each.
public struct LeaseStore: QuotaLedger {
    private let pool: PostgresPool
    private let gatewayID: GatewayID
    private let leaseMilliseconds: Int64

    /// - Parameter pool: connections of the role `weir_writer`.
    public init(pool: PostgresPool, gatewayID: GatewayID, leaseMilliseconds: Int64) {
        self.pool = pool
        self.gatewayID = gatewayID
        self.leaseMilliseconds = leaseMilliseconds
    }

    public func acquire(_ request: LeaseRequest) async throws(StoreUnavailable) -> LeaseAnswer {
        let rows: [AcquireLease.Answer]
        do throws(PostgresError) {
            rows = try await pool.execute(
                AcquireLease(request: request, gatewayID: gatewayID, leaseMilliseconds: leaseMilliseconds))
        } catch {
            throw StoreUnavailable(error)
        }
        var grants: [LeaseAnswer.Grant] = []
        for row in rows {
            guard let want = request.wants.first(where: { $0.quota.id == row.quotaID }) else { continue }
            // The database's amount counts: the snapshot's may be older.
            let quota = Quota(
                id: want.quota.id, unit: want.quota.unit, frequency: want.quota.frequency, amount: row.amount,
                mode: want.quota.mode)
            guard let granted = row.granted else {
                return .refused(
                    QuotaRefusal(
                        quota: quota, period: want.period, settled: row.settled, held: row.held, requested: want.minimum
                    ))
            }
            grants.append(
                LeaseAnswer.Grant(
                    slice: Lease.Slice(quota: quota, period: want.period, granted: granted),
                    freeAfterwards: max(0, row.amount - row.settled - row.held - granted)))
        }
        return .granted(grants)
    }

    public func renew(_ leases: [LeaseID]) async throws(StoreUnavailable) -> Set<LeaseID> {
        do throws(PostgresError) {
            return Set(
                try await pool.execute(
                    RenewLeases(leases: leases, gatewayID: gatewayID, leaseMilliseconds: leaseMilliseconds)))
        } catch {
            throw StoreUnavailable(error)
        }
    }

    public func close(_ leases: [LeaseID]) async throws(StoreUnavailable) {
        do throws(PostgresError) {
            _ = try await pool.execute(CloseLeases(leases: leases, gatewayID: gatewayID))
        } catch {
            throw StoreUnavailable(error)
        }
    }
}

struct AcquireLease: PostgresStatement {
    struct Answer: Sendable {
        let quotaID: QuotaID
        /// `nil` when this quota refused.
        let granted: Int64?
        let amount: Int64
        let settled: Int64
        let held: Int64
    }

    static let sql =
        "SELECT quota, granted, amount, settled, held FROM acquire_lease($1, $2, $3, $4, $5, $6, $7, $8, $9)"
    static let parameters: [PostgresType] = [
        .uuid, .uuid, .uuid, .int8, .uuidArray, .timestamptzArray, .timestamptzArray, .int8Array, .int8Array,
    ]
    static let columns: [PostgresType] = [.uuid, .int8, .int8, .int8, .int8]

    let request: LeaseRequest
    let gatewayID: GatewayID
    let leaseMilliseconds: Int64

    func bind(to binds: inout PostgresBinds) {
        binds.append(request.leaseID.postgres)
        binds.append(request.tenantID.postgres)
        binds.append(gatewayID.postgres)
        binds.append(leaseMilliseconds)
        binds.append(request.wants.map(\.quota.id.postgres))
        binds.append(request.wants.map(\.period.start.postgres))
        binds.append(request.wants.map(\.period.end.postgres))
        binds.append(request.wants.map(\.minimum))
        binds.append(request.wants.map(\.wanted))
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> Answer {
        Answer(
            quotaID: QuotaID(try row.uuid()), granted: try row.optionalInt64(), amount: try row.int64(),
            settled: try row.int64(),
            held: try row.int64())
    }
}

struct RenewLeases: PostgresStatement {
    static let sql = """
        UPDATE quota_leases SET expires_at = clock_timestamp() + $3 * interval '1 millisecond'
        WHERE lease_id = ANY ($1) AND gateway_id = $2 AND state = 'open' AND expires_at > clock_timestamp()
        RETURNING lease_id
        """
    static let parameters: [PostgresType] = [.uuidArray, .uuid, .int8]
    static let columns: [PostgresType] = [.uuid]

    let leases: [LeaseID]
    let gatewayID: GatewayID
    let leaseMilliseconds: Int64

    func bind(to binds: inout PostgresBinds) {
        binds.append(leases.map(\.postgres))
        binds.append(gatewayID.postgres)
        binds.append(leaseMilliseconds)
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> LeaseID { LeaseID(try row.uuid()) }
}

struct CloseLeases: PostgresStatement {
    static let sql = "SELECT close_leases($1, $2)"
    static let parameters: [PostgresType] = [.uuid, .uuidArray]
    static let columns: [PostgresType] = [.int4]

    let leases: [LeaseID]
    let gatewayID: GatewayID

    func bind(to binds: inout PostgresBinds) {
        binds.append(gatewayID.postgres)
        binds.append(leases.map(\.postgres))
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> Int32 { try row.int32() }
}
