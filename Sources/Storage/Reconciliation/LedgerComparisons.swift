internal import Domain
internal import PostgresDriver

/// Requests and entries whose keys were made in the window: a usage entry's key is its request's. What was completed has one,
/// and of what failed that which was charged.
struct CompareRequests: ComparisonStatement {
    static let sql = """
        WITH r AS (
            SELECT request_id, tenant_id, key_id, model, status, input_tokens, output_tokens, tier_version_id,
                CASE WHEN status = 'completed' THEN coalesce(charged_requests, 1) ELSE charged_requests END AS charged FROM requests
            WHERE request_id >= uuid_lower_bound($2) AND request_id < uuid_lower_bound($3) AND \(ComparisonText.ofTenant)
        ), l AS (
            SELECT entry_id, tenant_id, key_id, model, input_tokens, output_tokens, tier_version_id, requests FROM ledger
            WHERE entry_id >= uuid_lower_bound($2) AND entry_id < uuid_lower_bound($3) AND kind = 'usage' AND \(ComparisonText.ofTenant)
        ), differences AS (
            SELECT CASE WHEN l.entry_id IS NULL THEN 'request_without_entry'
                    WHEN r.charged IS NULL THEN 'entry_without_request' ELSE 'entry_differs_from_request' END AS kind,
                CASE WHEN l.entry_id IS NULL THEN 'req_' || r.request_id ELSE 'led_' || l.entry_id END AS id,
                coalesce(concat_ws(' ', r.status, r.tenant_id, r.key_id, r.model, r.input_tokens, r.output_tokens, r.tier_version_id, r.charged), '') AS expected,
                coalesce(concat_ws(' ', l.tenant_id, l.key_id, l.model, l.input_tokens, l.output_tokens, l.tier_version_id, l.requests), '') AS found
            FROM r FULL JOIN l ON l.entry_id = r.request_id
            WHERE l.entry_id IS NULL AND r.charged IS NOT NULL
                OR l.entry_id IS NOT NULL AND (r.tenant_id, r.key_id, r.model, r.input_tokens, r.output_tokens, r.tier_version_id, r.charged)
                    IS DISTINCT FROM (l.tenant_id, l.key_id, l.model, l.input_tokens, l.output_tokens, l.tier_version_id, l.requests)
        )
        \(ComparisonText.answer)
        """
    static let parameters = ComparisonText.parameters

    let scope: ReconciliationScope
    let limit: Int64
}

/// What the watermark has passed: the roll-up is written in the transaction that moves it.
struct CompareUsage: ComparisonStatement {
    static let sql = """
        WITH l AS (
            SELECT tenant_id, usage_bucket(occurred_at) AS bucket_start, key_id, model, tier_version_id, sum(requests) AS requests,
                sum(input_tokens) AS input_tokens, sum(cached_input_tokens) AS cached_input_tokens, sum(output_tokens) AS output_tokens
            FROM (\(ComparisonText.entries)) entries WHERE tx < (SELECT position FROM rollup_watermark) GROUP BY 1, 2, 3, 4, 5
        ), u AS (
            SELECT tenant_id, bucket_start, key_id, model, tier_version_id, requests_count AS requests, input_tokens, cached_input_tokens,
                output_tokens
            FROM usage WHERE bucket_start >= $2 AND bucket_start < $3 AND \(ComparisonText.ofTenant)
        ), differences AS (
            SELECT 'usage_differs_from_ledger' AS kind, concat_ws('/', tenant_id, rfc3339(bucket_start), model, key_id, tier_version_id) AS id,
                concat_ws(' ', l.requests, l.input_tokens, l.cached_input_tokens, l.output_tokens) AS expected, concat_ws(' ', u.requests, u.input_tokens, u.cached_input_tokens, u.output_tokens) AS found
            FROM l FULL JOIN u USING (tenant_id, bucket_start, key_id, model, tier_version_id)
            WHERE (coalesce(l.requests, 0), coalesce(l.input_tokens, 0), coalesce(l.cached_input_tokens, 0), coalesce(l.output_tokens, 0))
                IS DISTINCT FROM (coalesce(u.requests, 0), coalesce(u.input_tokens, 0), coalesce(u.cached_input_tokens, 0),
                    coalesce(u.output_tokens, 0))
        )
        \(ComparisonText.answer)
        """
    static let parameters = ComparisonText.parameters

