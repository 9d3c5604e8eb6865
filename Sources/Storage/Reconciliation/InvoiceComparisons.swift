internal import Domain
internal import PostgresDriver

/// Of invoices that are issued and whose periods reach into the window.
struct CompareInvoiceSums: ComparisonStatement {
    static let sql = """
        WITH i AS (
            SELECT invoice_id, subtotal_micros, credits_micros FROM invoices
            WHERE state IN ('finalised', 'paid') AND period_start < $3 AND period_end > $2 AND \(ComparisonText.ofTenant)
        ), differences AS (
            SELECT 'invoice_total_differs_from_lines' AS kind, 'inv_' || i.invoice_id AS id, i.subtotal_micros::text AS expected,
                coalesce(sum(n.amount_micros), 0)::text AS found
            FROM i LEFT JOIN invoice_lines n ON n.invoice_id = i.invoice_id GROUP BY i.invoice_id, i.subtotal_micros
            HAVING i.subtotal_micros <> coalesce(sum(n.amount_micros), 0)
            UNION ALL
            SELECT 'invoice_credits_differ_from_grants', 'inv_' || i.invoice_id, i.credits_micros::text, coalesce(sum(a.amount_micros), 0)::text
            FROM i LEFT JOIN credit_applications a ON a.invoice_id = i.invoice_id GROUP BY i.invoice_id, i.credits_micros
            HAVING i.credits_micros <> coalesce(sum(a.amount_micros), 0)
        )
        \(ComparisonText.answer)
        """
    static let parameters = ComparisonText.parameters

    let scope: ReconciliationScope
    let limit: Int64
}

