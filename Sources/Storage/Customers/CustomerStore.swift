public import Domain
public import PostgresDriver

/// A customer's own reads. Each runs in one transaction with the tenant set, so that row-level security is a second wall behind the
/// `WHERE`, and a pooled connection carries nothing over to the next caller.
public struct CustomerStore: CustomerRecords {
    private let pool: PostgresPool

    /// - Parameter pool: connections of the role `weir_reader`.
    public init(pool: PostgresPool) { self.pool = pool }

    public func usage(_ query: UsageQuery) async throws(StoreUnavailable) -> [UsageRow] {
        guard query.groupsByTag else { return try await read(ReadUsage(query: query), as: query.tenantID) }
        return try await read(ReadTagUsage(query: query), as: query.tenantID)
    }

    public func hours(
        of tenant: TenantID, from start: Timestamp, to end: Timestamp
    ) async throws(StoreUnavailable) -> [HourlyUsage] {
        try await read(ReadHourlyUsage(tenantID: tenant, start: start, end: end), as: tenant)
    }

    public func ratingInput(tenantID: TenantID, period: Period) async throws(StoreUnavailable) -> RatingInput {
        do throws(PostgresError) {
            return try await pool.ratingInput(of: tenantID, period)
        } catch {
            throw StoreUnavailable(error)
        }
    }

    public func quotaStates(tenantID: TenantID, periods: [(QuotaID, Period)]) async throws(StoreUnavailable)
        -> [QuotaState]
    {
        try await read(ReadQuotaStates(tenantID: tenantID, periods: periods), as: tenantID).compactMap { $0 }
    }

    public func requests(_ query: RequestQuery) async throws(StoreUnavailable) -> RequestPage {
        let isNotCompleted = query.errorCode != nil || query.status.map { $0 != "completed" } ?? false
        let rows: [RequestPageRow]
        switch (query.before == nil, isNotCompleted) {
        case (true, false): rows = try await readPage(ReadRequestsBefore(query: query), query)
        case (false, false): rows = try await readPage(ReadRequestsAfter(query: query), query)
        case (true, true): rows = try await readPage(ReadNotCompletedBefore(query: query), query)
        case (false, true): rows = try await readPage(ReadNotCompletedAfter(query: query), query)
        }
        let requests = rows.compactMap(\.request)
        // Towards newer requests the nearest come first; the page is newest first either way.
        return RequestPage(rows: query.before == nil ? requests : requests.reversed(), stoppedAt: rows.first?.stop)
    }

    public func detail(of id: RequestID, tenantID: TenantID, readsPrompt: Bool) async throws(StoreUnavailable)
        -> RequestDetail?
    {
        try await read(
            ReadRequestDetail(id: id, tenantID: tenantID, readsPrompt: readsPrompt), as: tenantID
        ).first
    }

    public func resultBytes(of id: RequestID, tenantID: TenantID, range: Range<Int>) async throws(StoreUnavailable)
        -> [UInt8]?
    {
        try await read(ReadResultBytes(id: id, tenantID: tenantID, range: range), as: tenantID).first
    }

    public func request(_ id: RequestID, tenantID: TenantID) async throws(StoreUnavailable) -> RequestRow? {
        try await read(ReadRequest(id: id, tenantID: tenantID), as: tenantID).first
    }

    public func explanation(of id: RequestID, tenantID: TenantID) async throws(StoreUnavailable)
        -> RequestExplanation?
    {
        do throws(PostgresError) {
            let (_, rows, admissions, policies) = try await pool.pipeline(
                ActAsTenant(tenantID: tenantID), ReadRequest(id: id, tenantID: tenantID),
                ReadAdmission(id: id, tenantID: tenantID), ReadLeasePolicies(id: id, tenantID: tenantID))
            guard let row = rows.first else { return nil }
            return RequestExplanation(
                row: row, heldTokens: admissions.first?.heldTokens, leaseID: admissions.first?.leaseID,
                policies: policies.compactMap { $0 })
        } catch {
            throw StoreUnavailable(error)
        }
    }

    public func refusal(of id: RequestID, tenantID: TenantID) async throws(StoreUnavailable) -> RefusalRecord? {
        try await read(ReadRefusal(id: id, tenantID: tenantID), as: tenantID).first
    }

    private func readPage<S: PostgresStatement>(_ statement: S, _ query: RequestQuery) async throws(StoreUnavailable)
        -> [RequestPageRow] where S.Row == RequestPageRow
    {
        do throws(PostgresError) {
            return try await pool.pipeline(ActAsTenantWithOwnPlan(tenantID: query.tenantID), statement).1
        } catch {
            throw StoreUnavailable(error)
        }
    }

    private func read<S: PostgresStatement>(_ statement: S, as tenantID: TenantID) async throws(StoreUnavailable) -> [S
        .Row]
    {
        do throws(PostgresError) {
            return try await pool.pipeline(ActAsTenant(tenantID: tenantID), statement).1
        } catch {
            throw StoreUnavailable(error)
        }
    }
}

