internal import Domain
internal import PostgresDriver

private let tenantColumns: [PostgresType] =
    [.uuid, .text, .text, .text, .text, .text, .uuid, .timestamptz] + rateLimitColumns + [.int4, .int4, .bool, .text]

private func tenantRow(_ row: inout PostgresRow) throws(PostgresError) -> TenantRow {
    let id = TenantID(try row.uuid())
    let name = try row.text()
    let timeZone = try row.text()
    guard let state = TenantState(rawValue: try row.text()) else { throw row.failure(3, "is no state of a tenant") }
    guard let retention = Retention(rawValue: try row.text()) else { throw row.failure(4, "is no retention") }
    return TenantRow(
        id: id, name: name, timeZone: timeZone, state: state, retention: retention, tierCode: try row.optionalText(),
        tierVersionID: try row.optionalUUID().map { TierVersionID($0) }, createdAt: Timestamp(try row.timestamp()),
        rateLimits: try rateLimitRules(&row), resultTTLSeconds: try row.optionalInt32().map { Int64($0) },
        retentionBytes: Int64(try row.int32()), isErasing: try row.bool(),
        receipts: ReceiptForm(rawValue: try row.text()) ?? .none)
}

struct ListTenants: PostgresStatement {
    static let sql = """
        WITH page AS (
            (SELECT tenant_id FROM tenants
            WHERE $2::uuid IS NULL AND tenant_id < coalesce($1::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
            ORDER BY tenant_id DESC LIMIT $3)
            UNION ALL
            (SELECT tenant_id FROM tenants WHERE tenant_id > $2::uuid ORDER BY tenant_id LIMIT $3)
        )
        SELECT t.tenant_id, t.name, t.time_zone, t.state, t.retention, v.tier_code, v.tier_version_id, t.created_at,
            l.scopes, l.units, l.amounts, l.bursts, t.result_ttl_seconds, t.retention_max_bytes,
            EXISTS (SELECT FROM retention_erasures e WHERE e.tenant_id = t.tenant_id AND e.finished_at IS NULL AND e.pass = 1),
            t.receipts
        FROM page JOIN tenants t ON t.tenant_id = page.tenant_id
        LEFT JOIN subscriptions s ON s.tenant_id = t.tenant_id AND s.ends_at IS NULL
        LEFT JOIN tier_versions v ON v.tier_version_id = s.tier_version_id
        CROSS JOIN LATERAL (
            SELECT coalesce(array_agg(scope ORDER BY scope, unit), '{}') AS scopes,
                coalesce(array_agg(unit ORDER BY scope, unit), '{}') AS units,
                coalesce(array_agg(coalesce(amount, -1) ORDER BY scope, unit), '{}') AS amounts,
                coalesce(array_agg(coalesce(burst, -1) ORDER BY scope, unit), '{}') AS bursts
            FROM subscription_rate_limits WHERE subscription_id = s.subscription_id
        ) l
        ORDER BY t.tenant_id DESC
        """
    static let parameters: [PostgresType] = [.uuid, .uuid, .int8]
    static let columns = tenantColumns

    let page: PageRequest<TenantID>

    func bind(to binds: inout PostgresBinds) {
        binds.append(page.after?.postgres)
        binds.append(page.before?.postgres)
        binds.append(Int64(page.limit + 1))
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> TenantRow { try tenantRow(&row) }
}

struct FindTenant: PostgresStatement {
    static let sql = """
        SELECT t.tenant_id, t.name, t.time_zone, t.state, t.retention, v.tier_code, v.tier_version_id, t.created_at,
            l.scopes, l.units, l.amounts, l.bursts, t.result_ttl_seconds, t.retention_max_bytes,
            EXISTS (SELECT FROM retention_erasures e WHERE e.tenant_id = t.tenant_id AND e.finished_at IS NULL AND e.pass = 1),
            t.receipts
        FROM tenants t
        LEFT JOIN subscriptions s ON s.tenant_id = t.tenant_id AND s.ends_at IS NULL
        LEFT JOIN tier_versions v ON v.tier_version_id = s.tier_version_id
        CROSS JOIN LATERAL (
            SELECT coalesce(array_agg(scope ORDER BY scope, unit), '{}') AS scopes,
                coalesce(array_agg(unit ORDER BY scope, unit), '{}') AS units,
                coalesce(array_agg(coalesce(amount, -1) ORDER BY scope, unit), '{}') AS amounts,
                coalesce(array_agg(coalesce(burst, -1) ORDER BY scope, unit), '{}') AS bursts
            FROM subscription_rate_limits WHERE subscription_id = s.subscription_id
        ) l
        WHERE t.tenant_id = $1
        """
    static let parameters: [PostgresType] = [.uuid]
    static let columns = tenantColumns

    let id: TenantID

