internal import Domain
internal import PostgresDriver

/// Tiers with the version that a new tenant would get. A tier of drafts alone is not shown: nobody can subscribe to it.
struct ListTiers: PostgresStatement {
    static let sql = """
        WITH known AS (
            SELECT t.code FROM tiers t WHERE EXISTS (SELECT FROM tier_versions v WHERE v.tier_code = t.code AND v.state <> 'draft')
        ), page AS (
            (SELECT code FROM known WHERE $2::text IS NULL AND ($1::text IS NULL OR code > $1) ORDER BY code LIMIT $3)
            UNION ALL
            (SELECT code FROM known WHERE code < $2::text ORDER BY code DESC LIMIT $3)
        )
        SELECT o.* FROM page
        CROSS JOIN LATERAL (
            SELECT v.tier_version_id FROM tier_versions v WHERE v.tier_code = page.code AND v.state <> 'draft'
            ORDER BY v.tier_version_id = tier_version_in_force(page.code) DESC NULLS LAST, v.state = 'published' DESC, v.version DESC LIMIT 1
        ) v
        JOIN tier_offers o ON o.tier_version_id = v.tier_version_id
        ORDER BY o.code
        """
    static let parameters: [PostgresType] = [.text, .text, .int8]
    static let columns = tierOfferColumns

    let page: PageRequest<String>

    func bind(to binds: inout PostgresBinds) {
        binds.append(page.after)
        binds.append(page.before)
        binds.append(Int64(page.limit + 1))
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> TierRow { try tierRow(&row) }
}

struct FindTier: PostgresStatement {
    static let sql = """
        SELECT o.* FROM tier_offers o
        WHERE o.tier_version_id = (
            SELECT v.tier_version_id FROM tier_versions v WHERE v.tier_code = $1 AND v.state <> 'draft'
            ORDER BY v.tier_version_id = tier_version_in_force($1) DESC NULLS LAST, v.state = 'published' DESC, v.version DESC LIMIT 1)
        """
    static let parameters: [PostgresType] = [.text]
    static let columns = tierOfferColumns

    let code: String

    func bind(to binds: inout PostgresBinds) { binds.append(code) }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> TierRow { try tierRow(&row) }
}

struct FindTierVersion: PostgresStatement {
    static let sql = "SELECT o.* FROM tier_offers o WHERE o.code = $1 AND o.version = $2"
    static let parameters: [PostgresType] = [.text, .int4]
    static let columns = tierOfferColumns

    let name: TierVersionName

    func bind(to binds: inout PostgresBinds) {
        binds.append(name.code)
        binds.append(name.number)
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> TierRow { try tierRow(&row) }
}

/// Newest first.
struct ListTierVersions: PostgresStatement {
    static let sql = """
        WITH page AS (
            (SELECT tier_version_id FROM tier_versions WHERE tier_code = $1 AND $3::integer IS NULL AND ($2::integer IS NULL OR version < $2)
            ORDER BY version DESC LIMIT $4)
            UNION ALL
            (SELECT tier_version_id FROM tier_versions WHERE tier_code = $1 AND version > $3::integer ORDER BY version LIMIT $4)
        )
        SELECT o.* FROM page JOIN tier_offers o ON o.tier_version_id = page.tier_version_id ORDER BY o.version DESC
        """
    static let parameters: [PostgresType] = [.text, .int4, .int4, .int8]
    static let columns = tierOfferColumns

    let code: String
    let page: PageRequest<Int32>

    func bind(to binds: inout PostgresBinds) {
        binds.append(code)
        binds.append(page.after)
        binds.append(page.before)
        binds.append(Int64(page.limit + 1))
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> TierRow { try tierRow(&row) }
}

/// The versions in force of the tiers that a tenant may take. Row-level security hides those of others besides.
struct ListTiersOfTenant: PostgresStatement {
    static let sql = """
        SELECT o.* FROM tiers t JOIN tier_offers o ON o.tier_version_id = tier_version_in_force(t.code)
        WHERE t.tenant_id IS NULL OR t.tenant_id = $1
        ORDER BY t.code LIMIT 1000
        """
    static let parameters: [PostgresType] = [.uuid]
    static let columns = tierOfferColumns

    let tenantID: TenantID

    func bind(to binds: inout PostgresBinds) { binds.append(tenantID.postgres) }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> TierRow { try tierRow(&row) }
}

/// A version that the tenant may have been on.
struct FindTierVersionOfTenant: PostgresStatement {
    static let sql = """
        SELECT o.* FROM tier_offers o
        WHERE o.tier_version_id = $1 AND o.state <> 'draft' AND (o.tenant_id IS NULL OR o.tenant_id = $2)
        """
    static let parameters: [PostgresType] = [.uuid, .uuid]
    static let columns = tierOfferColumns

    let id: TierVersionID
    let tenantID: TenantID

    func bind(to binds: inout PostgresBinds) {
        binds.append(id.postgres)
        binds.append(tenantID.postgres)
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> TierRow { try tierRow(&row) }
}

/// Changes no row where the code is taken.
struct InsertTier: PostgresStatement {
    static let sql = "INSERT INTO tiers (code, name, tenant_id) VALUES ($1, $2, $3) ON CONFLICT (code) DO NOTHING"
    static let parameters: [PostgresType] = [.text, .text, .uuid]

    let tier: NewTier

