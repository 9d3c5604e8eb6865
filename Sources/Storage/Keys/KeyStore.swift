public import Domain
public import PostgresDriver

/// Reads keys for authentication, as the role that may see those of all tenants.
public struct KeyStore: KeyDirectory {
    private let pool: PostgresPool

    /// - Parameter pool: connections of the role `weir_directory`.
    public init(pool: PostgresPool) { self.pool = pool }

    public func find(_ publicIDs: [APIKey.PublicID]) async throws(StoreUnavailable) -> [KeyRecord] {
        do throws(PostgresError) {
            return try await pool.execute(FindKeys(publicIDs: publicIDs.map(\.description))).compactMap { $0 }
        } catch {
            throw StoreUnavailable(error)
        }
    }

    public func generation() async throws(StoreUnavailable) -> Int64 {
        do throws(PostgresError) {
            return try await pool.execute(ReadGeneration()).first ?? 0
        } catch {
            throw StoreUnavailable(error)
        }
    }
}

struct ReadGeneration: PostgresStatement {
    static let sql = "SELECT value FROM control_generation"
    static let columns: [PostgresType] = [.int8]

    static func row(from row: inout PostgresRow) throws(PostgresError) -> Int64 { try row.int64() }
}

/// Few quotas are raised, and a gateway reads all its keys anew at every change: the others are spared the function.
struct FindKeys: PostgresStatement {
    static let sql = """
        SELECT k.key_id, k.public_id, k.digest, k.tenant_id, k.user_id, k.environment, k.scopes, k.allowed_models, k.expires_at,
            k.revoked_at, CASE WHEN t.state = 'active' AND t.is_exhausted THEN 'exhausted' ELSE t.state END, t.time_zone, t.retention,
            s.tier_version_id, q.ids, q.units, q.frequencies, q.amounts, q.modes,
            q.levels, q.anchors, t.retention_max_bytes, t.retention_generation, l.scopes, l.units, l.amounts, l.bursts,
            t.receipts, e.at, e.before_id, e.after_id, b.currency, b.balance_micros, b.looked_at
        FROM api_keys k
        LEFT JOIN tenants t ON t.tenant_id = k.tenant_id
        LEFT JOIN subscriptions s ON s.tenant_id = k.tenant_id AND s.ends_at IS NULL
        LEFT JOIN prepaid_balances b ON b.tenant_id = k.tenant_id AND t.is_exhausted
        LEFT JOIN LATERAL (
            SELECT c.due_at AS at, s.tier_version_id AS before_id, c.tier_version_id AS after_id
            FROM subscription_changes c JOIN tier_versions v ON v.tier_version_id = c.tier_version_id AND v.state = 'published'
            WHERE c.tenant_id = k.tenant_id AND c.state = 'scheduled'
            UNION ALL
            SELECT s.starts_at, p.tier_version_id, s.tier_version_id
            FROM subscriptions p
            WHERE p.tenant_id = k.tenant_id AND p.ends_at = s.starts_at AND s.starts_at > now() - interval '10 minutes'
            ORDER BY 1 DESC LIMIT 1
        ) e ON s.tier_version_id IS NOT NULL
        LEFT JOIN LATERAL (
            SELECT array_agg(quota_id ORDER BY quota_id) AS ids, array_agg(unit ORDER BY quota_id) AS units,
                array_agg(frequency ORDER BY quota_id) AS frequencies,
                array_agg(CASE WHEN EXISTS (SELECT FROM quota_raises r WHERE r.quota_id = quotas.quota_id)
                    THEN quota_limit(quota_id, amount, now()) ELSE amount END ORDER BY quota_id) AS amounts,
                array_agg(mode ORDER BY quota_id) AS modes, array_agg(anchor ORDER BY quota_id) AS anchors,
                array_agg(CASE WHEN user_id IS NOT NULL THEN 'user' WHEN key_id IS NOT NULL THEN 'key' ELSE 'tenant' END ORDER BY quota_id)
                    AS levels
            FROM quotas WHERE quotas.tenant_id = k.tenant_id AND quotas.retired_at IS NULL
                AND (quotas.user_id IS NULL OR quotas.user_id = k.user_id) AND (quotas.key_id IS NULL OR quotas.key_id = k.key_id)
        ) q ON true
        LEFT JOIN LATERAL (
            SELECT array_agg(scope ORDER BY scope, unit) AS scopes, array_agg(unit ORDER BY scope, unit) AS units,
                array_agg(amount ORDER BY scope, unit) AS amounts, array_agg(coalesce(burst, -1) ORDER BY scope, unit) AS bursts
            FROM rate_limits_in_force(k.key_id, s.subscription_id, s.tier_version_id)
        ) l ON true
        WHERE k.public_id = ANY ($1)
        """
    static let parameters: [PostgresType] = [.textArray]
    static let columns: [PostgresType] =
        [
            .uuid, .text, .bytea, .uuid, .uuid, .text, .textArray, .textArray, .timestamptz, .timestamptz, .text, .text,
            .text, .uuid,
            .uuidArray, .textArray, .textArray, .int8Array, .textArray, .textArray, .timestamptzArray,
            .int4, .int4,
        ] + rateLimitColumns + [.text, .timestamptz, .uuid, .uuid, .text, .int8, .timestamptz]

