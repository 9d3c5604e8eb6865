internal import Domain
internal import PostgresDriver

/// Of exports that were made in the window. As texts, so that a manifest that is no JSON any more is one of the differences;
/// those of before there was `final` are without it.
struct CompareExportManifests: ComparisonStatement {
    static let sql = """
        WITH e AS (
            SELECT export_id FROM exports
            WHERE state = 'completed' AND created_at >= $2 AND created_at < $3 AND \(ComparisonText.ofTenant)
        ), differences AS (
            SELECT 'manifest_differs_from_parts' AS kind, 'exp_' || e.export_id AS id, left(m.manifest, 1000) AS expected,
                left(e.manifest, 1000) AS found
            FROM exports e JOIN e AS own ON own.export_id = e.export_id CROSS JOIN LATERAL (SELECT export_manifest(e) AS manifest) m
            WHERE e.manifest NOT IN (m.manifest, regexp_replace(m.manifest, '"final" : (true|false), ', ''))
        )
        \(ComparisonText.answer)
        """
    static let parameters = ComparisonText.parameters

    let scope: ReconciliationScope
    let limit: Int64
}

/// Of exports of entries that were made in the window. A part is a range of keys, so the primary key of the ledger finds its entries.
struct CompareExportParts: ComparisonStatement {
    static let sql = """
        WITH e AS (
            SELECT * FROM exports
            WHERE state = 'completed' AND created_at >= $2 AND created_at < $3 AND \(ComparisonText.ofTenant)
                AND granularity = 'entries' AND format <> 'focus'
        ), differences AS (
            SELECT 'export_part_differs_from_ledger' AS kind, concat_ws('/', 'exp_' || e.export_id, p.part) AS id,
                concat_ws(' ', l.row_count, l.requests, l.input_tokens, l.cached_input_tokens, l.output_tokens) AS expected,
                concat_ws(' ', p.row_count, p.requests, p.input_tokens, p.cached_input_tokens, p.output_tokens) AS found
            FROM e JOIN export_parts p ON p.export_id = e.export_id CROSS JOIN LATERAL (
                SELECT count(*) AS row_count, coalesce(sum(x.requests), 0) AS requests, coalesce(sum(x.input_tokens), 0) AS input_tokens,
                    coalesce(sum(x.cached_input_tokens), 0) AS cached_input_tokens, coalesce(sum(x.output_tokens), 0) AS output_tokens
                FROM ledger x WHERE x.entry_id >= p.first_entry AND x.entry_id <= p.last_entry AND (e.tenant_id IS NULL OR x.tenant_id = e.tenant_id)
                    AND x.tx >= e.from_position AND x.tx < e.to_position AND x.occurred_at >= e.window_start AND x.occurred_at < e.window_end
            ) l
            WHERE (l.row_count, l.requests, l.input_tokens, l.cached_input_tokens, l.output_tokens)
                IS DISTINCT FROM (p.row_count, p.requests, p.input_tokens, p.cached_input_tokens, p.output_tokens)
            UNION ALL
            SELECT 'export_differs_from_ledger', 'exp_' || e.export_id, l.row_count::text, e.row_count::text
            FROM e CROSS JOIN LATERAL (
                SELECT count(*) AS row_count FROM ledger x WHERE (e.tenant_id IS NULL OR x.tenant_id = e.tenant_id)
                    AND x.tx >= e.from_position AND x.tx < e.to_position AND x.occurred_at >= e.window_start AND x.occurred_at < e.window_end
            ) l
            WHERE l.row_count <> e.row_count
        )
        \(ComparisonText.answer)
        """
    static let parameters = ComparisonText.parameters

    let scope: ReconciliationScope
    let limit: Int64
}

