internal import Domain
internal import PostgresDriver

/// Periods in which use may have crossed a threshold; see `look_at_quotas` in the schema.
struct LookAtQuotas: PostgresStatement {
    static let sql = """
        SELECT quota, starts, ends, tenant, how, included, allowed, used, thresholds, raised, at FROM look_at_quotas($1, $2)
        """
    static let parameters: [PostgresType] = [.int8, .int8]
    static let columns: [PostgresType] = [
        .uuid, .timestamptz, .timestamptz, .uuid, .text, .int8, .int8, .int8, .int2Array, .int2Array,
        .timestamptz,
    ]

    let pauseMilliseconds: Int64
    let sweepMilliseconds: Int64

    func bind(to binds: inout PostgresBinds) {
        binds.append(pauseMilliseconds)
        binds.append(sweepMilliseconds)
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> QuotaStanding {
        let quotaID = QuotaID(try row.uuid())
        let start = Timestamp(try row.timestamp())
        let end = Timestamp(try row.timestamp())
        let tenantID = TenantID(try row.uuid())
        guard let mode = QuotaMode(rawValue: try row.text()) else { throw row.failure(4, "is no mode of a quota") }
        let amount = try row.int64()
        let allowed = try row.int64()
        let used = try row.int64()
        guard let thresholds = QuotaThresholds(try row.array(of: Int16.self)) else {
            throw row.failure(8, "are no thresholds of a quota")
        }
        return QuotaStanding(
            quotaID: quotaID, tenantID: tenantID, mode: mode, periodStart: start, periodEnd: end, amount: amount,
            allowed: allowed, used: used, thresholds: thresholds, raised: Set(try row.array(of: Int16.self)),
            seenAt: Timestamp(try row.timestamp()))
    }
}

/// Writes events; gives those that were not there, with their time.
///
/// In the order of the keys: the reference to the period locks its row, as leases do in this order.
struct InsertQuotaEvents: PostgresStatement {
    static let sql = """
        INSERT INTO quota_events (event_id, quota_id, tenant_id, period_start, period_end, threshold_percent, mode, used, amount, allowed)
        SELECT e.* FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) AS e (event_id, quota_id, tenant_id, period_start, period_end,
            threshold_percent, mode, used, amount, allowed)
        ORDER BY e.quota_id, e.period_start, e.threshold_percent
        ON CONFLICT (quota_id, period_start, threshold_percent) DO NOTHING
        RETURNING event_id, crossed_at
        """
    static let parameters: [PostgresType] = [
        .uuidArray, .uuidArray, .uuidArray, .timestamptzArray, .timestamptzArray, .int2Array, .textArray, .int8Array,
        .int8Array, .int8Array,
    ]
    static let columns: [PostgresType] = [.uuid, .timestamptz]

    let events: [QuotaEvent]

    func bind(to binds: inout PostgresBinds) {
        binds.append(events.map(\.id.postgres))
        binds.append(events.map(\.quotaID.postgres))
        binds.append(events.map(\.tenantID.postgres))
        binds.append(events.map(\.periodStart.postgres))
        binds.append(events.map(\.periodEnd.postgres))
        binds.append(events.map(\.thresholdPercent))
        binds.append(events.map(\.mode.rawValue))
        binds.append(events.map(\.used))
        binds.append(events.map(\.amount))
        binds.append(events.map(\.allowed))
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> (id: QuotaEventID, at: Timestamp) {
        (QuotaEventID(try row.uuid()), Timestamp(try row.timestamp()))
    }
}

/// Notes what was seen used beyond limits. Rows are locked in the order of their keys, as everywhere.
struct NoteExceededUse: PostgresStatement {
    static let sql = """
        WITH mine AS MATERIALIZED (
            SELECT p.quota_id, p.period_start, w.used
            FROM unnest($1, $2, $3) AS w (quota_id, period_start, used)
            JOIN quota_periods p ON p.quota_id = w.quota_id AND p.period_start = w.period_start
            WHERE p.used_seen < w.used
            ORDER BY p.quota_id, p.period_start FOR UPDATE OF p
        )
        UPDATE quota_periods p SET used_seen = mine.used FROM mine
        WHERE p.quota_id = mine.quota_id AND p.period_start = mine.period_start
        """
    static let parameters: [PostgresType] = [.uuidArray, .timestamptzArray, .int8Array]

    let standings: [QuotaStanding]

    func bind(to binds: inout PostgresBinds) {
        binds.append(standings.map(\.quotaID.postgres))
        binds.append(standings.map(\.periodStart.postgres))
        binds.append(standings.map(\.used))
    }
}

struct RemoveClosedLeases: PostgresStatement {
    static let sql = "SELECT remove_closed_leases($1, $2)"
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
