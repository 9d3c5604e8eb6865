internal import Domain
internal import PostgresDriver

private let keyColumns: [PostgresType] =
    [
        .uuid, .text, .uuid, .text, .text, .text, .textArray, .textArray, .timestamptz, .timestamptz, .timestamptz,
    ] + rateLimitColumns

private func keyRow(_ row: inout PostgresRow) throws(PostgresError) -> KeyRow {
    let id = KeyID(try row.uuid())
    let publicID = try row.text()
    let tenantID = try row.optionalUUID().map { TenantID($0) }
    let name = try row.text()
    guard let environment = APIKey.Environment(rawValue: try row.text()) else {
        throw row.failure(4, "is no environment of a key")
    }
    return KeyRow(
        id: id, publicID: publicID, tenantID: tenantID, name: name, environment: environment, lastFour: try row.text(),
        scopes: Set(try row.array(of: String.self).compactMap { Scope(rawValue: $0) }),
        allowedModels: try row.optionalArray(of: String.self).map { Set($0) },
        createdAt: Timestamp(try row.timestamp()),
        expiresAt: try row.optionalTimestamp().map { Timestamp($0) },
        revokedAt: try row.optionalTimestamp().map { Timestamp($0) }, rateLimits: try rateLimitRules(&row))
}

struct ListKeys: PostgresStatement {
    static let sql = """
        WITH page AS (
            (SELECT key_id FROM api_keys
            WHERE tenant_id = $4 AND $2::uuid IS NULL
                AND key_id < coalesce($1::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
            ORDER BY key_id DESC LIMIT $3)
            UNION ALL
            (SELECT key_id FROM api_keys WHERE tenant_id = $4 AND key_id > $2::uuid ORDER BY key_id LIMIT $3)
        )
        SELECT k.key_id, k.public_id, k.tenant_id, k.name, k.environment, k.last_four, k.scopes, k.allowed_models, k.created_at,
            k.expires_at, k.revoked_at, l.scopes, l.units, l.amounts, l.bursts
        FROM page JOIN api_keys k ON k.key_id = page.key_id
        CROSS JOIN LATERAL (
            SELECT coalesce(array_agg('key'::text ORDER BY unit), '{}') AS scopes,
                coalesce(array_agg(unit ORDER BY unit), '{}') AS units,
                coalesce(array_agg(coalesce(amount, -1) ORDER BY unit), '{}') AS amounts,
                coalesce(array_agg(coalesce(burst, -1) ORDER BY unit), '{}') AS bursts
            FROM key_rate_limits WHERE key_id = k.key_id
        ) l
        ORDER BY k.key_id DESC
        """
    static let parameters: [PostgresType] = [.uuid, .uuid, .int8, .uuid]
    static let columns = keyColumns

    let tenantID: TenantID
    let page: PageRequest<KeyID>

    func bind(to binds: inout PostgresBinds) {
        binds.append(page.after?.postgres)
        binds.append(page.before?.postgres)
        binds.append(Int64(page.limit + 1))
        binds.append(tenantID.postgres)
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> KeyRow { try keyRow(&row) }
}

struct FindKey: PostgresStatement {
    static let sql = """
        SELECT k.key_id, k.public_id, k.tenant_id, k.name, k.environment, k.last_four, k.scopes, k.allowed_models, k.created_at,
            k.expires_at, k.revoked_at, l.scopes, l.units, l.amounts, l.bursts
        FROM api_keys k
        CROSS JOIN LATERAL (
            SELECT coalesce(array_agg('key'::text ORDER BY unit), '{}') AS scopes,
                coalesce(array_agg(unit ORDER BY unit), '{}') AS units,
                coalesce(array_agg(coalesce(amount, -1) ORDER BY unit), '{}') AS amounts,
                coalesce(array_agg(coalesce(burst, -1) ORDER BY unit), '{}') AS bursts
            FROM key_rate_limits WHERE key_id = k.key_id
        ) l
        WHERE k.key_id = $1 OR k.public_id = $2
        """
    static let parameters: [PostgresType] = [.uuid, .text]
    static let columns = keyColumns

    let key: KeyReference

    func bind(to binds: inout PostgresBinds) {
        switch key {
        case .id(let id):
            binds.append(id.postgres)
            binds.appendNull(.text)
        case .publicID(let publicID):
            binds.appendNull(.uuid)
            binds.append(publicID.description)
        }
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> KeyRow { try keyRow(&row) }
}

struct InsertKey: PostgresStatement {
    static let sql = """
        INSERT INTO api_keys (key_id, tenant_id, user_id, public_id, digest, environment, last_four, name, scopes, allowed_models,
            expires_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
        """
    static let parameters: [PostgresType] = [
        .uuid, .uuid, .uuid, .text, .bytea, .text, .text, .text, .textArray, .textArray, .timestamptz,
    ]

    let id: KeyID
    /// `nil` for an admin key.
    let tenantID: TenantID?
    let userID: UserID?
    let key: APIKey
    let digest: [UInt8]
    let name: String
    let scopes: Set<Scope>
    let allowedModels: Set<String>?
    let expiresAt: Timestamp?

    func bind(to binds: inout PostgresBinds) {
        binds.append(id.postgres)
        binds.append(tenantID?.postgres)
        binds.append(userID?.postgres)
        binds.append(key.publicID.description)
        binds.append(digest)
        binds.append(key.environment.rawValue)
        binds.append(key.lastFour)
        binds.append(name)
        binds.append(scopes.map(\.rawValue).sorted())
        if let allowedModels { binds.append(allowedModels.sorted()) } else { binds.appendNull(.textArray) }
        binds.append(expiresAt?.postgres)
    }
}

/// Makes a key work again whose digest was made under another pepper.
struct ReplaceKeyDigest: PostgresStatement {
    static let sql = "UPDATE api_keys SET digest = $2 WHERE key_id = $1 AND digest <> $2"
    static let parameters: [PostgresType] = [.uuid, .bytea]

    let id: KeyID
    let digest: [UInt8]

    func bind(to binds: inout PostgresBinds) {
        binds.append(id.postgres)
        binds.append(digest)
    }
}

struct RevokeKey: PostgresStatement {
    static let sql = "UPDATE api_keys SET revoked_at = clock_timestamp() WHERE key_id = $1 AND revoked_at IS NULL"
    static let parameters: [PostgresType] = [.uuid]

    let id: KeyID

    func bind(to binds: inout PostgresBinds) { binds.append(id.postgres) }
}

/// A key as the audit log keeps it: never its digest.
struct DescribeKey: PostgresStatement {
    static let sql = """
        SELECT jsonb_build_object('public_id', public_id, 'name', name, 'environment', environment, 'last_four', last_four,
            'scopes', to_jsonb(scopes), 'allowed_models', to_jsonb(allowed_models), 'expires_at', expires_at, 'revoked_at', revoked_at,
            'rate_limits', (SELECT coalesce(jsonb_agg(jsonb_build_object('unit', l.unit, 'amount', l.amount, 'burst', l.burst)
                ORDER BY l.unit), '[]') FROM key_rate_limits l WHERE l.key_id = k.key_id))
        FROM api_keys k WHERE key_id = $1
        """
    static let parameters: [PostgresType] = [.uuid]
    static let columns: [PostgresType] = [.jsonb]

    let id: KeyID

    func bind(to binds: inout PostgresBinds) { binds.append(id.postgres) }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> String { try row.jsonText() }
}
