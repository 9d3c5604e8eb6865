internal import Domain
internal import PostgresDriver

/// The version of a tier that a tenant gets who subscribes at an instant; a tier of another tenant's is none.
struct FindVersionToSubscribe: PostgresStatement {
    struct Found: Sendable {
        let tierVersionID: TierVersionID
        let currency: String
    }

    static let sql = """
        SELECT v.tier_version_id, v.currency FROM tier_versions v JOIN tiers t ON t.code = v.tier_code
        WHERE v.tier_code = $1 AND v.state = 'published' AND (t.tenant_id IS NULL OR t.tenant_id = $2)
            AND coalesce(v.effective_at, '-infinity') <= coalesce($3, clock_timestamp())
        ORDER BY v.version DESC LIMIT 1
        """
    static let parameters: [PostgresType] = [.text, .uuid, .timestamptz]
    static let columns: [PostgresType] = [.uuid, .text]

    let tierCode: String
    let tenantID: TenantID
    /// `nil` means now.
    let at: Timestamp?

    func bind(to binds: inout PostgresBinds) {
        binds.append(tierCode)
        binds.append(tenantID.postgres)
        binds.append(at?.postgres)
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> Found {
        Found(tierVersionID: TierVersionID(try row.uuid()), currency: try row.text())
    }
}

/// Gives the stay in force the trial of its tier, if the tenant was never on that tier before. The end is rounded up to an edge of usage.
struct BeginTrial: PostgresStatement {
    static let sql = """
        UPDATE subscriptions s
        SET trial_ends_at = usage_bucket(s.starts_at + v.trial_days * interval '1 day' + interval '15 minutes' - interval '1 microsecond')
        FROM tier_versions v
        WHERE s.tenant_id = $1 AND s.ends_at IS NULL AND s.trial_ends_at IS NULL AND v.tier_version_id = s.tier_version_id
            AND v.trial_days > 0 AND NOT EXISTS (
                SELECT FROM subscriptions o JOIN tier_versions w ON w.tier_version_id = o.tier_version_id
                WHERE o.tenant_id = $1 AND o.subscription_id <> s.subscription_id AND w.tier_code = v.tier_code)
        """
    static let parameters: [PostgresType] = [.uuid]

    let tenantID: TenantID

    func bind(to binds: inout PostgresBinds) { binds.append(tenantID.postgres) }
}

/// Ends the stay in force at an instant, and tells when: a stay is never shorter than a microsecond.
struct EndSubscriptionAt: PostgresStatement {
    static let sql = """
        UPDATE subscriptions SET ends_at = greatest($2, starts_at + interval '1 microsecond')
        WHERE tenant_id = $1 AND ends_at IS NULL
        RETURNING ends_at
        """
    static let parameters: [PostgresType] = [.uuid, .timestamptz]
    static let columns: [PostgresType] = [.timestamptz]

    let tenantID: TenantID
    let at: Timestamp

    func bind(to binds: inout PostgresBinds) {
        binds.append(tenantID.postgres)
        binds.append(at.postgres)
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> Timestamp { Timestamp(try row.timestamp()) }
}

struct ReadStays: PostgresStatement {
    static let sql = """
        SELECT s.subscription_id, v.tier_code, s.tier_version_id, v.currency, s.starts_at, s.ends_at, s.trial_ends_at
        FROM subscriptions s JOIN tier_versions v ON v.tier_version_id = s.tier_version_id
        WHERE s.tenant_id = $1 ORDER BY s.starts_at DESC LIMIT 100
        """
    static let parameters: [PostgresType] = [.uuid]
    static let columns: [PostgresType] = [.uuid, .text, .uuid, .text, .timestamptz, .timestamptz, .timestamptz]

    let tenantID: TenantID

    func bind(to binds: inout PostgresBinds) { binds.append(tenantID.postgres) }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> SubscriptionRow {
        SubscriptionRow(
            id: SubscriptionID(try row.uuid()), tierCode: try row.text(), tierVersionID: TierVersionID(try row.uuid()),
            currency: try row.text(), startsAt: Timestamp(try row.timestamp()),
            endsAt: try row.optionalTimestamp().map { Timestamp($0) },
            trialEndsAt: try row.optionalTimestamp().map { Timestamp($0) })
    }
}

private let changeColumns: [PostgresType] = [.uuid, .uuid, .text, .uuid, .timestamptz]

private func changeRow(_ row: inout PostgresRow) throws(PostgresError) -> SubscriptionChangeRow {
    SubscriptionChangeRow(
        id: SubscriptionChangeID(try row.uuid()), tenantID: TenantID(try row.uuid()), tierCode: try row.text(),
        tierVersionID: TierVersionID(try row.uuid()), dueAt: Timestamp(try row.timestamp()))
}

struct FindScheduledChange: PostgresStatement {
    static let sql = """
        SELECT c.change_id, c.tenant_id, v.tier_code, c.tier_version_id, c.due_at
        FROM subscription_changes c JOIN tier_versions v ON v.tier_version_id = c.tier_version_id
        WHERE c.tenant_id = $1 AND c.state = 'scheduled'
        """
    static let parameters: [PostgresType] = [.uuid]
    static let columns = changeColumns

