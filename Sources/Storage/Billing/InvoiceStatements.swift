internal import Domain
internal import PostgresDriver

private let invoiceColumns: [PostgresType] = [
    .uuid, .text, .text, .int8, .text, .text, .text, .text, .text, .uuid, .uuid, .text, .text, .timestamptz,
    .timestamptz,
    .text, .text, .int8, .int8, .int8, .int8, .text, .timestamptz, .timestamptz, .timestamptz, .timestamptz,
    .timestamptz,
]

private func invoiceRow(_ row: inout PostgresRow) throws(PostgresError) -> InvoiceRow {
    let id = InvoiceID(try row.uuid())
    guard let kind = InvoiceKind(rawValue: try row.text()) else { throw row.failure(1, "is no kind of an invoice") }
    guard let state = InvoiceState(rawValue: try row.text()) else { throw row.failure(2, "is no state of an invoice") }
    return InvoiceRow(
        id: id, kind: kind, state: state, number: try row.optionalInt64(), issuer: try row.text(),
        issuerName: try row.text(), issuerAddress: try row.text(), issuerTaxID: try row.text(),
        numberPrefix: try row.text(), correctsInvoiceID: try row.optionalUUID().map { InvoiceID($0) },
        tenantID: TenantID(try row.uuid()), customerName: try row.text(), periodID: try row.text(),
        periodStart: Timestamp(try row.timestamp()), periodEnd: Timestamp(try row.timestamp()),
        timeZone: try row.text(), currency: try row.text(), subtotal: Micros(try row.int64()),
        credits: Micros(try row.int64()), total: Micros(try row.int64()), credited: Micros(try row.int64()),
        note: try row.text(), draftedAt: Timestamp(try row.timestamp()),
        finalisedAt: try row.optionalTimestamp().map { Timestamp($0) },
        dueAt: try row.optionalTimestamp().map { Timestamp($0) },
        paidAt: try row.optionalTimestamp().map { Timestamp($0) },
        voidedAt: try row.optionalTimestamp().map { Timestamp($0) })
}

/// Of all tenants, newest first.
struct ListInvoices: PostgresStatement {
    static let sql = """
        WITH page AS (
            (SELECT invoice_id FROM invoices
            WHERE ($3::uuid IS NULL OR tenant_id = $3) AND ($4::text IS NULL OR state = $4)
                AND $2::uuid IS NULL AND invoice_id < coalesce($1::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
            ORDER BY invoice_id DESC LIMIT $5)
            UNION ALL
            (SELECT invoice_id FROM invoices
            WHERE ($3::uuid IS NULL OR tenant_id = $3) AND ($4::text IS NULL OR state = $4) AND invoice_id > $2::uuid
            ORDER BY invoice_id LIMIT $5)
        )
        SELECT i.invoice_id, i.kind, i.state, i.number, i.issuer, i.issuer_name, i.issuer_address, i.issuer_tax_id, i.number_prefix,
            i.corrects_invoice_id, i.tenant_id, i.customer_name, i.period_id, i.period_start, i.period_end, i.time_zone, i.currency,
            i.subtotal_micros, i.credits_micros, i.total_micros,
            (SELECT coalesce(sum(n.total_micros), 0)::bigint FROM invoices n WHERE n.corrects_invoice_id = i.invoice_id),
            i.note, i.drafted_at, i.finalised_at, i.due_at, i.paid_at, i.voided_at
        FROM page JOIN invoices i ON i.invoice_id = page.invoice_id
        ORDER BY i.invoice_id DESC
        """
    static let parameters: [PostgresType] = [.uuid, .uuid, .uuid, .text, .int8]
    static let columns = invoiceColumns

    let query: InvoiceQuery

    func bind(to binds: inout PostgresBinds) {
        binds.append(query.page.after?.postgres)
        binds.append(query.page.before?.postgres)
        binds.append(query.tenantID?.postgres)
        binds.append(query.state?.rawValue)
        binds.append(Int64(query.page.limit + 1))
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> InvoiceRow { try invoiceRow(&row) }
}

struct FindInvoice: PostgresStatement {
    static let sql = """
        SELECT i.invoice_id, i.kind, i.state, i.number, i.issuer, i.issuer_name, i.issuer_address, i.issuer_tax_id, i.number_prefix,
            i.corrects_invoice_id, i.tenant_id, i.customer_name, i.period_id, i.period_start, i.period_end, i.time_zone, i.currency,
            i.subtotal_micros, i.credits_micros, i.total_micros,
            (SELECT coalesce(sum(n.total_micros), 0)::bigint FROM invoices n WHERE n.corrects_invoice_id = i.invoice_id),
            i.note, i.drafted_at, i.finalised_at, i.due_at, i.paid_at, i.voided_at
        FROM invoices i WHERE i.invoice_id = $1 AND ($2::uuid IS NULL OR i.tenant_id = $2)
        """
    static let parameters: [PostgresType] = [.uuid, .uuid]
    static let columns = invoiceColumns