    func bind(to binds: inout PostgresBinds) { binds.append(id.postgres) }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> TenantRow { try tenantRow(&row) }
}

/// Keeps two changes of one tenant apart, so that each sees what the other has left.
struct LockTenant: PostgresStatement {
    static let sql = "SELECT tenant_id FROM tenants WHERE tenant_id = $1 FOR UPDATE"
    static let parameters: [PostgresType] = [.uuid]
    static let columns: [PostgresType] = [.uuid]

    let id: TenantID

    func bind(to binds: inout PostgresBinds) { binds.append(id.postgres) }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> TenantID { TenantID(try row.uuid()) }
}

/// A tenant as the audit log keeps it.
struct DescribeTenant: PostgresStatement {
    static let sql = """
        SELECT jsonb_build_object('name', t.name, 'time_zone', t.time_zone, 'state', t.state, 'retention', t.retention,
            'result_ttl_seconds', t.result_ttl_seconds, 'retention_max_bytes', t.retention_max_bytes, 'receipts', t.receipts,
            'tier', v.tier_code, 'price_version', v.tier_version_id, 'quotas', (
                SELECT coalesce(jsonb_agg(jsonb_build_object('unit', q.unit, 'frequency', q.frequency, 'amount', q.amount,
                    'mode', q.mode) ORDER BY q.unit, q.frequency), '[]')
                FROM quotas q WHERE q.tenant_id = t.tenant_id AND q.user_id IS NULL AND q.key_id IS NULL AND q.retired_at IS NULL),
            'rate_limits', (
                SELECT coalesce(jsonb_agg(jsonb_build_object('scope', l.scope, 'unit', l.unit, 'amount', l.amount,
                    'burst', l.burst) ORDER BY l.scope, l.unit), '[]')
                FROM subscription_rate_limits l WHERE l.subscription_id = s.subscription_id))
        FROM tenants t
        LEFT JOIN subscriptions s ON s.tenant_id = t.tenant_id AND s.ends_at IS NULL
        LEFT JOIN tier_versions v ON v.tier_version_id = s.tier_version_id
        WHERE t.tenant_id = $1
        """
    static let parameters: [PostgresType] = [.uuid]
    static let columns: [PostgresType] = [.jsonb]

    let id: TenantID

    func bind(to binds: inout PostgresBinds) { binds.append(id.postgres) }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> String { try row.jsonText() }
}

struct InsertTenant: PostgresStatement {
    static let sql = """
        INSERT INTO tenants (tenant_id, name, time_zone, state, retention, result_ttl_seconds, retention_max_bytes, receipts)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
        """
    static let parameters: [PostgresType] = [.uuid, .text, .text, .text, .text, .int4, .int4, .text]

    let id: TenantID
    let tenant: NewTenant

    func bind(to binds: inout PostgresBinds) {
        binds.append(id.postgres)
        binds.append(tenant.name)
        binds.append(tenant.timeZone)
        binds.append(tenant.state.rawValue)
        binds.append(tenant.retention.rawValue)
        binds.append(tenant.resultTTLSeconds.map { Int32(clamping: $0) })
        binds.append(Int32(clamping: tenant.retentionBytes))
        binds.append(tenant.receipts.rawValue)
    }
}

struct UpdateTenant: PostgresStatement {
    static let sql = """
        UPDATE tenants SET name = coalesce($2, name), time_zone = coalesce($3, time_zone), state = coalesce($4, state),
            retention = coalesce($5, retention),
            result_ttl_seconds = CASE WHEN $6 = 0 THEN NULL ELSE coalesce($6, result_ttl_seconds) END,
            retention_max_bytes = coalesce($7, retention_max_bytes), receipts = coalesce($8, receipts)
        WHERE tenant_id = $1
        """
    static let parameters: [PostgresType] = [.uuid, .text, .text, .text, .text, .int4, .int4, .text]

    let id: TenantID
    let change: TenantChange

    func bind(to binds: inout PostgresBinds) {
        binds.append(id.postgres)
        binds.append(change.name)
        binds.append(change.timeZone)
        binds.append(change.state?.rawValue)
        binds.append(change.retention?.rawValue)
        binds.append(change.resultTTLSeconds.map { Int32(clamping: $0) })
        binds.append(change.retentionBytes.map { Int32(clamping: $0) })
        binds.append(change.receipts?.rawValue)
    }
}

struct InsertUser: PostgresStatement {
    static let sql = """
        INSERT INTO users (user_id, tenant_id, name) VALUES ($1, $2, $3) ON CONFLICT (user_id) DO NOTHING
        """
    static let parameters: [PostgresType] = [.uuid, .uuid, .text]

    let id: UserID
    let tenantID: TenantID
    let name: String

    func bind(to binds: inout PostgresBinds) {
        binds.append(id.postgres)
        binds.append(tenantID.postgres)
        binds.append(name)
    }
}
