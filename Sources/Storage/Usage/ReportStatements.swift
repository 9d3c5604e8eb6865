internal import Domain
internal import PostgresDriver

/// As ``ReadUsage``, of all tenants.
struct ReadReportUsage: PostgresStatement {
    static let sql = """
        WITH parts AS (
            SELECT u.bucket_start AS instant, u.tenant_id, u.model, u.tier_version_id, u.key_id, u.requests_count AS requests,
                u.input_tokens, u.cached_input_tokens, u.output_tokens
            FROM usage u WHERE u.bucket_start >= ($1)[1] AND u.bucket_start < ($2)[cardinality($2)]
            UNION ALL
            SELECT l.occurred_at, l.tenant_id, l.model, l.tier_version_id, l.key_id, l.requests, l.input_tokens, l.cached_input_tokens,
                l.output_tokens
            FROM ledger l
            WHERE l.tx >= (SELECT position FROM rollup_watermark) AND l.tx < (SELECT pg_snapshot_xmax(pg_current_snapshot()))
                AND l.occurred_at >= ($1)[1] AND l.occurred_at < ($2)[cardinality($2)]
        ), numbered AS (
            SELECT p.*, width_bucket(p.instant, $1) AS number FROM parts p
        )
        SELECT CASE WHEN $3 THEN n.tenant_id END, (n.number - 1)::bigint, n.model, n.tier_version_id, CASE WHEN $4 THEN n.key_id END,
            k.user_id, sum(n.requests)::bigint, sum(n.input_tokens)::bigint, sum(n.cached_input_tokens)::bigint,
            sum(n.output_tokens)::bigint
        FROM numbered n LEFT JOIN api_keys k ON $5 AND k.key_id = n.key_id
        WHERE n.instant < ($2)[n.number]
        GROUP BY 1, 2, 3, 4, 5, 6
        ORDER BY 1, 2, 3, 4, 5, 6
        LIMIT $6 + 1
        """
    static let parameters: [PostgresType] = [.timestamptzArray, .timestamptzArray, .bool, .bool, .bool, .int8]
    static let columns: [PostgresType] = [
        .uuid, .int8, .text, .uuid, .uuid, .uuid, .int8, .int8, .int8, .int8,
    ]

    let query: ReportQuery

    func bind(to binds: inout PostgresBinds) {
        binds.append(query.stretches.map(\.start.postgres))
        binds.append(query.stretches.map(\.end.postgres))
        binds.append(query.groupsByTenant)
        binds.append(query.groupsByKey)
        binds.append(query.groupsByUser)
        binds.append(Int64(query.groupLimit))
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> ReportRow {
        let tenantID = try row.optionalUUID().map { TenantID($0) }
        return ReportRow(
            tenantID: tenantID,
            usage: UsageRow(
                day: Int(try row.int64()), model: try row.text(), tierVersionID: TierVersionID(try row.uuid()),
                keyID: try row.optionalUUID().map { KeyID($0) }, userID: try row.optionalUUID().map { UserID($0) },
                requests: try row.int64(), inputTokens: try row.int64(), cachedInputTokens: try row.int64(),
                outputTokens: try row.int64()))
    }
}

/// As ``ReadTagUsage``, of all tenants.
struct ReadReportTagUsage: PostgresStatement {
    static let sql = """
        WITH parts AS (
            SELECT u.bucket_start AS instant, u.tenant_id, u.tag, u.model, u.tier_version_id, u.requests_count AS requests, u.input_tokens,
                u.cached_input_tokens, u.output_tokens
            FROM tag_usage u WHERE u.bucket_start >= ($1)[1] AND u.bucket_start < ($2)[cardinality($2)]
            UNION ALL
            SELECT e.occurred_at, e.tenant_id, e.tag, e.model, e.tier_version_id, e.requests, e.input_tokens, e.cached_input_tokens,
                e.output_tokens
            FROM (
                SELECT DISTINCT l.entry_id, l.occurred_at, l.tenant_id, l.model, l.tier_version_id, l.requests, l.input_tokens,
                    l.cached_input_tokens, l.output_tokens, CASE WHEN k.tag IS NULL AND (
                        SELECT count(*) FROM usage_tags c WHERE c.tenant_id = l.tenant_id AND c.month = usage_month(l.occurred_at)) >= 100
                    THEN 'other' ELSE t.tag END AS tag
                FROM ledger l
                CROSS JOIN LATERAL unnest(l.tags) AS t (tag)
                LEFT JOIN usage_tags k ON k.tenant_id = l.tenant_id AND k.month = usage_month(l.occurred_at) AND k.tag = t.tag
                WHERE l.tags IS NOT NULL AND l.tx >= (SELECT position FROM rollup_watermark) AND l.tx < (SELECT pg_snapshot_xmax(pg_current_snapshot()))
                    AND l.occurred_at >= ($1)[1] AND l.occurred_at < ($2)[cardinality($2)]
            ) e
        ), numbered AS (
            SELECT p.*, width_bucket(p.instant, $1) AS number FROM parts p
        )
        SELECT CASE WHEN $3 THEN tenant_id END, (number - 1)::bigint, tag, model, tier_version_id, sum(requests)::bigint,
            sum(input_tokens)::bigint, sum(cached_input_tokens)::bigint, sum(output_tokens)::bigint
        FROM numbered WHERE instant < ($2)[number]
        GROUP BY 1, 2, 3, 4, 5
        ORDER BY 1, 2, 3, 4, 5
        LIMIT $4 + 1
        """
    static let parameters: [PostgresType] = [.timestamptzArray, .timestamptzArray, .bool, .int8]
    static let columns: [PostgresType] = [.uuid, .int8, .text, .text, .uuid, .int8, .int8, .int8, .int8]

