internal import Domain
internal import PostgresDriver

/// Of the stay in force, or else of the last one.
struct FindBalanceCurrency: PostgresStatement {
    static let sql = """
        SELECT v.currency FROM subscriptions s JOIN tier_versions v ON v.tier_version_id = s.tier_version_id
        WHERE s.tenant_id = $1 ORDER BY s.ends_at DESC NULLS FIRST, s.starts_at DESC LIMIT 1
        """
    static let parameters: [PostgresType] = [.uuid]
    static let columns: [PostgresType] = [.text]

    let tenantID: TenantID

    func bind(to binds: inout PostgresBinds) { binds.append(tenantID.postgres) }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> String { try row.text() }
}

/// What is left of a stretch of time when the periods of a currency that are taken are taken away, whatever zone they were cut in: those of
/// standing invoices, and those of void ones that are left alone (``FindUnbilled``). No run bills what lies before the first invoice that was
/// issued, so it is not owed.
struct ReadUnbilledStretches: PostgresStatement {
    static let sql = """
        SELECT lower(r), upper(r), t.time_zone
        FROM tenants t
        CROSS JOIN LATERAL (
            SELECT greatest(usage_bucket(least(
                (SELECT min(starts_at) FROM subscriptions WHERE tenant_id = $1),
                (SELECT min(bucket_start) FROM usage WHERE tenant_id = $1))), $3,
                (SELECT min(period_start) FROM invoices WHERE tenant_id = $1 AND kind = 'invoice' AND state <> 'draft')) AS since) b
        CROSS JOIN LATERAL unnest(tstzmultirange(tstzrange(b.since, greatest($4, b.since))) - coalesce((
            SELECT range_agg(tstzrange(i.period_start, i.period_end)) FROM invoices i
            WHERE i.tenant_id = $1 AND i.kind = 'invoice' AND i.currency = $2 AND i.period_end > $3
                AND (i.state IN ('finalised', 'paid') OR i.state = 'void' AND i.reissue IS NOT TRUE)), '{}'::tstzmultirange)) AS r
        WHERE t.tenant_id = $1 AND EXISTS (SELECT FROM subscriptions WHERE tenant_id = $1)
        ORDER BY 1
        """
    static let parameters: [PostgresType] = [.uuid, .text, .timestamptz, .timestamptz]
    static let columns: [PostgresType] = [.timestamptz, .timestamptz, .text]

    let tenantID: TenantID
    let currency: String
    let start: Timestamp
    let end: Timestamp

    func bind(to binds: inout PostgresBinds) {
        binds.append(tenantID.postgres)
        binds.append(currency)
        binds.append(start.postgres)
        binds.append(end.postgres)
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> BalanceStretch {
        BalanceStretch(
            start: Timestamp(try row.timestamp()), end: Timestamp(try row.timestamp()), timeZone: try row.text())
    }
}

/// The last invoiced periods of a currency whose use is not what their standing invoices charge, with what these charge. In one pass over the
/// roll-up, because a look has no time to rate each of them.
struct ReadLateStretches: PostgresStatement {
    static let sql = """
        WITH periods AS MATERIALIZED (
            SELECT DISTINCT ON (period_start) period_start, period_end, time_zone FROM invoices
            WHERE tenant_id = $1 AND kind = 'invoice' AND state IN ('finalised', 'paid') AND currency = $2
            ORDER BY period_start DESC, period_end DESC LIMIT $3
        ), parts AS (
            SELECT p.period_start, u.tier_version_id, u.model, u.requests_count AS requests, u.input_tokens, u.cached_input_tokens,
                u.output_tokens
            FROM periods p JOIN usage u ON u.tenant_id = $1 AND u.bucket_start >= p.period_start AND u.bucket_start < p.period_end
            UNION ALL
            SELECT p.period_start, l.tier_version_id, l.model, l.requests, l.input_tokens, l.cached_input_tokens, l.output_tokens
            FROM periods p JOIN ledger l ON l.tenant_id = $1 AND l.occurred_at >= p.period_start AND l.occurred_at < p.period_end
                AND l.tx >= (SELECT position FROM rollup_watermark)
            UNION ALL
            SELECT u.usage_period_start, u.tier_version_id, u.model, -u.requests, -u.input_tokens, -u.cached_input_tokens,
                -u.output_tokens
            FROM invoices i JOIN invoice_usage u ON u.invoice_id = i.invoice_id
            WHERE i.tenant_id = $1 AND i.state IN ('finalised', 'paid')
                AND u.usage_period_start IN (SELECT period_start FROM periods)
        ), differing AS (
            SELECT DISTINCT period_start FROM (
                SELECT period_start FROM parts JOIN tier_versions v ON v.tier_version_id = parts.tier_version_id AND v.currency = $2
                GROUP BY period_start, parts.tier_version_id, model
                HAVING (sum(requests), sum(input_tokens), sum(cached_input_tokens), sum(output_tokens)) <> (0, 0, 0, 0)) d
        )
        SELECT p.period_start, p.period_end, p.time_zone, (
            SELECT coalesce(sum(l.amount_micros), 0)::bigint FROM invoices i JOIN invoice_lines l ON l.invoice_id = i.invoice_id
            WHERE i.tenant_id = $1 AND i.kind = 'invoice' AND i.state IN ('finalised', 'paid') AND i.currency = $2
                AND i.period_end > p.period_start AND l.span_start >= p.period_start AND l.span_start < p.period_end
                AND l.kind <> 'carried_credit')
        FROM periods p JOIN differing d ON d.period_start = p.period_start
        ORDER BY 1
        """
    static let parameters: [PostgresType] = [.uuid, .text, .int8]
    static let columns: [PostgresType] = [.timestamptz, .timestamptz, .text, .int8]

