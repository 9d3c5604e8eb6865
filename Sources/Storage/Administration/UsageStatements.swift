internal import Domain
internal import PostgresDriver

/// Roll-up and the ledger's tail in one snapshot: what the watermark has passed comes from the one, the rest from the
/// other.
struct ReadTotalUsage: PostgresStatement {
    static let sql = """
        WITH stretches AS (
            SELECT * FROM unnest($2::text[], $3::timestamptz[], $4::timestamptz[])
                WITH ORDINALITY AS d (time_zone, stretch_start, stretch_end, number)
        ), parts AS (
            SELECT u.tenant_id, d.number, u.model, u.tier_version_id, u.key_id, u.requests_count AS requests, u.input_tokens,
                u.cached_input_tokens, u.output_tokens
            FROM usage u
            JOIN tenants t ON t.tenant_id = u.tenant_id
            JOIN stretches d ON (d.time_zone IS NULL OR d.time_zone = t.time_zone)
                AND u.bucket_start >= d.stretch_start AND u.bucket_start < d.stretch_end
            WHERE $1::uuid IS NULL OR u.tenant_id = $1
            UNION ALL
            SELECT l.tenant_id, d.number, l.model, l.tier_version_id, l.key_id, l.requests, l.input_tokens, l.cached_input_tokens,
                l.output_tokens
            FROM ledger l
            JOIN tenants t ON t.tenant_id = l.tenant_id
            JOIN stretches d ON (d.time_zone IS NULL OR d.time_zone = t.time_zone)
                AND l.occurred_at >= d.stretch_start AND l.occurred_at < d.stretch_end
            WHERE ($1::uuid IS NULL OR l.tenant_id = $1) AND l.tx >= (SELECT position FROM rollup_watermark)
        )
        SELECT p.tenant_id, p.number - 1, p.model, p.tier_version_id, CASE WHEN $5 THEN p.key_id END, k.user_id,
            sum(p.requests)::bigint, sum(p.input_tokens)::bigint, sum(p.cached_input_tokens)::bigint, sum(p.output_tokens)::bigint
        FROM parts p LEFT JOIN api_keys k ON $6 AND k.key_id = p.key_id
        GROUP BY 1, 2, 3, 4, 5, 6
        ORDER BY 1, 2, 3, 4, 5, 6
        """
    static let parameters: [PostgresType] = [.uuid, .textArray, .timestamptzArray, .timestamptzArray, .bool, .bool]
    static let columns: [PostgresType] = [
        .uuid, .int8, .text, .uuid, .uuid, .uuid, .int8, .int8, .int8, .int8,
    ]

    let query: TotalUsageQuery

    func bind(to binds: inout PostgresBinds) {
        binds.append(query.tenantID?.postgres)
        binds.appendArray(of: .text, count: query.stretches.count) { array in
            for stretch in query.stretches { array.append(stretch.timeZone) }
        }
        binds.append(query.stretches.map(\.start.postgres))
        binds.append(query.stretches.map(\.end.postgres))
        binds.append(query.groupsByKey)
        binds.append(query.groupsByUser)
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> TenantUsageRow {
        TenantUsageRow(
            tenantID: TenantID(try row.uuid()),
            usage: UsageRow(
                day: Int(try row.int64()), model: try row.text(), tierVersionID: TierVersionID(try row.uuid()),
                keyID: try row.optionalUUID().map { KeyID($0) }, userID: try row.optionalUUID().map { UserID($0) },
                requests: try row.int64(), inputTokens: try row.int64(),
                cachedInputTokens: try row.int64(), outputTokens: try row.int64()))
    }
}

struct ListTimeZones: PostgresStatement {
    static let sql = "SELECT DISTINCT time_zone FROM tenants ORDER BY time_zone"
    static let columns: [PostgresType] = [.text]

    static func row(from row: inout PostgresRow) throws(PostgresError) -> String { try row.text() }
}
