internal import Domain
internal import PostgresDriver

/// Roll-up and the ledger's tail in one snapshot: what the watermark has passed comes from the one, the rest from the other.
///
/// The tail ends below the snapshot's end, as everything that is visible does: a range with two ends is taken for a small one by the planner, and one
/// without an end for a third of the ledger, for which it would start helpers or read all of it.
///
/// The stretches are in order, so the one that an instant falls in is looked up by halving: a year of hours costs hardly more than one stretch.
struct ReadUsage: PostgresStatement {
    static let sql = """
        WITH parts AS (
            SELECT u.bucket_start AS instant, u.model, u.tier_version_id, u.key_id, u.requests_count AS requests, u.input_tokens,
                u.cached_input_tokens, u.output_tokens
            FROM usage u WHERE u.tenant_id = $1 AND u.bucket_start >= ($2)[1] AND u.bucket_start < ($3)[cardinality($3)]
            UNION ALL
            SELECT l.occurred_at, l.model, l.tier_version_id, l.key_id, l.requests, l.input_tokens, l.cached_input_tokens, l.output_tokens
            FROM ledger l
            WHERE l.tenant_id = $1 AND l.tx >= (SELECT position FROM rollup_watermark) AND l.tx < (SELECT pg_snapshot_xmax(pg_current_snapshot()))
                AND l.occurred_at >= ($2)[1] AND l.occurred_at < ($3)[cardinality($3)]
        ), numbered AS (
            SELECT p.*, width_bucket(p.instant, $2) AS number FROM parts p
        )
        SELECT (n.number - 1)::bigint, n.model, n.tier_version_id, CASE WHEN $4 THEN n.key_id END, k.user_id, sum(n.requests)::bigint,
            sum(n.input_tokens)::bigint, sum(n.cached_input_tokens)::bigint, sum(n.output_tokens)::bigint
        FROM numbered n LEFT JOIN api_keys k ON $5 AND k.key_id = n.key_id
        WHERE n.instant < ($3)[n.number]
        GROUP BY 1, 2, 3, 4, 5
        ORDER BY 1, 2, 3, 4, 5
        LIMIT $6 + 1
        """
    static let parameters: [PostgresType] = [.uuid, .timestamptzArray, .timestamptzArray, .bool, .bool, .int8]
    static let columns: [PostgresType] = [.int8, .text, .uuid, .uuid, .uuid, .int8, .int8, .int8, .int8]

    let query: UsageQuery

    func bind(to binds: inout PostgresBinds) {
        binds.append(query.tenantID.postgres)
        binds.append(query.days.map(\.start.postgres))
        binds.append(query.days.map(\.end.postgres))
        binds.append(query.groupsByKey)
        binds.append(query.groupsByUser)
        binds.append(Int64(query.rowLimit))
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> UsageRow {
        UsageRow(
            day: Int(try row.int64()), model: try row.text(), tierVersionID: TierVersionID(try row.uuid()),
            keyID: try row.optionalUUID().map { KeyID($0) }, userID: try row.optionalUUID().map { UserID($0) },
            requests: try row.int64(), inputTokens: try row.int64(), cachedInputTokens: try row.int64(),
            outputTokens: try row.int64())
    }
}

/// As ``ReadUsage``, of the requests that have tags: once for each of them, and once for all those of a request that have no usage of their own.
struct ReadTagUsage: PostgresStatement {
    static let sql = """
        WITH parts AS (
            SELECT u.bucket_start AS instant, u.tag, u.model, u.tier_version_id, u.requests_count AS requests, u.input_tokens,
                u.cached_input_tokens, u.output_tokens
            FROM tag_usage u WHERE u.tenant_id = $1 AND u.bucket_start >= ($2)[1] AND u.bucket_start < ($3)[cardinality($3)]
            UNION ALL
            SELECT e.occurred_at, e.tag, e.model, e.tier_version_id, e.requests, e.input_tokens, e.cached_input_tokens, e.output_tokens
            FROM (
                SELECT DISTINCT l.entry_id, l.occurred_at, l.model, l.tier_version_id, l.requests, l.input_tokens,
                    l.cached_input_tokens, l.output_tokens, CASE WHEN k.tag IS NULL AND (
                        SELECT count(*) FROM usage_tags c WHERE c.tenant_id = $1 AND c.month = usage_month(l.occurred_at)) >= 100
                    THEN 'other' ELSE t.tag END AS tag
                FROM ledger l
                CROSS JOIN LATERAL unnest(l.tags) AS t (tag)
                LEFT JOIN usage_tags k ON k.tenant_id = $1 AND k.month = usage_month(l.occurred_at) AND k.tag = t.tag
                WHERE l.tenant_id = $1 AND l.tags IS NOT NULL AND l.tx >= (SELECT position FROM rollup_watermark) AND l.tx < (SELECT pg_snapshot_xmax(pg_current_snapshot()))
                    AND l.occurred_at >= ($2)[1] AND l.occurred_at < ($3)[cardinality($3)]
            ) e
        ), numbered AS (
            SELECT p.*, width_bucket(p.instant, $2) AS number FROM parts p
        )
        SELECT (n.number - 1)::bigint, n.tag, n.model, n.tier_version_id, sum(n.requests)::bigint, sum(n.input_tokens)::bigint,
            sum(n.cached_input_tokens)::bigint, sum(n.output_tokens)::bigint
        FROM numbered n
        WHERE n.instant < ($3)[n.number]
        GROUP BY 1, 2, 3, 4
        ORDER BY 1, 2, 3, 4
        LIMIT $4 + 1
        """
    static let parameters: [PostgresType] = [.uuid, .timestamptzArray, .timestamptzArray, .int8]
    static let columns: [PostgresType] = [.int8, .text, .text, .uuid, .int8, .int8, .int8, .int8]

    let query: UsageQuery

    func bind(to binds: inout PostgresBinds) {
        binds.append(query.tenantID.postgres)
        binds.append(query.days.map(\.start.postgres))
        binds.append(query.days.map(\.end.postgres))
        binds.append(Int64(query.rowLimit))
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> UsageRow {
        let day = Int(try row.int64())
        let tag = try row.text()
        return UsageRow(
            day: day, model: try row.text(), tierVersionID: TierVersionID(try row.uuid()), keyID: nil, tag: tag,
            requests: try row.int64(), inputTokens: try row.int64(), cachedInputTokens: try row.int64(),
            outputTokens: try row.int64())
    }
}