    let query: ReportQuery

    func bind(to binds: inout PostgresBinds) {
        binds.append(query.stretches.map(\.start.postgres))
        binds.append(query.stretches.map(\.end.postgres))
        binds.append(query.groupsByTenant)
        binds.append(Int64(query.groupLimit))
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> ReportRow {
        let tenantID = try row.optionalUUID().map { TenantID($0) }
        let number = Int(try row.int64())
        let tag = try row.text()
        return ReportRow(
            tenantID: tenantID,
            usage: UsageRow(
                day: number, model: try row.text(), tierVersionID: TierVersionID(try row.uuid()), keyID: nil, tag: tag,
                requests: try row.int64(), inputTokens: try row.int64(), cachedInputTokens: try row.int64(),
                outputTokens: try row.int64()))
    }
}

/// Times of answered requests by class: whole days of UTC as days, the edges by quarters of an hour; the tail's are put into classes as the roll-up would.
struct ReadLatencies: PostgresStatement {
    /// Answered requests, whatever was charged for them.
    fileprivate static let answered = """
        SELECT model_name, latency_class, requests_count FROM model_latency_days
            WHERE day >= usage_day($1 + interval '24 hours' - interval '1 microsecond') AND day < usage_day($2)
            UNION ALL
            SELECT model_name, latency_class, requests_count FROM model_latencies
            WHERE time_window >= $1 AND time_window < least($2, date_trunc('day', $1 + interval '24 hours' - interval '1 microsecond', 'UTC'))
            UNION ALL
            SELECT model_name, latency_class, requests_count FROM model_latencies
            WHERE time_window >= greatest($1, date_trunc('day', $2, 'UTC'), date_trunc('day', $1 + interval '24 hours' - interval '1 microsecond', 'UTC'))
                AND time_window < $2
            UNION ALL
            SELECT o.model, latency_class(o.busy_us), 1
            FROM ledger l JOIN request_outcomes o ON o.request_id = l.request_id
            WHERE l.kind = 'usage' AND o.status <> 'failed' AND l.tx >= (SELECT position FROM rollup_watermark)
                AND l.tx < (SELECT pg_snapshot_xmax(pg_current_snapshot())) AND o.created_at >= $1 AND o.created_at < $2
        """
    static let sql = """
        SELECT model_name, latency_class::bigint, sum(requests_count)::bigint FROM (
            \(answered)
        ) parts
        GROUP BY 1, 2 ORDER BY 1, 2
        """
    static let parameters: [PostgresType] = [.timestamptz, .timestamptz]
    static let columns: [PostgresType] = [.text, .int8, .int8]

    let start: Timestamp
    let end: Timestamp

    func bind(to binds: inout PostgresBinds) {
        binds.append(start.postgres)
        binds.append(end.postgres)
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> LatencyCount {
        LatencyCount(model: try row.text(), latencyClass: Int(try row.int64()), requests: try row.int64())
    }
}

/// What came of requests: those that were answered in one row of a model, those that failed by code. What was charged for either is no matter:
/// a failure can be, and a hit of the cache need not be.
struct ReadOutcomes: PostgresStatement {
    static let sql = """
        SELECT model, error_code, http_status, sum(requests)::bigint FROM (
            SELECT model_name AS model, NULL AS error_code, NULL::smallint AS http_status, sum(requests_count)::bigint AS requests
            FROM (
            \(ReadLatencies.answered)
            ) answered
            GROUP BY 1
            UNION ALL
            SELECT model_name, error_code, http_status, sum(requests_count)::bigint FROM model_errors
            WHERE time_window >= $1 AND time_window < $2 GROUP BY 1, 2, 3
            UNION ALL
            SELECT model, coalesce(error_code, ''), coalesce(http_status, 0::smallint), count(*) FROM request_outcomes
            WHERE status = 'failed' AND tx >= (SELECT position FROM rollup_watermark) AND tx < (SELECT pg_snapshot_xmax(pg_current_snapshot())) AND created_at >= $1 AND created_at < $2
            GROUP BY 1, 2, 3
        ) parts
        GROUP BY 1, 2, 3 HAVING sum(requests) <> 0
        ORDER BY 1, 2 NULLS FIRST, 3
        """
    static let parameters: [PostgresType] = [.timestamptz, .timestamptz]
    static let columns: [PostgresType] = [.text, .text, .int2, .int8]