    let tenantID: TenantID
    let currency: String
    let limit: Int

    func bind(to binds: inout PostgresBinds) {
        binds.append(tenantID.postgres)
        binds.append(currency)
        binds.append(Int64(limit))
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> BalanceStretch {
        BalanceStretch(
            start: Timestamp(try row.timestamp()), end: Timestamp(try row.timestamp()), timeZone: try row.text(),
            billed: Micros(try row.int64()))
    }
}

/// Who of the prepaid tenants has entries of transactions from a position on, and the position for the next time: the oldest transaction that
/// runs, so that none is passed over.
struct ReadPrepaidUse: PostgresStatement {
    struct Entry: Sendable {
        let tenantID: TenantID?
        let earliest: Timestamp?
        let position: String?
    }

    static let sql = """
        SELECT NULL::uuid, NULL::timestamptz, pg_snapshot_xmin(pg_current_snapshot())::text
        UNION ALL
        SELECT l.tenant_id, min(l.occurred_at), NULL FROM ledger l JOIN tenants t ON t.tenant_id = l.tenant_id AND t.prepaid
        WHERE l.tx >= $1::text::xid8 GROUP BY l.tenant_id
        """
    static let parameters: [PostgresType] = [.text]
    static let columns: [PostgresType] = [.uuid, .timestamptz, .text]

    /// `nil` finds nobody.
    let position: String?

    func bind(to binds: inout PostgresBinds) { binds.append(position) }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> Entry {
        Entry(
            tenantID: try row.optionalUUID().map { TenantID($0) },
            earliest: try row.optionalTimestamp().map { Timestamp($0) }, position: try row.optionalText())
    }
}

struct NoteBalance: PostgresStatement {
    static let sql = """
        INSERT INTO prepaid_balances AS b (tenant_id, currency, balance_micros, looked_at) VALUES ($1, $2, $3, $4)
        ON CONFLICT (tenant_id) DO UPDATE SET currency = $2, balance_micros = $3, looked_at = $4
        """
    static let parameters: [PostgresType] = [.uuid, .text, .int8, .timestamptz]

    let tenantID: TenantID
    let balance: PrepaidBalance

    func bind(to binds: inout PostgresBinds) {
        binds.append(tenantID.postgres)
        binds.append(balance.currency)
        binds.append(balance.amount.value)
        binds.append(balance.lookedAt.postgres)
    }
}

/// Of a tenant that pays ahead.
struct FindBalance: PostgresStatement {
    static let sql = """
        SELECT b.currency, b.balance_micros, b.looked_at FROM prepaid_balances b JOIN tenants t ON t.tenant_id = b.tenant_id
        WHERE b.tenant_id = $1 AND t.prepaid
        """
    static let parameters: [PostgresType] = [.uuid]
    static let columns: [PostgresType] = [.text, .int8, .timestamptz]

    let tenantID: TenantID

    func bind(to binds: inout PostgresBinds) { binds.append(tenantID.postgres) }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> PrepaidBalance {
        PrepaidBalance(
            currency: try row.text(), amount: Micros(try row.int64()), lookedAt: Timestamp(try row.timestamp()))
    }
}
