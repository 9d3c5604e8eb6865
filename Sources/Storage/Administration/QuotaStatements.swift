internal import Domain
internal import PostgresDriver

private let quotaColumns: [PostgresType] = [
    .uuid, .uuid, .uuid, .uuid, .text, .text, .int8, .text, .bool, .text, .int8, .timestamptz, .int2Array,
]

private func quotaRow(_ row: inout PostgresRow) throws(PostgresError) -> QuotaRow {
    let id = QuotaID(try row.uuid())
    let tenantID = TenantID(try row.uuid())
    let user = try row.optionalUUID().map { QuotaHolder.user(UserID($0)) }
    let key = try row.optionalUUID().map { QuotaHolder.key(KeyID($0)) }
    guard let unit = QuotaUnit(rawValue: try row.text()) else { throw row.failure(4, "is no unit of a quota") }
    guard let frequency = Frequency(rawValue: try row.text()) else { throw row.failure(5, "is no frequency") }
    let amount = try row.int64()
    guard let mode = QuotaMode(rawValue: try row.text()) else { throw row.failure(7, "is no mode of a quota") }
    let isAnchored = try row.bool()
    guard let origin = QuotaRow.Origin(rawValue: try row.text()) else {
        throw row.failure(9, "is no origin of a quota")
    }
    let raised = try row.int64()
    let createdAt = Timestamp(try row.timestamp())
    guard let thresholds = QuotaThresholds(try row.array(of: Int16.self)) else {
        throw row.failure(12, "are no thresholds of a quota")
    }
    return QuotaRow(
        id: id, tenantID: tenantID, holder: user ?? key ?? .tenant,
        rule: QuotaRule(
            unit: unit, frequency: frequency, amount: amount, mode: mode,
            alignment: isAnchored ? .subscription : .calendar, thresholds: thresholds),
        origin: origin, raised: raised, createdAt: createdAt)
}

struct ListQuotas: PostgresStatement {
    static let sql = """
        WITH page AS (
            (SELECT quota_id FROM quotas
            WHERE tenant_id = $4 AND retired_at IS NULL AND $2::uuid IS NULL
                AND quota_id < coalesce($1::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
            ORDER BY quota_id DESC LIMIT $3)
            UNION ALL
            (SELECT quota_id FROM quotas WHERE tenant_id = $4 AND retired_at IS NULL AND quota_id > $2::uuid ORDER BY quota_id LIMIT $3)
        )
        SELECT quota_id, q.tenant_id, q.user_id, q.key_id, q.unit, q.frequency, q.amount, q.mode, q.anchor IS NOT NULL, q.origin,
            quota_limit(quota_id, q.amount, now()) - q.amount, q.created_at, q.thresholds_percent
        FROM page JOIN quotas q USING (quota_id)
        ORDER BY quota_id DESC
        """
    static let parameters: [PostgresType] = [.uuid, .uuid, .int8, .uuid]
    static let columns = quotaColumns

    let tenantID: TenantID
    let page: PageRequest<QuotaID>

    func bind(to binds: inout PostgresBinds) {
        binds.append(page.after?.postgres)
        binds.append(page.before?.postgres)
        binds.append(Int64(page.limit + 1))
        binds.append(tenantID.postgres)
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> QuotaRow { try quotaRow(&row) }
}

/// Locked, because it is about to change.
struct FindQuota: PostgresStatement {
    static let sql = """
        SELECT quota_id, q.tenant_id, q.user_id, q.key_id, q.unit, q.frequency, q.amount, q.mode, q.anchor IS NOT NULL, q.origin,
            quota_limit(quota_id, q.amount, now()) - q.amount, q.created_at, q.thresholds_percent
        FROM quotas q WHERE quota_id = $1 AND retired_at IS NULL FOR UPDATE
        """
    static let parameters: [PostgresType] = [.uuid]
    static let columns = quotaColumns

    let id: QuotaID