/// The sums first, by the roll-up; only where they differ the ledger itself. What became known after an invoice was issued waits for the next, so an
/// invoice is right if it has what was posted by its draft, by its issue, or by now.
struct CompareInvoiceUsage: ComparisonStatement {
    static let sql = """
        WITH i AS (
            SELECT invoice_id, tenant_id, period_start, period_end, drafted_at, finalised_at FROM invoices
            WHERE kind = 'invoice' AND state IN ('finalised', 'paid') AND period_start < $3 AND period_end > $2 AND \(ComparisonText.ofTenant)
        ), charged AS (
            SELECT i.invoice_id, i.tenant_id, i.period_start, i.period_end, c.tier_version_id, c.model, c.drafted_at, c.finalised_at,
                c.requests, c.input_tokens, c.cached_input_tokens, c.output_tokens
            FROM i CROSS JOIN LATERAL (
                SELECT x.tier_version_id, x.model, max(o.drafted_at) AS drafted_at, max(o.finalised_at) AS finalised_at, sum(x.requests) AS requests,
                    sum(x.input_tokens) AS input_tokens, sum(x.cached_input_tokens) AS cached_input_tokens, sum(x.output_tokens) AS output_tokens
                FROM invoices o JOIN invoice_usage x ON x.invoice_id = o.invoice_id AND x.usage_period_start = i.period_start
                WHERE o.tenant_id = i.tenant_id AND o.state IN ('finalised', 'paid') GROUP BY 1, 2
            ) c
        ), used AS (
            SELECT i.invoice_id, i.tenant_id, i.period_start, i.period_end, i.drafted_at, i.finalised_at, u.tier_version_id, u.model,
                sum(u.requests_count) AS requests, sum(u.input_tokens) AS input_tokens, sum(u.cached_input_tokens) AS cached_input_tokens,
                sum(u.output_tokens) AS output_tokens
            FROM i JOIN usage u ON u.tenant_id = i.tenant_id AND u.bucket_start >= i.period_start AND u.bucket_start < i.period_end
            GROUP BY 1, 2, 3, 4, 5, 6, 7, 8
        ), suspects AS MATERIALIZED (
            SELECT invoice_id, tenant_id, period_start, period_end, tier_version_id, model, coalesce(c.drafted_at, u.drafted_at) AS drafted_at,
                coalesce(c.finalised_at, u.finalised_at) AS finalised_at, coalesce(c.requests, 0) AS requests,
                coalesce(c.input_tokens, 0) AS input_tokens, coalesce(c.cached_input_tokens, 0) AS cached_input_tokens,
                coalesce(c.output_tokens, 0) AS output_tokens
            FROM charged c FULL JOIN used u USING (invoice_id, tenant_id, period_start, period_end, tier_version_id, model)
            WHERE (coalesce(c.requests, 0), coalesce(c.input_tokens, 0), coalesce(c.cached_input_tokens, 0), coalesce(c.output_tokens, 0))
                IS DISTINCT FROM (coalesce(u.requests, 0), coalesce(u.input_tokens, 0), coalesce(u.cached_input_tokens, 0),
                    coalesce(u.output_tokens, 0))
        ), differences AS (
            SELECT 'invoice_usage_differs_from_ledger' AS kind,
                concat_ws('/', 'inv_' || s.invoice_id, s.model, s.tier_version_id) AS id, a.by_now::text AS expected,
                concat_ws(' ', s.requests, s.input_tokens, s.cached_input_tokens, s.output_tokens) AS found
            FROM suspects s CROSS JOIN LATERAL (
                SELECT concat_ws(' ', coalesce(sum(e.requests) FILTER (WHERE e.posted_at <= s.drafted_at), 0),
                        coalesce(sum(e.input_tokens) FILTER (WHERE e.posted_at <= s.drafted_at), 0),
                        coalesce(sum(e.cached_input_tokens) FILTER (WHERE e.posted_at <= s.drafted_at), 0),
                        coalesce(sum(e.output_tokens) FILTER (WHERE e.posted_at <= s.drafted_at), 0)) AS by_draft,
                    concat_ws(' ', coalesce(sum(e.requests) FILTER (WHERE e.posted_at <= s.finalised_at), 0),
                        coalesce(sum(e.input_tokens) FILTER (WHERE e.posted_at <= s.finalised_at), 0),
                        coalesce(sum(e.cached_input_tokens) FILTER (WHERE e.posted_at <= s.finalised_at), 0),
                        coalesce(sum(e.output_tokens) FILTER (WHERE e.posted_at <= s.finalised_at), 0)) AS by_issue,
                    concat_ws(' ', coalesce(sum(e.requests), 0), coalesce(sum(e.input_tokens), 0), coalesce(sum(e.cached_input_tokens), 0),
                        coalesce(sum(e.output_tokens), 0)) AS by_now
                FROM ledger e
                WHERE e.tenant_id = s.tenant_id AND e.tier_version_id = s.tier_version_id AND e.model = s.model
                    AND e.occurred_at >= s.period_start AND e.occurred_at < s.period_end
            ) a
            WHERE concat_ws(' ', s.requests, s.input_tokens, s.cached_input_tokens, s.output_tokens) NOT IN (a.by_draft, a.by_issue, a.by_now)
        )
        \(ComparisonText.answer)
        """
    static let parameters = ComparisonText.parameters

    let scope: ReconciliationScope
    let limit: Int64
}