    func bind(to binds: inout PostgresBinds) {
        binds.append(tier.code)
        binds.append(tier.name)
        binds.append(tier.tenantID?.postgres)
    }
}

/// Makes whoever changes a version of the tier wait for whoever does so already, and tells what is there: the last number, the last one
/// that is published and the last one that ever was (0 for none), and the currency.
struct LockTier: PostgresStatement {
    struct Row: Sendable {
        let lastNumber: Int32
        let lastPublished: Int32
        /// Retired ones too: what it cost is what customers know.
        let lastIssued: Int32
        let currency: String?
    }

    static let sql = """
        WITH locked AS MATERIALIZED (SELECT code FROM tiers WHERE code = $1 FOR UPDATE)
        SELECT coalesce((SELECT max(version) FROM tier_versions v WHERE v.tier_code = locked.code), 0),
            coalesce((SELECT max(version) FROM tier_versions v WHERE v.tier_code = locked.code AND v.state = 'published'), 0),
            coalesce((SELECT max(version) FROM tier_versions v WHERE v.tier_code = locked.code AND v.state <> 'draft'), 0),
            (SELECT min(currency) FROM tier_versions v WHERE v.tier_code = locked.code)
        FROM locked
        """
    static let parameters: [PostgresType] = [.text]
    static let columns: [PostgresType] = [.int4, .int4, .int4, .text]

    let code: String

    func bind(to binds: inout PostgresBinds) { binds.append(code) }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> Row {
        Row(
            lastNumber: try row.int32(), lastPublished: try row.int32(), lastIssued: try row.int32(),
            currency: try row.optionalText())
    }
}

struct PublishTierVersion: PostgresStatement {
    static let sql = """
        UPDATE tier_versions SET state = 'published', published_at = clock_timestamp(),
            effective_at = coalesce(effective_at, clock_timestamp())
        WHERE tier_version_id = $1 AND state = 'draft' AND coalesce(effective_at >= clock_timestamp(), true)
        """
    static let parameters: [PostgresType] = [.uuid]

    let id: TierVersionID

    func bind(to binds: inout PostgresBinds) { binds.append(id.postgres) }
}

struct RetireTierVersion: PostgresStatement {
    static let sql = "UPDATE tier_versions SET state = 'retired' WHERE tier_version_id = $1 AND state = 'published'"
    static let parameters: [PostgresType] = [.uuid]

    let id: TierVersionID

    func bind(to binds: inout PostgresBinds) { binds.append(id.postgres) }
}

/// A tier version as the audit log keeps it. Prices are text: a reader of JSON would make floating point of them.
struct DescribeTierVersion: PostgresStatement {
    static let sql = """
        SELECT jsonb_build_object('code', t.code, 'name', t.name, 'tenant_id', t.tenant_id, 'price_version', v.tier_version_id,
            'version', v.version, 'state', v.state, 'currency', v.currency, 'base_fee_micros', v.base_fee_micros,
            'minimum_commitment_micros', v.minimum_commitment_micros, 'included_requests', v.included_requests,
            'included_tokens', v.included_tokens, 'trial_days', v.trial_days, 'effective_at', v.effective_at,
            'cache_hit_token_percent', v.cache_hit_token_percent, 'stream_leave', v.stream_leave,
            'result_ttl_seconds', v.result_ttl_seconds, 'cache_hit_request', v.cache_hit_request, 'failed_request', v.failed_request,
            'prices', (SELECT coalesce(jsonb_agg(jsonb_build_object('meter', p.meter, 'model', p.model,
                'price_model', p.price_model, 'unit_price', p.unit_price::text, 'package_size', p.package_size,
                'bands', (SELECT jsonb_agg(jsonb_build_object('up_to', b.up_to, 'unit_price', b.unit_price::text) ORDER BY b.band)
                    FROM tier_price_bands b WHERE b.tier_version_id = p.tier_version_id AND b.meter = p.meter AND b.model = p.model))
                ORDER BY p.meter, p.model), '[]')
                FROM tier_prices p WHERE p.tier_version_id = v.tier_version_id),
            'multipliers', (SELECT coalesce(jsonb_agg(jsonb_build_object('meter', m.meter, 'model', m.model,
                'multiplier', m.multiplier::text) ORDER BY m.meter, m.model), '[]')
                FROM tier_multipliers m WHERE m.tier_version_id = v.tier_version_id),
            'quotas', (SELECT coalesce(jsonb_agg(jsonb_build_object('unit', q.unit, 'frequency', q.frequency, 'amount', q.amount,
                'mode', q.mode, 'alignment', q.alignment, 'thresholds_percent', q.thresholds_percent) ORDER BY q.unit, q.frequency), '[]')
                FROM tier_quotas q WHERE q.tier_version_id = v.tier_version_id),
            'rate_limits', (SELECT coalesce(jsonb_agg(jsonb_build_object('scope', l.scope, 'unit', l.unit, 'amount', l.amount,
                'burst', l.burst) ORDER BY l.scope, l.unit), '[]')
                FROM tier_rate_limits l WHERE l.tier_version_id = v.tier_version_id))
        FROM tier_versions v JOIN tiers t ON t.code = v.tier_code
        WHERE v.tier_version_id = $1
        """
    static let parameters: [PostgresType] = [.uuid]
    static let columns: [PostgresType] = [.jsonb]

    let id: TierVersionID

    func bind(to binds: inout PostgresBinds) { binds.append(id.postgres) }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> String { try row.jsonText() }
}
