internal import Domain
internal import PostgresDriver

/// The drafts of a period: those whose middle lies in it, whatever zone they were made in.
struct ReadDraftsOfPeriod: PostgresStatement {
    struct Entry: Sendable {
        let id: InvoiceID
        let currency: String
    }

    static let sql = """
        SELECT invoice_id, currency FROM invoices
        WHERE tenant_id = $1 AND kind = 'invoice' AND state = 'draft' AND period_start + (period_end - period_start) / 2 >= $2
            AND period_start + (period_end - period_start) / 2 < $3
        ORDER BY invoice_id
        """
    static let parameters: [PostgresType] = [.uuid, .timestamptz, .timestamptz]
    static let columns: [PostgresType] = [.uuid, .text]

    let tenantID: TenantID
    let period: BillingPeriod

    func bind(to binds: inout PostgresBinds) {
        binds.append(tenantID.postgres)
        binds.append(period.start.postgres)
        binds.append(period.end.postgres)
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> Entry {
        Entry(id: InvoiceID(try row.uuid()), currency: try row.text())
    }
}

/// Takes what a draft says away, and the draft.
struct RemoveDraft: PostgresStatement {
    static let sql = "DELETE FROM invoices WHERE invoice_id = $1 AND state = 'draft'"
    static let parameters: [PostgresType] = [.uuid]

    let id: InvoiceID

    func bind(to binds: inout PostgresBinds) { binds.append(id.postgres) }
}

struct RemoveDraftLines: PostgresStatement {
    static let sql = "DELETE FROM invoice_lines WHERE invoice_id = $1"
    static let parameters: [PostgresType] = [.uuid]

    let id: InvoiceID

    func bind(to binds: inout PostgresBinds) { binds.append(id.postgres) }
}

struct RemoveDraftUsage: PostgresStatement {
    static let sql = "DELETE FROM invoice_usage WHERE invoice_id = $1"
    static let parameters: [PostgresType] = [.uuid]

    let id: InvoiceID

    func bind(to binds: inout PostgresBinds) { binds.append(id.postgres) }
}

struct RemoveDraftCredits: PostgresStatement {
    static let sql = "DELETE FROM credit_applications WHERE invoice_id = $1"
    static let parameters: [PostgresType] = [.uuid]

    let id: InvoiceID

    func bind(to binds: inout PostgresBinds) { binds.append(id.postgres) }
}

/// A draft, or the next one in its place.
struct UpsertDraft: PostgresStatement {
    static let sql = """
        INSERT INTO invoices (invoice_id, issuer, kind, tenant_id, period_id, period_start, period_end, time_zone, currency, subtotal_micros,
            credits_micros, total_micros, customer_name, issuer_name, issuer_address, issuer_tax_id, number_prefix)
        SELECT $1, s.issuer, 'invoice', t.tenant_id, $3, $4, $5, $9, $6, $7, $8, $7 - $8, t.name, s.name, s.address, s.tax_id,
            s.number_prefix
        FROM tenants t, invoice_issuers s WHERE t.tenant_id = $2 AND s.issuer = 'default'
        ON CONFLICT (invoice_id) DO UPDATE SET period_id = EXCLUDED.period_id, period_start = EXCLUDED.period_start,
            period_end = EXCLUDED.period_end, time_zone = EXCLUDED.time_zone, currency = EXCLUDED.currency, subtotal_micros = EXCLUDED.subtotal_micros,
            credits_micros = EXCLUDED.credits_micros, total_micros = EXCLUDED.total_micros, customer_name = EXCLUDED.customer_name,
            issuer_name = EXCLUDED.issuer_name, issuer_address = EXCLUDED.issuer_address, issuer_tax_id = EXCLUDED.issuer_tax_id,
            number_prefix = EXCLUDED.number_prefix, drafted_at = clock_timestamp()
        """
    static let parameters: [PostgresType] = [
        .uuid, .uuid, .text, .timestamptz, .timestamptz, .text, .int8, .int8, .text,
    ]

    let id: InvoiceID
    let tenantID: TenantID
    let period: BillingPeriod
    let draft: InvoiceDraft

    func bind(to binds: inout PostgresBinds) {
        binds.append(id.postgres)
        binds.append(tenantID.postgres)
        binds.append(period.period.id)
        binds.append(period.start.postgres)
        binds.append(period.end.postgres)
        binds.append(draft.currency)
        binds.append(draft.subtotal.value)
        binds.append(draft.credits.reduce(0) { $0 + $1.amount.value })
        binds.append(period.timeZone)
    }
}

struct InsertInvoiceLine: PostgresStatement {
    static let sql = """
        INSERT INTO invoice_lines (invoice_id, line_number, kind, tier_version_id, model, meter, band, description, span_start, span_end,
            quantity_millionths, unit_price, amount_micros)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11::text::numeric, $12::text::numeric, $13)
        """
    static let parameters: [PostgresType] = [
        .uuid, .int4, .text, .uuid, .text, .text, .int2, .text, .timestamptz, .timestamptz, .text, .text, .int8,
    ]

    let invoiceID: InvoiceID
    let number: Int32
    let line: InvoiceLine

