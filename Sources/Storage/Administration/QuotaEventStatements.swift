internal import Domain
internal import PostgresDriver

/// Crossed thresholds of one tenant or of all, newest first.
struct ListQuotaEvents: PostgresStatement {
    static let sql = """
        WITH page AS (
            (SELECT event_id FROM quota_events
            WHERE $2::uuid IS NULL AND event_id < coalesce($1::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
                AND ($4::uuid IS NULL OR tenant_id = $4)
            ORDER BY event_id DESC LIMIT $3)
            UNION ALL
            (SELECT event_id FROM quota_events WHERE event_id > $2::uuid AND ($4::uuid IS NULL OR tenant_id = $4)
            ORDER BY event_id LIMIT $3)
        )
        SELECT e.event_id, e.quota_id, e.tenant_id, e.mode, e.threshold_percent, e.period_start, e.period_end, e.crossed_at, e.used,
            e.amount, e.allowed, q.user_id, q.key_id, q.unit, q.frequency
        FROM page JOIN quota_events e ON e.event_id = page.event_id JOIN quotas q ON q.quota_id = e.quota_id
        ORDER BY e.event_id DESC
        """
    static let parameters: [PostgresType] = [.uuid, .uuid, .int8, .uuid]
    static let columns: [PostgresType] = [
        .uuid, .uuid, .uuid, .text, .int2, .timestamptz, .timestamptz, .timestamptz, .int8, .int8, .int8, .uuid, .uuid,
        .text, .text,
    ]

    let tenantID: TenantID?
    let page: PageRequest<QuotaEventID>

    func bind(to binds: inout PostgresBinds) {
        binds.append(page.after?.postgres)
        binds.append(page.before?.postgres)
        binds.append(Int64(page.limit + 1))
        binds.append(tenantID?.postgres)
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> QuotaEventRow {
        let id = QuotaEventID(try row.uuid())
        let quotaID = QuotaID(try row.uuid())
        let tenantID = TenantID(try row.uuid())
        guard let mode = QuotaMode(rawValue: try row.text()) else { throw row.failure(3, "is no mode of a quota") }
        let event = QuotaEvent(
            id: id, quotaID: quotaID, tenantID: tenantID, mode: mode, thresholdPercent: try row.int16(),
            periodStart: Timestamp(try row.timestamp()), periodEnd: Timestamp(try row.timestamp()),
            crossedAt: Timestamp(try row.timestamp()), used: try row.int64(), amount: try row.int64(),
            allowed: try row.int64())
        let user = try row.optionalUUID().map { QuotaHolder.user(UserID($0)) }
        let key = try row.optionalUUID().map { QuotaHolder.key(KeyID($0)) }
        guard let unit = QuotaUnit(rawValue: try row.text()) else { throw row.failure(13, "is no unit of a quota") }
        guard let frequency = Frequency(rawValue: try row.text()) else { throw row.failure(14, "is no frequency") }
        return QuotaEventRow(event: event, holder: user ?? key ?? .tenant, unit: unit, frequency: frequency)
    }
}
