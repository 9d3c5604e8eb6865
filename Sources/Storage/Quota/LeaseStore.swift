public import Domain
public import PostgresDriver

/// Leases of quota in PostgreSQL: the functions `take_lease`, `return_slices` and `close_leases` of the schema, one call each.
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
        let rows: [TakeLease.Answer]
        do throws(PostgresError) {
            rows = try await pool.execute(
                TakeLease(request: request, gatewayID: gatewayID, leaseMilliseconds: leaseMilliseconds))
        } catch {
            throw StoreUnavailable(error)
        }
        var grants: [LeaseAnswer.Grant] = []
        for row in rows {
            switch row.outcome {
            case "lost": return .lost
            case "elsewhen": return .elsewhen(row.at)
            default: break
            }
            guard let numbers = row.numbers, let want = request.wants.first(where: { $0.quota.id == numbers.quotaID })
            else { continue }
            // The database's amount counts: the snapshot's may be older.
            let quota = want.quota.with(amount: numbers.amount)
            guard let granted = numbers.granted else {
                return .refused(
                    QuotaRefusal(
                        quota: quota, period: want.period, settled: numbers.settled, held: numbers.held,
                        requested: want.need))
            }
            grants.append(
                LeaseAnswer.Grant(
                    slice: Lease.Slice(quota: quota, period: want.period, granted: granted),
                    freeAfterwards: numbers.freeAfterwards(granted, mode: quota.mode),
                    settled: numbers.settled,
                    isExceeded: !quota.mode.refuses && max(numbers.settled, numbers.usedSeen) > numbers.amount))
        }
        // Without quotas there is no row, and no period whose end the time could decide.
        return .granted(grants, at: rows.first?.at ?? Timestamp(microsecondsSince1970: 0))
    }

    public func renew(_ leases: [LeaseID]) async throws(StoreUnavailable) -> LeaseRenewal {
        do throws(PostgresError) {
            let rows = try await pool.execute(
                RenewLeases(leases: leases, gatewayID: gatewayID, leaseMilliseconds: leaseMilliseconds))
            return LeaseRenewal(
                open: Set(rows.map(\.leaseID)), scarce: Set(rows.filter(\.isScarce).map(\.leaseID)),
                exceeded: Dictionary(
                    rows.filter { !$0.exceeded.isEmpty }.map { ($0.leaseID, Set($0.exceeded)) },
                    uniquingKeysWith: { first, _ in first }))
        } catch {
            throw StoreUnavailable(error)
        }
    }

    public func giveBack(_ returns: [LeaseReturn]) async throws(StoreUnavailable) {
        do throws(PostgresError) {
            _ = try await pool.execute(ReturnSlices(returns: returns, gatewayID: gatewayID))
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

struct TakeLease: PostgresStatement {
    struct Answer: Sendable {
        struct Numbers: Sendable {
            let quotaID: QuotaID
            /// `nil` when this quota refused.
            let granted: Int64?
            let amount: Int64
            let settled: Int64
            let held: Int64
            /// What the watch has seen used, if that was beyond the limit; see `quota_periods`.
            let usedSeen: Int64

            /// Where the limit does not refuse, more can be held than there is; the next reader of the number subtracts what is not used.
            func freeAfterwards(_ granted: Int64, mode: QuotaMode) -> Int64 {
                let free = amount.subtractingReportingOverflow(settled).partialValue
                    .subtractingReportingOverflow(held).partialValue.subtractingReportingOverflow(granted).partialValue
                return mode.refuses ? max(0, free) : free
            }
        }

        let outcome: String
        /// `nil` for an outcome that is not about one quota.
        let numbers: Numbers?
        let at: Timestamp
    }

    static let sql = """
        SELECT t.outcome, t.quota, t.granted, t.amount, t.settled, t.held, p.used_seen, t.at
        FROM take_lease($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) t
        LEFT JOIN unnest($6, $7) AS w (quota_id, period_start) ON w.quota_id = t.quota
        LEFT JOIN quota_periods p ON p.quota_id = w.quota_id AND p.period_start = w.period_start
        """
    static let parameters: [PostgresType] = [
        .uuid, .bool, .uuid, .uuid, .int8, .uuidArray, .timestamptzArray, .timestamptzArray, .int8Array, .int8Array,
        .uuidArray, .uuidArray, .int8Array,
    ]
    static let columns: [PostgresType] = [.text, .uuid, .int8, .int8, .int8, .int8, .int8, .timestamptz]

    let request: LeaseRequest
    let gatewayID: GatewayID
    let leaseMilliseconds: Int64

    func bind(to binds: inout PostgresBinds) {
        binds.append(request.leaseID.postgres)
        binds.append(request.isNew)
        binds.append(request.tenantID.postgres)
        binds.append(gatewayID.postgres)
        binds.append(leaseMilliseconds)
        binds.append(request.wants.map(\.quota.id.postgres))
        binds.append(request.wants.map(\.period.start.postgres))
        binds.append(request.wants.map(\.period.end.postgres))
        binds.append(request.wants.map(\.minimum))
        binds.append(request.wants.map(\.wanted))
        binds.append(request.returns.map(\.leaseID.postgres))
        binds.append(request.returns.map(\.quotaID.postgres))
        binds.append(request.returns.map(\.amount))
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> Answer {
        let outcome = try row.text()
        let quota = try row.optionalUUID()
        let granted = try row.optionalInt64()
        let amount = try row.optionalInt64()
        let settled = try row.optionalInt64()
        let held = try row.optionalInt64()
        // A period that this very statement made is not seen by the join, and nothing was used in it.
        let usedSeen = try row.optionalInt64() ?? 0
        var numbers: Answer.Numbers?
        if let quota, let amount, let settled, let held {
            numbers = Answer.Numbers(
                quotaID: QuotaID(quota), granted: granted, amount: amount, settled: settled, held: held,
                usedSeen: usedSeen)
        }
        return Answer(outcome: outcome, numbers: numbers, at: Timestamp(try row.timestamp()))
    }
}

/// Moves the end of open leases, and tells of which quotas less is free than the lease has of them, and which are known to be exceeded.
struct RenewLeases: PostgresStatement {
    static let sql = """
        WITH mine AS MATERIALIZED (
            SELECT lease_id FROM quota_leases
            WHERE lease_id = ANY ($1) AND gateway_id = $2 AND state = 'open' AND expires_at > clock_timestamp()
            ORDER BY lease_id FOR UPDATE
        ), renewed AS (
            UPDATE quota_leases l SET expires_at = clock_timestamp() + $3 * interval '1 millisecond'
            FROM mine WHERE l.lease_id = mine.lease_id
            RETURNING l.lease_id
        )
        SELECT r.lease_id, EXISTS (
            SELECT FROM quota_lease_slices s
            JOIN quota_periods p ON p.quota_id = s.quota_id AND p.period_start = s.period_start
            JOIN quotas q ON q.quota_id = s.quota_id
            WHERE s.lease_id = r.lease_id AND q.mode = 'hard'
                AND quota_limit(q.quota_id, q.amount, p.period_start) - p.settled - p.held < s.granted),
            ARRAY(
                SELECT s.quota_id FROM quota_lease_slices s
                JOIN quota_periods p ON p.quota_id = s.quota_id AND p.period_start = s.period_start
                JOIN quotas q ON q.quota_id = s.quota_id
                WHERE s.lease_id = r.lease_id AND q.mode <> 'hard'
                    AND greatest(p.settled, p.used_seen) > quota_limit(q.quota_id, q.amount, p.period_start))
        FROM renewed r
        """
    static let parameters: [PostgresType] = [.uuidArray, .uuid, .int8]
    static let columns: [PostgresType] = [.uuid, .bool, .uuidArray]

    let leases: [LeaseID]
    let gatewayID: GatewayID
    let leaseMilliseconds: Int64

    func bind(to binds: inout PostgresBinds) {
        binds.append(leases.map(\.postgres))
        binds.append(gatewayID.postgres)
        binds.append(leaseMilliseconds)
    }

    struct Answer: Sendable {
        let leaseID: LeaseID
        let isScarce: Bool
        let exceeded: [QuotaID]
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> Answer {
        Answer(
            leaseID: LeaseID(try row.uuid()), isScarce: try row.bool(),
            exceeded: try row.array(of: PostgresUUID.self).map { QuotaID($0) })
    }
}

struct ReturnSlices: PostgresStatement {
    static let sql = "SELECT 1 FROM return_slices($1, $2, $3, $4)"
    static let parameters: [PostgresType] = [.uuid, .uuidArray, .uuidArray, .int8Array]
    static let columns: [PostgresType] = [.int4]

    let returns: [LeaseReturn]
    let gatewayID: GatewayID

    func bind(to binds: inout PostgresBinds) {
        binds.append(gatewayID.postgres)
        binds.append(returns.map(\.leaseID.postgres))
        binds.append(returns.map(\.quotaID.postgres))
        binds.append(returns.map(\.amount))
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> Int32 { try row.int32() }
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
