internal import Domain
internal import PostgresDriver

/// What was held for a request, and the lease that it was charged to.
struct ReadAdmission: PostgresStatement {
    static let sql = """
        SELECT r.estimated_tokens, l.lease_id
        FROM requests r LEFT JOIN ledger l ON l.entry_id = r.request_id
        WHERE r.request_id = $1 AND r.tenant_id = $2
        """
    static let parameters: [PostgresType] = [.uuid, .uuid]
    static let columns: [PostgresType] = [.int8, .uuid]

    let id: RequestID
    let tenantID: TenantID

    func bind(to binds: inout PostgresBinds) {
        binds.append(id.postgres)
        binds.append(tenantID.postgres)
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> (heldTokens: Int64?, leaseID: LeaseID?) {
        (try row.optionalInt64(), try row.optionalUUID().map { LeaseID($0) })
    }
}

/// The quotas that the lease of a charged request drew from, the shortest period first; none where the lease has been removed.
///
/// On which side of the limit the request lies is told only where it is sure: while settled and held together, which is never less than what
/// is used, are within it; after use was seen to have reached it; and where use was still seen within it when the request had long been
/// committed.
struct ReadLeasePolicies: PostgresStatement {
    static let sql = """
        SELECT q.quota_id, q.unit, q.frequency, q.amount, q.mode,
            CASE WHEN q.key_id IS NOT NULL THEN 'key' WHEN q.user_id IS NOT NULL THEN 'user' ELSE 'tenant' END, p.period_start, p.period_end, s.granted,
            CASE WHEN q.mode = 'hard' THEN NULL
                WHEN p.settled + p.held <= cap.allowed THEN 'included'
                WHEN l.posted_at >= seen.beyond THEN 'overage'
                WHEN l.posted_at < seen.within - interval '1 minute' THEN 'included'
            END
        FROM ledger l
        JOIN quota_lease_slices s ON s.lease_id = l.lease_id
        JOIN quotas q ON q.quota_id = s.quota_id
        JOIN quota_periods p ON p.quota_id = s.quota_id AND p.period_start = s.period_start
        CROSS JOIN LATERAL (SELECT quota_limit(q.quota_id, q.amount, p.period_start) AS allowed) cap
        CROSS JOIN LATERAL (
            SELECT min(e.crossed_at) FILTER (WHERE e.used >= cap.allowed) AS beyond,
                max(e.crossed_at) FILTER (WHERE e.used <= cap.allowed) AS within
            FROM quota_events e WHERE e.tenant_id = $2 AND e.quota_id = s.quota_id AND e.period_start = s.period_start
        ) seen
        WHERE l.entry_id = $1 AND l.tenant_id = $2
        ORDER BY p.period_end - p.period_start, q.unit
        """
    static let parameters: [PostgresType] = [.uuid, .uuid]
    static let columns: [PostgresType] = [
        .uuid, .text, .text, .int8, .text, .text, .timestamptz, .timestamptz, .int8, .text,
    ]

    let id: RequestID
    let tenantID: TenantID

    func bind(to binds: inout PostgresBinds) {
        binds.append(id.postgres)
        binds.append(tenantID.postgres)
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> RequestExplanation.Policy? {
        let id = QuotaID(try row.uuid())
        let unit = QuotaUnit(rawValue: try row.text())
        let frequency = Frequency(rawValue: try row.text())
        let amount = try row.int64()
        let mode = QuotaMode(rawValue: try row.text())
        let level = QuotaLevel(rawValue: try row.text())
        let start = Timestamp(try row.timestamp())
        let end = Timestamp(try row.timestamp())
        let granted = try row.int64()
        let part = try row.optionalText().flatMap { RequestExplanation.Part(rawValue: $0) }
        guard let unit, let frequency, let mode, let level else { return nil }
        return RequestExplanation.Policy(
            quota: Quota(id: id, unit: unit, frequency: frequency, amount: amount, mode: mode, level: level),
            periodStart: start, periodEnd: end, granted: granted, part: part)
    }
}