    func bind(to binds: inout PostgresBinds) { binds.append(id.postgres) }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> QuotaRow { try quotaRow(&row) }
}

/// Whether a user or a key is the tenant's.
struct FindQuotaHolder: PostgresStatement {
    static let sql = """
        SELECT ($2::uuid IS NULL OR EXISTS (SELECT FROM users WHERE user_id = $2 AND tenant_id = $1))
            AND ($3::uuid IS NULL OR EXISTS (SELECT FROM api_keys WHERE key_id = $3 AND tenant_id = $1))
        """
    static let parameters: [PostgresType] = [.uuid, .uuid, .uuid]
    static let columns: [PostgresType] = [.bool]

    let tenantID: TenantID
    let holder: QuotaHolder

    func bind(to binds: inout PostgresBinds) {
        binds.append(tenantID.postgres)
        binds.append(holder.userID?.postgres)
        binds.append(holder.keyID?.postgres)
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> Bool { try row.bool() }
}

/// Gives the quota of this holder, unit and frequency these values; answers its id.
struct UpsertQuota: PostgresStatement {
    static let sql = """
        INSERT INTO quotas AS o (quota_id, tenant_id, user_id, key_id, unit, frequency, amount, mode, anchor, origin, thresholds_percent)
        SELECT $1, $2, $3, $4, $5, $6, $7, $8, CASE $9 WHEN 'subscription' THEN coalesce(
            (SELECT starts_at FROM subscriptions WHERE tenant_id = $2 AND ends_at IS NULL), clock_timestamp()) END, 'override', $10
        ON CONFLICT (tenant_id, user_id, key_id, unit, frequency) DO UPDATE SET amount = EXCLUDED.amount, mode = EXCLUDED.mode,
            anchor = CASE WHEN EXCLUDED.anchor IS NOT NULL THEN coalesce(o.anchor, EXCLUDED.anchor) END, origin = 'override',
            retired_at = NULL, thresholds_percent = EXCLUDED.thresholds_percent
        RETURNING quota_id
        """
    static let parameters: [PostgresType] = [
        .uuid, .uuid, .uuid, .uuid, .text, .text, .int8, .text, .text, .int2Array,
    ]
    static let columns: [PostgresType] = [.uuid]

    let id: QuotaID
    let quota: NewQuota

    func bind(to binds: inout PostgresBinds) {
        binds.append(id.postgres)
        binds.append(quota.tenantID.postgres)
        binds.append(quota.holder.userID?.postgres)
        binds.append(quota.holder.keyID?.postgres)
        binds.append(quota.rule.unit.rawValue)
        binds.append(quota.rule.frequency.rawValue)
        binds.append(quota.rule.amount)
        binds.append(quota.rule.mode.rawValue)
        binds.append(quota.rule.alignment.rawValue)
        binds.append(quota.rule.thresholds.percents)
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> QuotaID { QuotaID(try row.uuid()) }
}

/// Makes a tenant's quota the tier's again; changes no row where the tier has none such.
struct RestoreTierQuota: PostgresStatement {
    static let sql = """
        UPDATE quotas q SET amount = r.amount, mode = r.mode, origin = 'tier', thresholds_percent = r.thresholds_percent,
            anchor = CASE r.alignment WHEN 'subscription' THEN coalesce(q.anchor, s.starts_at) END
        FROM subscriptions s JOIN tier_quotas r ON r.tier_version_id = s.tier_version_id
        WHERE q.quota_id = $1 AND q.user_id IS NULL AND q.key_id IS NULL AND s.tenant_id = q.tenant_id AND s.ends_at IS NULL
            AND r.unit = q.unit AND r.frequency = q.frequency
        """
    static let parameters: [PostgresType] = [.uuid]

    let id: QuotaID

    func bind(to binds: inout PostgresBinds) { binds.append(id.postgres) }
}

/// A quota that ends keeps its row, as one that a tier does not have any more: past periods name it.
struct RetireQuota: PostgresStatement {
    static let sql = """
        UPDATE quotas SET mode = 'soft', origin = 'tier', retired_at = clock_timestamp() WHERE quota_id = $1
        """
    static let parameters: [PostgresType] = [.uuid]