    let publicIDs: [String]

    func bind(to binds: inout PostgresBinds) { binds.append(publicIDs) }

    /// - Returns: `nil` for a row whose public id is none, which the table's CHECK rules out.
    static func row(from row: inout PostgresRow) throws(PostgresError) -> KeyRecord? {
        let keyID = KeyID(try row.uuid())
        guard let publicID = APIKey.PublicID(try row.text()) else { return nil }
        let digest = try row.bytes()
        let tenantID = try row.optionalUUID().map { TenantID($0) }
        let userID = try row.optionalUUID().map { UserID($0) }
        let environment = APIKey.Environment(rawValue: try row.text()) ?? .test
        // A scope that this build does not know is left out: a newer one must not widen an older gateway.
        let scopes = Set(try row.array(of: String.self).compactMap { Scope(rawValue: $0) })
        let allowedModels = try row.optionalArray(of: String.self).map { Set($0) }
        let expiresAt = try row.optionalTimestamp().map { Timestamp($0) }
        let revokedAt = try row.optionalTimestamp().map { Timestamp($0) }
        let state = try row.optionalText()
        let timeZone = try row.optionalText() ?? "UTC"
        let retention = Retention(rawValue: try row.optionalText() ?? "") ?? .none
        let tier = try row.optionalUUID().map { TierVersionID($0) }
        let quotas = try quotas(&row)
        let retentionBytes = Int(try row.optionalInt32() ?? 0)
        let retentionGeneration = try row.optionalInt32() ?? 0
        let rateLimits = RateLimits(try rateLimitRules(&row))
        let receipts = ReceiptForm(rawValue: try row.optionalText() ?? "") ?? .none
        let edge = try tierEdge(&row)
        let balance = try balance(&row)
        let holder: KeyRecord.Holder
        if let tenantID {
            let principal = Principal(
                tenantID: tenantID, keyID: keyID, userID: userID, scopes: scopes, allowedModels: allowedModels,
                environment: environment, tierVersionID: tier ?? TierVersionID(high: 0, low: 0), quotas: quotas,
                rateLimits: rateLimits, timeZone: timeZone,
                retention: retention, retentionBytes: retentionBytes, retentionGeneration: retentionGeneration,
                receipts: receipts, tierEdge: edge)
            let standing: KeyRecord.TenantState =
                switch state {
                case "active": tier == nil ? .unsubscribed : .active
                case "exhausted": tier == nil ? .unsubscribed : .exhausted(balance)
                default: .suspended
                }
            holder = .customer(principal, standing)
        } else {
            holder = .admin(AdminPrincipal(keyID: keyID, publicID: publicID, scopes: scopes))
        }
        return KeyRecord(publicID: publicID, digest: digest, expiresAt: expiresAt, revokedAt: revokedAt, holder: holder)
    }

    private static func tierEdge(_ row: inout PostgresRow) throws(PostgresError) -> TierEdge? {
        let at = try row.optionalTimestamp()
        let before = try row.optionalUUID()
        let after = try row.optionalUUID()
        guard let at, let before, let after else { return nil }
        return TierEdge(at: Timestamp(at), before: TierVersionID(before), after: TierVersionID(after))
    }

    private static func balance(_ row: inout PostgresRow) throws(PostgresError) -> PrepaidBalance? {
        let currency = try row.optionalText()
        let amount = try row.optionalInt64()
        let lookedAt = try row.optionalTimestamp()
        guard let currency, let amount, let lookedAt else { return nil }
        return PrepaidBalance(currency: currency, amount: Micros(amount), lookedAt: Timestamp(lookedAt))
    }

    private static func quotas(_ row: inout PostgresRow) throws(PostgresError) -> [Quota] {
        let ids = try row.optionalArray(of: PostgresUUID.self) ?? []
        let units = try row.optionalArray(of: String.self) ?? []
        let frequencies = try row.optionalArray(of: String.self) ?? []
        let amounts = try row.optionalArray(of: Int64.self) ?? []
        let modes = try row.optionalArray(of: String.self) ?? []
        let levels = try row.optionalArray(of: String.self) ?? []
        let anchors = try row.optionalArrayWithNulls(of: PostgresTimestamp.self) ?? []
        return ids.indices.compactMap { index -> Quota? in
            guard let unit = QuotaUnit(rawValue: units[index]), let frequency = Frequency(rawValue: frequencies[index]),
                let mode = QuotaMode(rawValue: modes[index]), let level = QuotaLevel(rawValue: levels[index])
            else { return nil }
            return Quota(
                id: QuotaID(ids[index]), unit: unit, frequency: frequency, amount: amounts[index], mode: mode,
                level: level, anchor: anchors[index].map { Timestamp($0) })
        }
    }
}