    let id: InvoiceID
    /// Only this tenant's; `nil` for anybody's.
    var tenantID: TenantID?

    func bind(to binds: inout PostgresBinds) {
        binds.append(id.postgres)
        binds.append(tenantID?.postgres)
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> InvoiceRow { try invoiceRow(&row) }
}

private func invoiceLine(_ row: inout PostgresRow) throws(PostgresError) -> InvoiceLine {
    guard let kind = InvoiceLine.Kind(rawValue: try row.text()) else { throw row.failure(0, "is no kind of a line") }
    let version = try row.optionalUUID().map { TierVersionID($0) }
    let model = try row.optionalText()
    let meter = try row.optionalText().flatMap { Meter(rawValue: $0) }
    let band = try row.optionalInt16()
    let description = try row.text()
    let start = Timestamp(try row.timestamp())
    let end = Timestamp(try row.timestamp())
    let quantity = try row.optionalText()
    let price = try row.optionalText()
    let unitPrice = price.flatMap { UnitPrice(decimal: $0) }
    let quantityMillionths = quantity.flatMap { Int128($0) }
    guard (quantity == nil) == (quantityMillionths == nil), (price == nil) == (unitPrice == nil) else {
        throw row.failure(8, "is no quantity or price that this build can read")
    }
    return InvoiceLine(
        kind: kind, tierVersionID: version, model: model, meter: meter, band: band, description: description,
        start: start, end: end, quantityMillionths: quantityMillionths, unitPrice: unitPrice,
        amount: Micros(try row.int64()))
}

private let lineColumns: [PostgresType] = [
    .text, .uuid, .text, .text, .int2, .text, .timestamptz, .timestamptz, .text, .text, .int8,
]

struct ReadInvoiceLines: PostgresStatement {
    static let sql = """
        SELECT kind, tier_version_id, model, meter, band, description, span_start, span_end, quantity_millionths::text, unit_price::text,
            amount_micros
        FROM invoice_lines WHERE invoice_id = $1 ORDER BY line_number
        """
    static let parameters: [PostgresType] = [.uuid]
    static let columns = lineColumns

    let id: InvoiceID

    func bind(to binds: inout PostgresBinds) { binds.append(id.postgres) }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> InvoiceLine { try invoiceLine(&row) }
}

struct ReadInvoiceCredits: PostgresStatement {
    static let sql = """
        SELECT a.grant_id, g.kind, g.reason, a.amount_micros FROM credit_applications a JOIN credit_grants g ON g.grant_id = a.grant_id
        WHERE a.invoice_id = $1 ORDER BY a.grant_id
        """
    static let parameters: [PostgresType] = [.uuid]
    static let columns: [PostgresType] = [.uuid, .text, .text, .int8]

    let id: InvoiceID

    func bind(to binds: inout PostgresBinds) { binds.append(id.postgres) }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> InvoiceCredit {
        InvoiceCredit(
            grantID: CreditGrantID(try row.uuid()), kind: try row.text(), reason: try row.text(),
            amount: Micros(try row.int64()))
    }
}

/// For the audit log.
struct DescribeInvoice: PostgresStatement {
    static let sql = """
        SELECT jsonb_build_object('state', state, 'number', number, 'kind', kind, 'period', period_id, 'currency', currency,
            'subtotal_micros', subtotal_micros, 'credits_micros', credits_micros, 'total_micros', total_micros, 'note', note)
        FROM invoices WHERE invoice_id = $1
        """
    static let parameters: [PostgresType] = [.uuid]
    static let columns: [PostgresType] = [.jsonb]

    let id: InvoiceID

    func bind(to binds: inout PostgresBinds) { binds.append(id.postgres) }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> String { try row.jsonText() }
}

/// Whoever works on a bill of a tenant waits for whoever else does.
struct LockBillingAccount: PostgresStatement {
    struct Held: Sendable {
        let account: BillingAccount
        let now: Timestamp
    }