/// Stretches of months that ended a week ago or earlier, in the tenant's zone now, that no invoice has taken though the tenant was on a tier or used
/// something; and currencies of a month that stands in another, whose invoice is void and to be issued anew and who have a stay or usage. Only of
/// tenants that have been invoiced, from their first invoice on: who never invoices with Weir is in order. What is void and left alone is so on
/// purpose.
struct CompareInvoicePeriods: ComparisonStatement {
    static let sql = """
        WITH issued AS (
            SELECT i.tenant_id, min(i.period_start) FILTER (WHERE i.state <> 'void') AS since,
                coalesce(range_agg(tstzrange(i.period_start, i.period_end)) FILTER (WHERE i.state <> 'void' OR i.reissue IS NOT TRUE), '{}')
                    AS taken,
                date_trunc('month', (now() - interval '7 days') AT TIME ZONE t.time_zone) AT TIME ZONE t.time_zone AS until
            FROM invoices i JOIN tenants t ON t.tenant_id = i.tenant_id
            WHERE i.kind = 'invoice' AND i.state <> 'draft' AND ($1::uuid IS NULL OR i.tenant_id = $1)
            GROUP BY i.tenant_id, t.time_zone
        ), holes AS (
            -- The hours by which a tenant's midnight moved west belong to the next month, which may not be over.
            SELECT tenant_id, whole * tstzrange($2, $3) AS hole
            FROM issued CROSS JOIN LATERAL unnest(tstzmultirange(tstzrange(since, greatest(since, until))) - taken) AS whole
            WHERE since IS NOT NULL AND whole && tstzrange($2, $3)
                AND NOT (upper(whole) = until AND upper(whole) - lower(whole) < interval '48 hours')
        ), missed AS (
            SELECT tenant_id, hole, least(
                (SELECT min(u.bucket_start) FROM usage u
                WHERE u.tenant_id = h.tenant_id AND u.bucket_start >= lower(hole) AND u.bucket_start < upper(hole)),
                (SELECT min(greatest(s.starts_at, lower(hole))) FROM subscriptions s
                WHERE s.tenant_id = h.tenant_id AND s.starts_at < upper(hole) AND coalesce(s.ends_at, 'infinity') > lower(hole))) AS instant
            FROM holes h
        ), differences AS (
            SELECT 'period_not_invoiced' AS kind, concat_ws('/', tenant_id, rfc3339(instant)) AS id,
                concat('an invoice of what was used from ', rfc3339(instant), ' to ', rfc3339(upper(hole))) AS expected, 'none' AS found
            FROM missed WHERE instant IS NOT NULL
            UNION ALL
            SELECT DISTINCT 'period_not_invoiced', concat_ws('/', v.tenant_id, rfc3339(v.period_start), v.currency),
                concat('an invoice in ', v.currency, ' of what was used from ', rfc3339(v.period_start), ' to ', rfc3339(v.period_end)), 'none'
            FROM invoices v
            WHERE v.kind = 'invoice' AND v.state = 'void' AND v.reissue AND v.period_end <= now() - interval '7 days'
                AND v.period_start < $3 AND v.period_end > $2 AND ($1::uuid IS NULL OR v.tenant_id = $1)
                AND EXISTS (SELECT FROM invoices i WHERE i.tenant_id = v.tenant_id AND i.kind = 'invoice' AND i.state IN ('finalised', 'paid')
                    AND i.period_start = v.period_start AND i.period_end = v.period_end)
                AND NOT EXISTS (SELECT FROM invoices i WHERE i.tenant_id = v.tenant_id AND i.kind = 'invoice' AND i.currency = v.currency
                    AND i.period_start = v.period_start AND (i.state IN ('finalised', 'paid') OR i.state = 'void' AND i.reissue IS NOT TRUE))
                AND (EXISTS (SELECT FROM usage u JOIN tier_versions t ON t.tier_version_id = u.tier_version_id AND t.currency = v.currency
                        WHERE u.tenant_id = v.tenant_id AND u.bucket_start >= v.period_start AND u.bucket_start < v.period_end)
                    OR EXISTS (SELECT FROM subscriptions s JOIN tier_versions t
                        ON t.tier_version_id = s.tier_version_id AND t.currency = v.currency
                        WHERE s.tenant_id = v.tenant_id AND s.starts_at < v.period_end
                            AND coalesce(s.ends_at, 'infinity') > v.period_start))
        )
        \(ComparisonText.answer)
        """
    static let parameters = ComparisonText.parameters

    let scope: ReconciliationScope
    let limit: Int64
}