/// Names the tenant for the rest of the transaction; the policies read it.
struct ActAsTenant: PostgresStatement {
    static let sql = "SELECT set_config('weir.tenant_id', $1, true)"
    static let parameters: [PostgresType] = [.text]

    let tenantID: TenantID

    func bind(to binds: inout PostgresBinds) { binds.append(tenantID.description) }
}

/// As ``ActAsTenant``, and the next statement is planned for this tenant: a plan for any tenant would be made for the largest, whose rows can be
/// found without an index of tenants, and a small one's could not.
struct ActAsTenantWithOwnPlan: PostgresStatement {
    static let sql = """
        SELECT set_config('weir.tenant_id', $1, true), set_config('plan_cache_mode', 'force_custom_plan', true)
        """
    static let parameters: [PostgresType] = [.text]
    static let columns: [PostgresType] = [.text, .text]

    let tenantID: TenantID

    func bind(to binds: inout PostgresBinds) { binds.append(tenantID.description) }
}

/// Settled is what closed leases booked and what the ledger says of open ones; held is the rest of the open leases. A gateway of an earlier
/// release can spend more on a lease of a soft quota than it holds; then the rest is nothing.
struct ReadQuotaStates: PostgresStatement {
    static let sql = """
        SELECT q.quota_id, q.unit, q.frequency, quota_limit(q.quota_id, q.amount, w.period_start), q.mode,
            CASE WHEN q.user_id IS NOT NULL THEN 'user' WHEN q.key_id IS NOT NULL THEN 'key' ELSE 'tenant' END, q.anchor,
            coalesce(p.settled, 0) + open.spent, coalesce(p.held, 0) - open.used, q.thresholds_percent, crossed.percents, crossed.times
        FROM unnest($2, $3) WITH ORDINALITY AS w (quota_id, period_start, number)
        JOIN quotas q ON q.quota_id = w.quota_id AND q.tenant_id = $1
        LEFT JOIN quota_periods p ON p.quota_id = w.quota_id AND p.period_start = w.period_start
        CROSS JOIN LATERAL (
            SELECT coalesce(sum(o.spent), 0)::bigint AS spent, coalesce(sum(least(o.spent, o.granted)), 0)::bigint AS used
            FROM (
                SELECT s.granted, sum(CASE q.unit WHEN 'requests' THEN e.requests ELSE e.input_tokens + e.output_tokens END) AS spent
                FROM quota_leases l
                JOIN quota_lease_slices s ON s.lease_id = l.lease_id
                JOIN ledger e ON e.lease_id = l.lease_id
                WHERE l.tenant_id = $1 AND l.state = 'open' AND s.quota_id = q.quota_id AND s.period_start = w.period_start
                GROUP BY l.lease_id, s.granted
            ) o
        ) open
        CROSS JOIN LATERAL (
            SELECT coalesce(array_agg(e.threshold_percent ORDER BY e.threshold_percent), '{}') AS percents,
                coalesce(array_agg(e.crossed_at ORDER BY e.threshold_percent), '{}') AS times
            FROM quota_events e WHERE e.tenant_id = $1 AND e.quota_id = w.quota_id AND e.period_start = w.period_start
        ) crossed
        ORDER BY w.number
        """
    static let parameters: [PostgresType] = [.uuid, .uuidArray, .timestamptzArray]
    static let columns: [PostgresType] = [
        .uuid, .text, .text, .int8, .text, .text, .timestamptz, .int8, .int8, .int2Array, .int2Array, .timestamptzArray,
    ]

    let tenantID: TenantID
    let periods: [(QuotaID, Period)]

    func bind(to binds: inout PostgresBinds) {
        binds.append(tenantID.postgres)
        binds.append(periods.map(\.0.postgres))
        binds.append(periods.map(\.1.start.postgres))
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> QuotaState? {
        let id = QuotaID(try row.uuid())
        let unit = QuotaUnit(rawValue: try row.text())
        let frequency = Frequency(rawValue: try row.text())
        let amount = try row.int64()
        let mode = QuotaMode(rawValue: try row.text())
        let level = QuotaLevel(rawValue: try row.text())
        let anchor = try row.optionalTimestamp().map { Timestamp($0) }
        let settled = try row.int64()
        let held = try row.int64()
        let thresholds = QuotaThresholds(try row.array(of: Int16.self))
        let percents = try row.array(of: Int16.self)
        let times = try row.array(of: PostgresTimestamp.self)
        guard let unit, let frequency, let mode, let level, let thresholds else { return nil }
        let quota = Quota(
            id: id, unit: unit, frequency: frequency, amount: amount, mode: mode, level: level, anchor: anchor)
        return QuotaState(
            quota: quota, settled: settled, held: held, thresholds: thresholds,
            crossed: zip(percents, times).map { QuotaState.Crossing(percent: $0, at: Timestamp($1)) })
    }
}