    let id: QuotaID

    func bind(to binds: inout PostgresBinds) { binds.append(id.postgres) }
}

/// What the calendar needs to find the running period of a quota.
struct FindQuotaTime: PostgresStatement {
    struct Answer: Sendable {
        let timeZone: String
        let anchor: Timestamp?
        let now: Timestamp
    }

    static let sql = """
        SELECT t.time_zone, q.anchor, clock_timestamp() FROM quotas q JOIN tenants t ON t.tenant_id = q.tenant_id WHERE q.quota_id = $1
        """
    static let parameters: [PostgresType] = [.uuid]
    static let columns: [PostgresType] = [.text, .timestamptz, .timestamptz]

    let id: QuotaID

    func bind(to binds: inout PostgresBinds) { binds.append(id.postgres) }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> Answer {
        Answer(
            timeZone: try row.text(), anchor: try row.optionalTimestamp().map { Timestamp($0) },
            now: Timestamp(try row.timestamp()))
    }
}

struct InsertQuotaRaise: PostgresStatement {
    static let sql = """
        INSERT INTO quota_raises (raise_id, quota_id, tenant_id, amount, starts_at, ends_at) VALUES ($1, $2, $3, $4, $5, $6)
        """
    static let parameters: [PostgresType] = [.uuid, .uuid, .uuid, .int8, .timestamptz, .timestamptz]

    let id: QuotaID
    let quota: QuotaRow
    let amount: Int64
    let start: Timestamp
    let end: Timestamp

    func bind(to binds: inout PostgresBinds) {
        binds.append(id.postgres)
        binds.append(quota.id.postgres)
        binds.append(quota.tenantID.postgres)
        binds.append(amount)
        binds.append(start.postgres)
        binds.append(end.postgres)
    }
}

/// A quota as the audit log keeps it; no row for one that is not there or has ended. Raises that are over are left out.
struct DescribeQuota: PostgresStatement {
    static let sql = """
        SELECT jsonb_build_object('quota_id', q.quota_id, 'user_id', q.user_id, 'key_id', q.key_id, 'unit', q.unit,
            'frequency', q.frequency, 'amount', q.amount, 'mode', q.mode, 'anchor', q.anchor, 'origin', q.origin, 'thresholds_percent', q.thresholds_percent,
            'raises', (SELECT coalesce(jsonb_agg(jsonb_build_object('amount', r.amount, 'starts_at', r.starts_at, 'ends_at', r.ends_at)
                ORDER BY r.raise_id), '[]') FROM quota_raises r WHERE r.quota_id = q.quota_id AND r.ends_at > now()))
        FROM quotas q
        WHERE q.tenant_id = $1 AND q.user_id IS NOT DISTINCT FROM $2 AND q.key_id IS NOT DISTINCT FROM $3 AND q.unit = $4
            AND q.frequency = $5 AND q.retired_at IS NULL
        """
    static let parameters: [PostgresType] = [.uuid, .uuid, .uuid, .text, .text]
    static let columns: [PostgresType] = [.jsonb]

    let tenantID: TenantID
    let holder: QuotaHolder
    let unit: QuotaUnit
    let frequency: Frequency

    init(_ quota: NewQuota) {
        tenantID = quota.tenantID
        holder = quota.holder
        unit = quota.rule.unit
        frequency = quota.rule.frequency
    }

    init(_ quota: QuotaRow) {
        tenantID = quota.tenantID
        holder = quota.holder
        unit = quota.rule.unit
        frequency = quota.rule.frequency
    }

    func bind(to binds: inout PostgresBinds) {
        binds.append(tenantID.postgres)
        binds.append(holder.userID?.postgres)
        binds.append(holder.keyID?.postgres)
        binds.append(unit.rawValue)
        binds.append(frequency.rawValue)
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> String { try row.jsonText() }
}
