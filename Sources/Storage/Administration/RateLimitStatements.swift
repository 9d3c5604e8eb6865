internal import Domain
internal import PostgresDriver

/// The columns in which statements hand out rate limits: one array for each part, -1 for an amount or a burst that is not there.
let rateLimitColumns: [PostgresType] = [.textArray, .textArray, .int8Array, .int8Array]

/// Reads ``rateLimitColumns``. A scope or unit that this build does not know is left out.
func rateLimitRules(_ row: inout PostgresRow) throws(PostgresError) -> [RateLimitRule] {
    let scopes = try row.optionalArray(of: String.self) ?? []
    let units = try row.optionalArray(of: String.self) ?? []
    let amounts = try row.optionalArray(of: Int64.self) ?? []
    let bursts = try row.optionalArray(of: Int64.self) ?? []
    return scopes.indices.compactMap { index in
        guard let scope = RateScope(rawValue: scopes[index]), let unit = RateUnit(rawValue: units[index]) else {
            return nil
        }
        return RateLimitRule(
            scope: scope, unit: unit, amount: amounts[index] < 0 ? nil : amounts[index],
            burst: bursts[index] < 0 ? nil : bursts[index])
    }
}

struct InsertTierRateLimits: PostgresStatement {
    static let sql = """
        INSERT INTO tier_rate_limits (tier_version_id, scope, unit, amount, burst)
        SELECT $1, l.scope, l.unit, l.amount, nullif(l.burst, -1)
        FROM unnest($2::text[], $3::text[], $4::bigint[], $5::bigint[]) AS l (scope, unit, amount, burst)
        """
    static let parameters: [PostgresType] = [.uuid, .textArray, .textArray, .int8Array, .int8Array]

    let tierVersionID: TierVersionID
    let limits: [RateLimitRule]

    func bind(to binds: inout PostgresBinds) {
        binds.append(tierVersionID.postgres)
        binds.append(limits)
    }
}

/// Takes away what the subscription in force says otherwise than its tier.
struct DeleteSubscriptionRateLimits: PostgresStatement {
    static let sql = """
        DELETE FROM subscription_rate_limits l USING subscriptions s
        WHERE s.tenant_id = $1 AND s.ends_at IS NULL AND l.subscription_id = s.subscription_id
        """
    static let parameters: [PostgresType] = [.uuid]

    let tenantID: TenantID

    func bind(to binds: inout PostgresBinds) { binds.append(tenantID.postgres) }
}

/// Adds what the subscription in force says otherwise than its tier; nothing where none is in force.
struct InsertSubscriptionRateLimits: PostgresStatement {
    static let sql = """
        INSERT INTO subscription_rate_limits (subscription_id, tenant_id, scope, unit, amount, burst)
        SELECT s.subscription_id, s.tenant_id, l.scope, l.unit, nullif(l.amount, -1), nullif(l.burst, -1)
        FROM subscriptions s
        CROSS JOIN unnest($2::text[], $3::text[], $4::bigint[], $5::bigint[]) AS l (scope, unit, amount, burst)
        WHERE s.tenant_id = $1 AND s.ends_at IS NULL
        """
    static let parameters: [PostgresType] = [.uuid, .textArray, .textArray, .int8Array, .int8Array]

    let tenantID: TenantID
    let limits: [RateLimitRule]

    func bind(to binds: inout PostgresBinds) {
        binds.append(tenantID.postgres)
        binds.append(limits)
    }
}

struct DeleteKeyRateLimits: PostgresStatement {
    static let sql = "DELETE FROM key_rate_limits WHERE key_id = $1"
    static let parameters: [PostgresType] = [.uuid]

    let keyID: KeyID

    func bind(to binds: inout PostgresBinds) { binds.append(keyID.postgres) }
}

struct InsertKeyRateLimits: PostgresStatement {
    static let sql = """
        INSERT INTO key_rate_limits (key_id, tenant_id, unit, amount, burst)
        SELECT k.key_id, k.tenant_id, l.unit, nullif(l.amount, -1), nullif(l.burst, -1)
        FROM api_keys k
        CROSS JOIN unnest($2::text[], $3::text[], $4::bigint[], $5::bigint[]) AS l (scope, unit, amount, burst)
        WHERE k.key_id = $1
        """
    static let parameters: [PostgresType] = [.uuid, .textArray, .textArray, .int8Array, .int8Array]

    let keyID: KeyID
    let limits: [RateLimitRule]

    func bind(to binds: inout PostgresBinds) {
        binds.append(keyID.postgres)
        binds.append(limits)
    }
}

/// Keeps two changes of one key apart.
struct LockKey: PostgresStatement {
    static let sql = "SELECT key_id FROM api_keys WHERE key_id = $1 FOR UPDATE"
    static let parameters: [PostgresType] = [.uuid]
    static let columns: [PostgresType] = [.uuid]

    let id: KeyID

    func bind(to binds: inout PostgresBinds) { binds.append(id.postgres) }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> KeyID { KeyID(try row.uuid()) }
}

extension PostgresBinds {
    /// The four arrays that the statements of this file unnest.
    fileprivate mutating func append(_ limits: [RateLimitRule]) {
        append(limits.map(\.scope.rawValue))
        append(limits.map(\.unit.rawValue))
        append(limits.map { $0.amount ?? -1 })
        append(limits.map { $0.burst ?? -1 })
    }
}
