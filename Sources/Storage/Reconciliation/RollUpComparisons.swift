internal import Domain
internal import PostgresDriver

/// What the watermark has passed of hits and left streams, by the ledger and the request rows.
struct CompareTermUsage: ComparisonStatement {
    static let sql = """
        WITH l AS (
            SELECT tenant_id, usage_bucket(occurred_at) AS bucket_start, key_id, model, tier_version_id,
                concat_ws(' ', sum(hits), sum(served_input_tokens), sum(served_output_tokens), sum(hit_input_tokens), sum(hit_cached_input_tokens),
                    sum(hit_output_tokens), sum(left_streams), sum(drained_streams), sum(drained_output_tokens),
                    sum(drained_delivered_tokens)) AS counts
            FROM (\(ComparisonText.settled)) settled
            WHERE occurred_at >= $2 AND occurred_at < $3 AND is_billed AND hits + left_streams > 0
                AND tx < (SELECT position FROM rollup_watermark)
            GROUP BY 1, 2, 3, 4, 5
        ), u AS (
            SELECT tenant_id, bucket_start, key_id, model, tier_version_id,
                concat_ws(' ', hits, served_input_tokens, served_output_tokens, hit_input_tokens, hit_cached_input_tokens, hit_output_tokens,
                    left_streams, drained_streams, drained_output_tokens, drained_delivered_tokens) AS counts
            FROM term_usage WHERE bucket_start >= $2 AND bucket_start < $3 AND \(ComparisonText.ofTenant)
        ), differences AS (
            SELECT 'term_usage_differs_from_ledger' AS kind,
                concat_ws('/', tenant_id, rfc3339(bucket_start), model, key_id, tier_version_id) AS id, coalesce(l.counts, '') AS expected,
                coalesce(u.counts, '') AS found
            FROM l FULL JOIN u USING (tenant_id, bucket_start, key_id, model, tier_version_id)
            WHERE l.counts IS DISTINCT FROM u.counts
        )
        \(ComparisonText.answer)
        """
    static let parameters = ComparisonText.parameters

    let scope: ReconciliationScope
    let limit: Int64
}

/// What the watermark has passed, by minutes; of the last year, because older ones are removed.
struct CompareMinutes: ComparisonStatement {
    static let sql = """
        WITH parts AS (
            SELECT tenant_id, usage_minute(occurred_at) AS minute, requests, input_tokens + output_tokens AS tokens, 0 AS arrivals, 0 AS held_tokens,
                0 AS most_tokens, 0 AS admitted, 0 AS least_tokens, 0 AS busy_us, NULL::timestamptz AS last_end
            FROM (\(ComparisonText.entries)) entries WHERE tx < (SELECT position FROM rollup_watermark)
            UNION ALL
            SELECT tenant_id, usage_minute(arrived_at), 0, 0, arrivals, held_tokens, most_tokens, admitted, least_tokens, busy_us, last_end
            FROM (\(ComparisonText.settled)) settled
            WHERE arrived_at >= $2 AND arrived_at < $3 AND arrivals > 0
                AND (tx < (SELECT position FROM rollup_watermark) OR tx IS NULL AND NOT is_billed)
        ), l AS (
            SELECT tenant_id, minute, concat_ws(' ', sum(requests), sum(tokens), sum(arrivals), sum(held_tokens), sum(most_tokens), sum(admitted),
                sum(least_tokens), sum(busy_us), rfc3339(max(last_end))) AS counts
            FROM parts WHERE minute >= now() - interval '1 year' GROUP BY 1, 2
        ), u AS (
            SELECT tenant_id, minute, concat_ws(' ', requests, tokens, arrivals, held_tokens, most_tokens, admitted, least_tokens, busy_us,
                rfc3339(last_end)) AS counts
            FROM usage_minutes
            WHERE minute >= $2 AND minute < $3 AND minute >= now() - interval '1 year' AND \(ComparisonText.ofTenant)
        ), differences AS (
            SELECT 'minute_usage_differs_from_ledger' AS kind, concat_ws('/', tenant_id, rfc3339(minute)) AS id,
                coalesce(l.counts, '') AS expected, coalesce(u.counts, '') AS found
            FROM l FULL JOIN u USING (tenant_id, minute)
            WHERE l.counts IS DISTINCT FROM u.counts
        )
        \(ComparisonText.answer)
        """
    static let parameters = ComparisonText.parameters

    let scope: ReconciliationScope
    let limit: Int64
}
