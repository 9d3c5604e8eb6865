internal import Domain
internal import PostgresDriver

/// The periods before an instant that have a standing invoice of their own, with the currencies that have one and those that had one that is
/// void and left alone.
struct ReadBilledPeriods: PostgresStatement {
    struct Entry: Sendable {
        let start: Timestamp
        let end: Timestamp
        let timeZone: String
        let standing: [String]
        let void: [String]
    }

    static let sql = """
        SELECT period_start, max(period_end) FILTER (WHERE state <> 'void'), max(time_zone) FILTER (WHERE state <> 'void'),
            array_agg(DISTINCT currency) FILTER (WHERE state <> 'void'),
            coalesce(array_agg(DISTINCT currency) FILTER (WHERE state = 'void'), '{}')
        FROM invoices
        WHERE tenant_id = $1 AND kind = 'invoice' AND (state IN ('finalised', 'paid') OR state = 'void' AND reissue IS NOT TRUE)
            AND period_start < $2
        GROUP BY period_start HAVING bool_or(state <> 'void')
        ORDER BY period_start DESC LIMIT $3
        """
    static let parameters: [PostgresType] = [.uuid, .timestamptz, .int8]
    static let columns: [PostgresType] = [.timestamptz, .timestamptz, .text, .textArray, .textArray]

    let tenantID: TenantID
    let before: Timestamp
    let limit: Int

    func bind(to binds: inout PostgresBinds) {
        binds.append(tenantID.postgres)
        binds.append(before.postgres)
        binds.append(Int64(limit))
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> Entry {
        Entry(
            start: Timestamp(try row.timestamp()), end: Timestamp(try row.timestamp()), timeZone: try row.text(),
            standing: try row.array(), void: try row.array())
    }
}

/// What standing invoices have charged for use in a stretch of time: a line's span lies in the period of use.
struct ReadBilledLines: PostgresStatement {
    struct Entry: Sendable {
        let line: InvoiceLine
        let currency: String
    }

    static let sql = """
        SELECT l.kind, l.tier_version_id, l.model, l.meter, l.band, l.description, l.span_start, l.span_end, l.quantity_millionths::text,
            l.unit_price::text, l.amount_micros, i.currency
        FROM invoices i JOIN invoice_lines l ON l.invoice_id = i.invoice_id
        WHERE i.tenant_id = $1 AND i.kind = 'invoice' AND i.state IN ('finalised', 'paid') AND i.period_end > $2
            AND l.span_start >= $2 AND l.span_start < $3 AND l.kind <> 'carried_credit'
        ORDER BY i.finalised_at, i.invoice_id, l.line_number
        """
    static let parameters: [PostgresType] = [.uuid, .timestamptz, .timestamptz]
    static let columns = invoiceLineColumns + [.text]

    let tenantID: TenantID
    let start: Timestamp
    let end: Timestamp

    func bind(to binds: inout PostgresBinds) {
        binds.append(tenantID.postgres)
        binds.append(start.postgres)
        binds.append(end.postgres)
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> Entry {
        let line = try invoiceLine(&row)
        return Entry(line: line, currency: try row.text())
    }
}

struct ReadBilledUsage: PostgresStatement {
    struct Entry: Sendable {
        let usage: UsageQuantity
        let seen: String
        let currency: String
    }

    static let sql = """
        SELECT u.tier_version_id, u.is_trial, u.model, sum(u.requests)::bigint, sum(u.input_tokens)::bigint,
            sum(u.cached_input_tokens)::bigint, sum(u.output_tokens)::bigint,
            (array_agg(u.seen::text ORDER BY i.finalised_at DESC))[1], max(i.currency)
        FROM invoices i JOIN invoice_usage u ON u.invoice_id = i.invoice_id
        WHERE i.tenant_id = $1 AND i.state IN ('finalised', 'paid') AND u.usage_period_start = $2
        GROUP BY 1, 2, 3
        ORDER BY max(i.finalised_at) DESC, 1, 2, 3
        """
    static let parameters: [PostgresType] = [.uuid, .timestamptz]
    static let columns: [PostgresType] = [.uuid, .bool, .text, .int8, .int8, .int8, .int8, .text, .text]

    let tenantID: TenantID
    let start: Timestamp

    func bind(to binds: inout PostgresBinds) {
        binds.append(tenantID.postgres)
        binds.append(start.postgres)
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> Entry {
        let version = TierVersionID(try row.uuid())
        let isTrial = try row.bool()
        let usage = UsageQuantity(
            tierVersionID: version, isTrial: isTrial, model: try row.text(), requests: try row.int64(),
            inputTokens: try row.int64(), cachedInputTokens: try row.int64(), outputTokens: try row.int64())
        return Entry(usage: usage, seen: try row.text(), currency: try row.text())
    }
}