/// Invoices as they were issued; none is without its digest.
struct CompareInvoiceDigests: ComparisonStatement {
    static let sql = """
        WITH differences AS (
            SELECT CASE WHEN i.invoice_id IS NULL THEN 'invoice_missing' ELSE 'invoice_differs_from_digest' END AS kind,
                concat_ws('/', d.issuer, d.number) AS id, encode(d.sha256, 'hex') AS expected, coalesce(encode(n.sha256, 'hex'), '') AS found
            FROM invoice_digests d LEFT JOIN invoices i ON i.invoice_id = d.invoice_id AND i.state <> 'draft'
            CROSS JOIN LATERAL (SELECT CASE WHEN i.invoice_id IS NOT NULL THEN invoice_digest(i.invoice_id) END AS sha256) n
            WHERE d.period_start < $3 AND d.period_end > $2 AND ($1::uuid IS NULL OR d.tenant_id = $1) AND n.sha256 IS DISTINCT FROM d.sha256
            UNION ALL
            SELECT 'invoice_digest_missing', concat_ws('/', i.issuer, i.number), 'a digest', ''
            FROM invoices i
            WHERE i.state <> 'draft' AND i.period_start < $3 AND i.period_end > $2 AND ($1::uuid IS NULL OR i.tenant_id = $1)
                AND NOT EXISTS (SELECT FROM invoice_digests d WHERE d.invoice_id = i.invoice_id)
        )
        \(ComparisonText.answer)
        """
    static let parameters = ComparisonText.parameters

    let scope: ReconciliationScope
    let limit: Int64
}

/// Numbers of all times: 1 to the last that was given, by issuer. A gap is named by its first number.
struct CompareInvoiceNumbers: ComparisonStatement {
    static let sql = """
        WITH given AS (
            SELECT issuer, number, lag(number, 1, 0::bigint) OVER (PARTITION BY issuer ORDER BY number) + 1 AS expected
            FROM invoices WHERE number IS NOT NULL
        ), differences AS (
            SELECT 'invoice_number_missing' AS kind, concat_ws('/', issuer, expected) AS id, expected::text AS expected, number::text AS found
            FROM given WHERE number <> expected
            UNION ALL
            SELECT CASE WHEN l.number < s.last_number THEN 'invoice_number_missing' ELSE 'invoice_number_beyond_last' END,
                concat_ws('/', s.issuer, CASE WHEN l.number < s.last_number THEN l.number + 1 ELSE l.number END), s.last_number::text,
                l.number::text
            FROM invoice_issuers s CROSS JOIN LATERAL (
                SELECT coalesce(max(i.number), 0) AS number FROM invoices i WHERE i.issuer = s.issuer
            ) l
            WHERE l.number <> s.last_number
        )
        \(ComparisonText.answer)
        """
    static let parameters = ComparisonText.parameters

    let scope: ReconciliationScope
    let limit: Int64
}

/// Grants that issued invoices of the window draw on, with all that was ever drawn on them.
struct CompareCreditGrants: ComparisonStatement {
    static let sql = """
        WITH g AS (
            SELECT DISTINCT a.grant_id FROM invoices i JOIN credit_applications a ON a.invoice_id = i.invoice_id
            WHERE i.state IN ('finalised', 'paid') AND i.period_start < $3 AND i.period_end > $2 AND ($1::uuid IS NULL OR i.tenant_id = $1)
        ), differences AS (
            SELECT 'credit_grant_overdrawn' AS kind, g.grant_id::text AS id, coalesce(c.amount_micros, 0)::text AS expected, u.used::text AS found
            FROM g LEFT JOIN credit_grants c ON c.grant_id = g.grant_id CROSS JOIN LATERAL (
                SELECT sum(a.amount_micros) AS used FROM credit_applications a JOIN invoices i ON i.invoice_id = a.invoice_id
                WHERE a.grant_id = g.grant_id AND i.state IN ('finalised', 'paid')
            ) u
            WHERE u.used > coalesce(c.amount_micros, 0)
        )
        \(ComparisonText.answer)
        """
    static let parameters = ComparisonText.parameters

    let scope: ReconciliationScope
    let limit: Int64
}