    let scope: ReconciliationScope
    let limit: Int64
}

/// Requests and tokens by model; errors, cache hits and busy time follow from the request rows and are not compared.
struct CompareModels: ComparisonStatement {
    static let sql = """
        WITH l AS (
            SELECT model, usage_bucket(occurred_at) AS bucket_start, sum(requests) AS requests, sum(input_tokens + output_tokens) AS tokens
            FROM (\(ComparisonText.entries)) entries WHERE tx < (SELECT position FROM rollup_watermark) GROUP BY 1, 2
        ), m AS (
            SELECT model_name AS model, time_window AS bucket_start, request_count AS requests, token_count AS tokens FROM model_usage_metrics
            WHERE time_window >= $2 AND time_window < $3
        ), differences AS (
            SELECT 'model_usage_differs_from_ledger' AS kind, concat_ws('/', model, rfc3339(bucket_start)) AS id,
                concat_ws(' ', l.requests, l.tokens) AS expected, concat_ws(' ', m.requests, m.tokens) AS found
            FROM l FULL JOIN m USING (model, bucket_start)
            WHERE (coalesce(l.requests, 0), coalesce(l.tokens, 0)) IS DISTINCT FROM (coalesce(m.requests, 0), coalesce(m.tokens, 0))
        )
        \(ComparisonText.answer)
        """
    static let parameters = ComparisonText.parameters

    let scope: ReconciliationScope
    let limit: Int64
}

/// Corrections of the window, and what is kept of those that were posted in it.
struct CompareAdjustments: ComparisonStatement {
    static let sql = """
        WITH differences AS (
            SELECT CASE WHEN a.entry_id IS NULL THEN 'correction_without_adjustment' ELSE 'correction_differs_from_adjustment' END AS kind,
                'led_' || l.entry_id AS id, coalesce(concat_ws(' ', a.tenant_id, a.request_id), '') AS expected,
                concat_ws(' ', l.tenant_id, l.request_id) AS found
            FROM (\(ComparisonText.entries)) l LEFT JOIN adjustments a ON a.entry_id = l.entry_id
            WHERE l.kind = 'correction' AND (a.tenant_id, a.request_id) IS DISTINCT FROM (l.tenant_id, l.request_id)
            UNION ALL
            SELECT 'adjustment_without_correction', 'led_' || a.entry_id, 'correction', coalesce(l.kind, '')
            FROM adjustments a LEFT JOIN ledger l ON l.entry_id = a.entry_id
            WHERE a.entry_id >= uuid_lower_bound($2) AND a.entry_id < uuid_lower_bound($3) AND ($1::uuid IS NULL OR a.tenant_id = $1)
                AND l.kind IS DISTINCT FROM 'correction'
        )
        \(ComparisonText.answer)
        """
    static let parameters = ComparisonText.parameters

    let scope: ReconciliationScope
    let limit: Int64
}

/// What the sealer has passed without a seal: it goes in the order of transactions and keys.
struct CompareUnsealed: ComparisonStatement {
    static let sql = """
        WITH differences AS (
            SELECT 'entry_not_sealed' AS kind, 'led_' || e.entry_id AS id, 'a seal' AS expected, '' AS found
            FROM (\(ComparisonText.entries)) e JOIN seal_watermarks w ON w.chain = 'ledger'
            WHERE (e.tx, e.entry_id) <= (w.tx, w.entry_id) AND NOT EXISTS (SELECT FROM sealed_entries s WHERE s.entry_id = e.entry_id)
        )
        \(ComparisonText.answer)
        """
    static let parameters = ComparisonText.parameters

    let scope: ReconciliationScope
    let limit: Int64
}