    static let sql = """
        SELECT tenant_id, name, time_zone, clock_timestamp() FROM tenants WHERE tenant_id = $1 FOR NO KEY UPDATE
        """
    static let parameters: [PostgresType] = [.uuid]
    static let columns: [PostgresType] = [.uuid, .text, .text, .timestamptz]

    let tenantID: TenantID

    func bind(to binds: inout PostgresBinds) { binds.append(tenantID.postgres) }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> Held {
        Held(
            account: BillingAccount(
                tenantID: TenantID(try row.uuid()), name: try row.text(), timeZone: try row.text()),
            now: Timestamp(try row.timestamp()))
    }
}

struct ReadDatabaseTime: PostgresStatement {
    static let sql = "SELECT clock_timestamp()"
    static let columns: [PostgresType] = [.timestamptz]

    static func row(from row: inout PostgresRow) throws(PostgresError) -> Timestamp { Timestamp(try row.timestamp()) }
}

struct ReadLedgerSnapshot: PostgresStatement {
    static let sql = "SELECT pg_current_snapshot()::text"
    static let columns: [PostgresType] = [.text]

    static func row(from row: inout PostgresRow) throws(PostgresError) -> String { try row.text() }
}

/// The periods before an instant that have a standing invoice of their own, and the one that starts at an instant if it is charged anywhere.
struct ReadBilledPeriods: PostgresStatement {
    struct Entry: Sendable {
        let start: Timestamp
        let end: Timestamp
        let timeZone: String
    }

    static let sql = """
        SELECT period_start, period_end, time_zone FROM invoices
        WHERE tenant_id = $1 AND kind = 'invoice' AND state IN ('finalised', 'paid') AND period_start < $2
        ORDER BY period_start DESC LIMIT $3
        """
    static let parameters: [PostgresType] = [.uuid, .timestamptz, .int8]
    static let columns: [PostgresType] = [.timestamptz, .timestamptz, .text]

    let tenantID: TenantID
    let before: Timestamp
    let limit: Int

    func bind(to binds: inout PostgresBinds) {
        binds.append(tenantID.postgres)
        binds.append(before.postgres)
        binds.append(Int64(limit))
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> Entry {
        Entry(start: Timestamp(try row.timestamp()), end: Timestamp(try row.timestamp()), timeZone: try row.text())
    }
}

/// What standing invoices have charged for use in a stretch of time: a line's span lies in the period of use.
struct ReadBilledLines: PostgresStatement {
    static let sql = """
        SELECT l.kind, l.tier_version_id, l.model, l.meter, l.band, l.description, l.span_start, l.span_end, l.quantity_millionths::text,
            l.unit_price::text, l.amount_micros
        FROM invoices i JOIN invoice_lines l ON l.invoice_id = i.invoice_id
        WHERE i.tenant_id = $1 AND i.kind = 'invoice' AND i.state IN ('finalised', 'paid') AND i.period_end > $2
            AND l.span_start >= $2 AND l.span_start < $3 AND l.kind <> 'carried_credit'
        ORDER BY i.finalised_at, i.invoice_id, l.line_number
        """
    static let parameters: [PostgresType] = [.uuid, .timestamptz, .timestamptz]
    static let columns = lineColumns

    let tenantID: TenantID
    let start: Timestamp
    let end: Timestamp

    func bind(to binds: inout PostgresBinds) {
        binds.append(tenantID.postgres)
        binds.append(start.postgres)
        binds.append(end.postgres)
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> InvoiceLine { try invoiceLine(&row) }
}

struct ReadBilledUsage: PostgresStatement {
    struct Entry: Sendable {
        let usage: UsageQuantity
        let seen: String
    }

    static let sql = """
        SELECT u.tier_version_id, u.is_trial, u.model, sum(u.requests)::bigint, sum(u.input_tokens)::bigint,
            sum(u.cached_input_tokens)::bigint, sum(u.output_tokens)::bigint,
            (array_agg(u.seen::text ORDER BY i.finalised_at DESC))[1]
        FROM invoices i JOIN invoice_usage u ON u.invoice_id = i.invoice_id
        WHERE i.tenant_id = $1 AND i.state IN ('finalised', 'paid') AND u.usage_period_start = $2
        GROUP BY 1, 2, 3
        ORDER BY max(i.finalised_at) DESC, 1, 2, 3
        """
    static let parameters: [PostgresType] = [.uuid, .timestamptz]
    static let columns: [PostgresType] = [.uuid, .bool, .text, .int8, .int8, .int8, .int8, .text]

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
        return Entry(usage: usage, seen: try row.text())
    }
}