/// A part that is being looked at stands in the server's memory; parts have a bound.
struct CompareExportHashes: ComparisonStatement {
    static let sql = """
        WITH e AS (
            SELECT * FROM exports
            WHERE state = 'completed' AND created_at >= $2 AND created_at < $3 AND \(ComparisonText.ofTenant)
        ), differences AS (
            SELECT 'export_bytes_differ_from_hash' AS kind, concat_ws('/', 'exp_' || e.export_id, p.part) AS id, encode(p.sha256, 'hex') AS expected,
                encode(sha256(b.content), 'hex') AS found
            FROM e JOIN export_parts p ON p.export_id = e.export_id CROSS JOIN LATERAL (
                SELECT string_agg(c.content, ''::bytea ORDER BY c.position) AS content FROM export_pieces c
                WHERE c.export_id = p.export_id AND c.part = p.part AND c.attempt = p.attempt
            ) b
            WHERE e.expires_at > clock_timestamp() AND (b.content IS NULL OR sha256(b.content) <> p.sha256 OR length(b.content) <> p.byte_count)
        )
        \(ComparisonText.answer)
        """
    static let parameters = ComparisonText.parameters

    let scope: ReconciliationScope
    let limit: Int64
}

/// Hours that are over and that wait for nothing: what came since they were looked at is told in a moment.
struct CompareStripe: ComparisonStatement {
    static let sql = """
        WITH c AS (
            SELECT tenant_id, since, coalesce(until, 'infinity') AS until FROM stripe_customers WHERE customer_id IS NOT NULL AND \(ComparisonText.ofTenant)
        ), waiting AS (
            SELECT tenant_id, window_start FROM stripe_windows
            UNION
            SELECT tenant_id, date_trunc('hour', occurred_at, 'UTC') FROM ledger WHERE tx >= (SELECT position FROM stripe_watermark)
        ), l AS (
            SELECT e.tenant_id, date_trunc('hour', e.occurred_at, 'UTC') AS window_start, m.meter, sum(m.value) AS value
            FROM (\(ComparisonText.entries)) e JOIN c ON c.tenant_id = e.tenant_id AND e.occurred_at >= c.since
                AND e.occurred_at < c.until
            CROSS JOIN LATERAL (VALUES ('request', e.requests), ('input_token', e.input_tokens - e.cached_input_tokens),
                ('cached_input_token', e.cached_input_tokens), ('output_token', e.output_tokens)) AS m (meter, value)
            WHERE date_trunc('hour', e.occurred_at, 'UTC') >= $2 AND date_trunc('hour', e.occurred_at, 'UTC') + interval '1 hour' <= $3
            GROUP BY 1, 2, 3
        ), d AS (
            SELECT s.tenant_id, s.window_start, s.meter, sum(s.value) AS value, max(s.identifier) AS identifier
            FROM stripe_deliveries s JOIN c ON c.tenant_id = s.tenant_id
            WHERE s.window_start >= $2 AND s.window_start + interval '1 hour' <= $3 AND s.window_start >= c.since GROUP BY 1, 2, 3
        ), differences AS (
            SELECT 'stripe_differs_from_ledger' AS kind,
                coalesce(d.identifier, concat_ws(':', tenant_id, to_char(window_start AT TIME ZONE 'UTC', 'YYYYMMDD"T"HH24"Z"'), meter)) AS id,
                coalesce(l.value, 0)::text AS expected, coalesce(d.value, 0)::text AS found
            FROM l FULL JOIN d USING (tenant_id, window_start, meter)
            WHERE coalesce(l.value, 0) <> coalesce(d.value, 0) AND window_start + interval '1 hour' <= clock_timestamp()
                AND NOT EXISTS (SELECT FROM waiting w WHERE w.tenant_id = coalesce(l.tenant_id, d.tenant_id)
                    AND w.window_start = coalesce(l.window_start, d.window_start))
            UNION ALL
            SELECT 'stripe_delivery_failed', s.identifier, s.value::text, coalesce(s.last_error, '')
            FROM stripe_deliveries s JOIN c ON c.tenant_id = s.tenant_id
            WHERE s.state = 'failed' AND s.window_start >= $2 AND s.window_start < $3
        )
        \(ComparisonText.answer)
        """
    static let parameters = ComparisonText.parameters

    let scope: ReconciliationScope
    let limit: Int64
}