    let start: Timestamp
    let end: Timestamp

    func bind(to binds: inout PostgresBinds) {
        binds.append(start.postgres)
        binds.append(end.postgres)
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> OutcomeCount {
        let model = try row.text()
        let code = try row.optionalText()
        let status = try row.optionalInt16()
        return OutcomeCount(
            model: model, failure: code.map { OutcomeCount.Failure(code: $0, httpStatus: status ?? 0) },
            requests: try row.int64())
    }
}

/// What was invoiced by tier, all versions together. Lines of a credit note take away.
struct ReadInvoicedAmounts: PostgresStatement {
    static let sql = """
        SELECT v.tier_code, i.currency, sum(CASE WHEN i.kind = 'credit_note' THEN -l.amount_micros ELSE l.amount_micros END)::bigint,
            count(DISTINCT i.invoice_id)
        FROM invoices i
        JOIN invoice_lines l USING (invoice_id)
        LEFT JOIN tier_versions v ON v.tier_version_id = l.tier_version_id
        WHERE i.state IN ('finalised', 'paid') AND i.period_start >= $1 AND i.period_start < $2
        GROUP BY 1, 2
        ORDER BY 1 NULLS LAST, 2
        """
    static let parameters: [PostgresType] = [.timestamptz, .timestamptz]
    static let columns: [PostgresType] = [.text, .text, .int8, .int8]

    let start: Timestamp
    let end: Timestamp

    func bind(to binds: inout PostgresBinds) {
        binds.append(start.postgres)
        binds.append(end.postgres)
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> InvoicedAmount {
        InvoicedAmount(
            tier: try row.optionalText(), currency: try row.text(), amount: Micros(try row.int64()),
            invoices: try row.int64())
    }
}

/// One tenant's hours, roll-up and tail; for the tenant itself and for reports alike.
struct ReadHourlyUsage: PostgresStatement {
    static let sql = """
        SELECT floor(extract(epoch FROM instant - $2) / 3600)::bigint, model, sum(requests)::bigint, sum(input_tokens)::bigint,
            sum(cached_input_tokens)::bigint, sum(output_tokens)::bigint
        FROM (
            SELECT u.bucket_start AS instant, u.model, u.requests_count AS requests, u.input_tokens, u.cached_input_tokens, u.output_tokens
            FROM usage u WHERE u.tenant_id = $1 AND u.bucket_start >= $2 AND u.bucket_start < $3
            UNION ALL
            SELECT l.occurred_at, l.model, l.requests, l.input_tokens, l.cached_input_tokens, l.output_tokens
            FROM ledger l
            WHERE l.tenant_id = $1 AND l.tx >= (SELECT position FROM rollup_watermark) AND l.tx < (SELECT pg_snapshot_xmax(pg_current_snapshot())) AND l.occurred_at >= $2 AND l.occurred_at < $3
        ) parts
        GROUP BY 1, 2 ORDER BY 1, 2
        """
    static let parameters: [PostgresType] = [.uuid, .timestamptz, .timestamptz]
    static let columns: [PostgresType] = [.int8, .text, .int8, .int8, .int8, .int8]

    let tenantID: TenantID
    let start: Timestamp
    let end: Timestamp

    func bind(to binds: inout PostgresBinds) {
        binds.append(tenantID.postgres)
        binds.append(start.postgres)
        binds.append(end.postgres)
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> HourlyUsage {
        HourlyUsage(
            hour: Int(try row.int64()), model: try row.text(), requests: try row.int64(), inputTokens: try row.int64(),
            cachedInputTokens: try row.int64(), outputTokens: try row.int64())
    }
}

struct ReadTenantNames: PostgresStatement {
    static let sql = "SELECT tenant_id, name FROM tenants WHERE tenant_id = ANY ($1)"
    static let parameters: [PostgresType] = [.uuidArray]
    static let columns: [PostgresType] = [.uuid, .text]

    let tenants: [TenantID]

    func bind(to binds: inout PostgresBinds) { binds.append(tenants.map(\.postgres)) }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> (tenantID: TenantID, name: String) {
        (TenantID(try row.uuid()), try row.text())
    }
}