    func bind(to binds: inout PostgresBinds) {
        binds.append(invoiceID.postgres)
        binds.append(number)
        binds.append(line.kind.rawValue)
        binds.append(line.tierVersionID?.postgres)
        binds.append(line.model)
        binds.append(line.meter?.rawValue)
        binds.append(line.band)
        binds.append(line.description)
        binds.append(line.start.postgres)
        binds.append(line.end.postgres)
        binds.append(line.quantityMillionths.map { String($0) })
        binds.append(line.unitPrice?.description)
        binds.append(line.amount.value)
    }
}

struct InsertInvoiceUsage: PostgresStatement {
    static let sql = """
        INSERT INTO invoice_usage (invoice_id, usage_period_start, tier_version_id, is_trial, model, requests, input_tokens,
            cached_input_tokens, output_tokens, seen, seen_before)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10::text::pg_snapshot, $11::text::pg_snapshot)
        """
    static let parameters: [PostgresType] = [
        .uuid, .timestamptz, .uuid, .bool, .text, .int8, .int8, .int8, .int8, .text, .text,
    ]

    let invoiceID: InvoiceID
    let used: InvoiceDraft.UsedIn

    func bind(to binds: inout PostgresBinds) {
        binds.append(invoiceID.postgres)
        binds.append(used.periodStart.postgres)
        binds.append(used.usage.tierVersionID.postgres)
        binds.append(used.usage.isTrial)
        binds.append(used.usage.model)
        binds.append(used.usage.requests)
        binds.append(used.usage.inputTokens)
        binds.append(used.usage.cachedInputTokens)
        binds.append(used.usage.outputTokens)
        binds.append(used.seen)
        binds.append(used.seenBefore)
    }
}

struct InsertCreditApplication: PostgresStatement {
    static let sql = "INSERT INTO credit_applications (invoice_id, grant_id, amount_micros) VALUES ($1, $2, $3)"
    static let parameters: [PostgresType] = [.uuid, .uuid, .int8]

    let invoiceID: InvoiceID
    let application: CreditApplication

    func bind(to binds: inout PostgresBinds) {
        binds.append(invoiceID.postgres)
        binds.append(application.grantID.postgres)
        binds.append(application.amount.value)
    }
}

/// One that asks for nothing is paid. Gives the next number of the issuer. Whoever issues next waits from here to the end of the transaction, so nothing slow may follow.
struct FinaliseInvoice: PostgresStatement {
    static let sql = """
        WITH next AS (
            UPDATE invoice_issuers s SET last_number = last_number + 1
            FROM invoices i WHERE i.invoice_id = $1 AND i.state = 'draft' AND s.issuer = i.issuer
            RETURNING s.last_number
        )
        UPDATE invoices SET state = CASE WHEN kind = 'invoice' AND total_micros = 0 THEN 'paid' ELSE 'finalised' END,
            number = next.last_number, finalised_at = clock_timestamp(),
            paid_at = CASE WHEN kind = 'invoice' AND total_micros = 0 THEN clock_timestamp() END,
            due_at = clock_timestamp() + make_interval(days => $2)
        FROM next WHERE invoice_id = $1 AND state = 'draft'
        """
    static let parameters: [PostgresType] = [.uuid, .int4]

    let id: InvoiceID
    let dueDays: Int32

    func bind(to binds: inout PostgresBinds) {
        binds.append(id.postgres)
        binds.append(dueDays)
    }
}

struct PayInvoice: PostgresStatement {
    static let sql = """
        UPDATE invoices SET state = 'paid', paid_at = clock_timestamp() WHERE invoice_id = $1 AND state = 'finalised' AND kind = 'invoice'
        """
    static let parameters: [PostgresType] = [.uuid]

    let id: InvoiceID

    func bind(to binds: inout PostgresBinds) { binds.append(id.postgres) }
}

struct ListIssuers: PostgresStatement {
    static let sql = """
        SELECT issuer, name, address, tax_id, number_prefix, last_number FROM invoice_issuers ORDER BY issuer
        """
    static let columns: [PostgresType] = [.text, .text, .text, .text, .text, .int8]

    static func row(from row: inout PostgresRow) throws(PostgresError) -> InvoiceIssuer {
        InvoiceIssuer(
            code: try row.text(), name: try row.text(), address: try row.text(), taxID: try row.text(),
            numberPrefix: try row.text(), lastNumber: try row.int64())
    }
}

struct UpdateIssuer: PostgresStatement {
    static let sql = """
        UPDATE invoice_issuers SET name = $2, address = $3, tax_id = $4, number_prefix = $5 WHERE issuer = $1
        """
    static let parameters: [PostgresType] = [.text, .text, .text, .text, .text]

    let issuer: InvoiceIssuer

    func bind(to binds: inout PostgresBinds) {
        binds.append(issuer.code)
        binds.append(issuer.name)
        binds.append(issuer.address)
        binds.append(issuer.taxID)
        binds.append(issuer.numberPrefix)
    }
}

/// For the audit log.
struct DescribeIssuer: PostgresStatement {
    static let sql = "SELECT to_jsonb(s) - 'last_number' FROM invoice_issuers s WHERE issuer = $1"
    static let parameters: [PostgresType] = [.text]
    static let columns: [PostgresType] = [.jsonb]

    let code: String

    func bind(to binds: inout PostgresBinds) { binds.append(code) }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> String { try row.jsonText() }
}