    let tenantID: TenantID

    func bind(to binds: inout PostgresBinds) { binds.append(tenantID.postgres) }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> SubscriptionChangeRow {
        try changeRow(&row)
    }
}

/// Holds the tenant whose change is due longest, passing over those that somebody else holds: the tenant first, as all who change its bills
/// do. What is due has to be read behind it.
struct HoldDueTenant: PostgresStatement {
    static let sql = """
        SELECT t.tenant_id FROM subscription_changes c JOIN tenants t ON t.tenant_id = c.tenant_id
        WHERE c.state = 'scheduled' AND c.due_at <= clock_timestamp()
        ORDER BY c.due_at, c.change_id LIMIT 1 FOR NO KEY UPDATE OF t SKIP LOCKED
        """
    static let columns: [PostgresType] = [.uuid]

    static func row(from row: inout PostgresRow) throws(PostgresError) -> TenantID { TenantID(try row.uuid()) }
}

/// What stands in the way of a change, if anything does: a version that is sold no more, or a standing invoice of the time that it would change.
struct FindObstacle: PostgresStatement {
    static let sql = """
        SELECT CASE WHEN v.state <> 'published' THEN 'the version is sold no more'
            ELSE (SELECT 'the period from ' || rfc3339(i.period_start) || ' is invoiced' FROM invoices i
                WHERE i.tenant_id = $1 AND i.kind = 'invoice' AND i.state IN ('finalised', 'paid') AND i.period_end > $3
                ORDER BY i.period_start LIMIT 1) END, v.currency
        FROM tier_versions v WHERE v.tier_version_id = $2
        """
    static let parameters: [PostgresType] = [.uuid, .uuid, .timestamptz]
    static let columns: [PostgresType] = [.text, .text]

    struct Found: Sendable {
        let obstacle: String?
        let currency: String
    }

    let change: SubscriptionChangeRow

    func bind(to binds: inout PostgresBinds) {
        binds.append(change.tenantID.postgres)
        binds.append(change.tierVersionID.postgres)
        binds.append(change.dueAt.postgres)
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> Found {
        Found(obstacle: try row.optionalText(), currency: try row.text())
    }
}

struct InsertScheduledChange: PostgresStatement {
    static let sql = """
        INSERT INTO subscription_changes (change_id, tenant_id, tier_version_id, due_at) VALUES ($1, $2, $3, $4)
        """
    static let parameters: [PostgresType] = [.uuid, .uuid, .uuid, .timestamptz]

    let id: SubscriptionChangeID
    let tenantID: TenantID
    let tierVersionID: TierVersionID
    let dueAt: Timestamp

    func bind(to binds: inout PostgresBinds) {
        binds.append(id.postgres)
        binds.append(tenantID.postgres)
        binds.append(tierVersionID.postgres)
        binds.append(dueAt.postgres)
    }
}

/// `applied`, `cancelled`, or `failed` with its reason.
struct EndScheduledChange: PostgresStatement {
    static let sql = """
        UPDATE subscription_changes SET state = $2, failure = $3, ended_at = clock_timestamp() WHERE tenant_id = $1 AND state = 'scheduled'
        """
    static let parameters: [PostgresType] = [.uuid, .text, .text]

    let tenantID: TenantID
    let state: String
    var failure: String?

    func bind(to binds: inout PostgresBinds) {
        binds.append(tenantID.postgres)
        binds.append(state)
        binds.append(failure)
    }
}

/// For the audit log: a change that failed, as it was and with its reason.
struct DescribeFailedChange: PostgresStatement {
    static let sql = """
        SELECT jsonb_build_object('price_version', tier_version_id, 'due_at', due_at, 'failure', failure)
        FROM subscription_changes WHERE change_id = $1
        """
    static let parameters: [PostgresType] = [.uuid]
    static let columns: [PostgresType] = [.jsonb]

    let id: SubscriptionChangeID

    func bind(to binds: inout PostgresBinds) { binds.append(id.postgres) }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> String { try row.jsonText() }
}

/// For the audit log.
struct DescribeSubscription: PostgresStatement {
    static let sql = """
        SELECT jsonb_build_object('price_version', s.tier_version_id, 'starts_at', s.starts_at, 'trial_ends_at', s.trial_ends_at,
            'scheduled', (SELECT jsonb_build_object('price_version', c.tier_version_id, 'due_at', c.due_at)
                FROM subscription_changes c WHERE c.tenant_id = t.tenant_id AND c.state = 'scheduled'))
        FROM tenants t LEFT JOIN subscriptions s ON s.tenant_id = t.tenant_id AND s.ends_at IS NULL
        WHERE t.tenant_id = $1
        """
    static let parameters: [PostgresType] = [.uuid]
    static let columns: [PostgresType] = [.jsonb]

    let tenantID: TenantID

    func bind(to binds: inout PostgresBinds) { binds.append(tenantID.postgres) }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> String { try row.jsonText() }
}
