internal import Domain
internal import PostgresDriver

private let invoiceColumns: [PostgresType] = [
    .uuid, .text, .text, .int8, .text, .text, .text, .text, .text, .uuid, .uuid, .text, .text, .timestamptz,
    .timestamptz,
    .text, .text, .int8, .int8, .int8, .int8, .int8, .text, .int8, .text, .timestamptz, .timestamptz, .timestamptz,
    .timestamptz,
    .timestamptz, .text, .bool,
]

/// A constant of two statements, so that both are read alike; no value goes into a text.
private let invoiceColumnText = """
    i.invoice_id, i.kind, i.state, i.number, i.issuer, i.issuer_name, i.issuer_address, i.issuer_tax_id, i.number_prefix,
        i.corrects_invoice_id, i.tenant_id, i.customer_name, i.period_id, i.period_start, i.period_end, i.time_zone, i.currency,
        i.subtotal_micros, i.credits_micros, i.total_micros,
        (SELECT coalesce(sum(n.total_micros), 0)::bigint FROM invoices n WHERE n.corrects_invoice_id = i.invoice_id),
        (SELECT coalesce(sum(n.total_micros - n.granted_micros), 0)::bigint FROM invoices n
            WHERE n.corrects_invoice_id = i.invoice_id AND n.note_form = 'reduction'), i.note_form, i.granted_micros,
        i.note, i.drafted_at, i.finalised_at, i.due_at, i.paid_at, i.voided_at, i.void_reason, i.reissue
    """

private func invoiceRow(_ row: inout PostgresRow) throws(PostgresError) -> InvoiceRow {
    let id = InvoiceID(try row.uuid())
    guard let kind = InvoiceKind(rawValue: try row.text()) else { throw row.failure(1, "is no kind of an invoice") }
    guard let state = InvoiceState(rawValue: try row.text()) else { throw row.failure(2, "is no state of an invoice") }
    let number = try row.optionalInt64()
    let issuer = try row.text()
    let issuerName = try row.text()
    let issuerAddress = try row.text()
    let issuerTaxID = try row.text()
    let numberPrefix = try row.text()
    let corrects = try row.optionalUUID().map { InvoiceID($0) }
    let tenantID = TenantID(try row.uuid())
    let customerName = try row.text()
    let periodID = try row.text()
    let start = Timestamp(try row.timestamp())
    let end = Timestamp(try row.timestamp())
    let timeZone = try row.text()
    let currency = try row.text()
    let amounts = [
        Micros(try row.int64()), Micros(try row.int64()), Micros(try row.int64()), Micros(try row.int64()),
        Micros(try row.int64()),
    ]
    let form = try row.optionalText().flatMap { CreditNoteForm(rawValue: $0) }
    let granted = Micros(try row.int64())
    let note = try row.text()
    let draftedAt = Timestamp(try row.timestamp())
    let finalisedAt = try row.optionalTimestamp().map { Timestamp($0) }
    let dueAt = try row.optionalTimestamp().map { Timestamp($0) }
    let paidAt = try row.optionalTimestamp().map { Timestamp($0) }
    let voidedAt = try row.optionalTimestamp().map { Timestamp($0) }
    return InvoiceRow(
        id: id, kind: kind, state: state, number: number, issuer: issuer, issuerName: issuerName,
        issuerAddress: issuerAddress, issuerTaxID: issuerTaxID, numberPrefix: numberPrefix, correctsInvoiceID: corrects,
        tenantID: tenantID, customerName: customerName, periodID: periodID, periodStart: start, periodEnd: end,
        timeZone: timeZone, currency: currency, subtotal: amounts[0], credits: amounts[1], total: amounts[2],
        credited: amounts[3], note: note, draftedAt: draftedAt, finalisedAt: finalisedAt, dueAt: dueAt, paidAt: paidAt,
        voidedAt: voidedAt, form: form, granted: granted, reduced: amounts[4], voidReason: try row.optionalText(),
        isReissued: try row.optionalBool())
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
        SELECT \(invoiceColumnText)
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
        SELECT \(invoiceColumnText)
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

func invoiceLine(_ row: inout PostgresRow) throws(PostgresError) -> InvoiceLine {
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

let invoiceLineColumns: [PostgresType] = [
    .text, .uuid, .text, .text, .int2, .text, .timestamptz, .timestamptz, .text, .text, .int8,
]

struct ReadInvoiceLines: PostgresStatement {
    static let sql = """
        SELECT kind, tier_version_id, model, meter, band, description, span_start, span_end, quantity_millionths::text, unit_price::text,
            amount_micros
        FROM invoice_lines WHERE invoice_id = $1 ORDER BY line_number
        """
    static let parameters: [PostgresType] = [.uuid]
    static let columns = invoiceLineColumns

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
            || jsonb_strip_nulls(jsonb_build_object('form', note_form, 'granted_micros', nullif(granted_micros, 0),
                'corrects', 'inv_' || corrects_invoice_id, 'void_reason', void_reason, 'reissue', reissue))
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
