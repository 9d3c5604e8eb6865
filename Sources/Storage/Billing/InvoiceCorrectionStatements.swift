internal import Domain
internal import PostgresDriver

/// Of one that is not paid, or asked for nothing.
struct VoidInvoice: PostgresStatement {
    static let sql = """
        UPDATE invoices i SET state = 'void', voided_at = clock_timestamp(), paid_at = NULL, void_reason = $2, reissue = $3
        WHERE invoice_id = $1 AND (state = 'finalised' OR state = 'paid' AND total_micros = 0) AND kind = 'invoice'
            AND NOT EXISTS (SELECT FROM invoices n WHERE n.corrects_invoice_id = i.invoice_id)
            AND NOT EXISTS (
                SELECT FROM credit_grants g JOIN credit_applications a ON a.grant_id = g.grant_id
                JOIN invoices u ON u.invoice_id = a.invoice_id AND u.state IN ('finalised', 'paid')
                WHERE g.source_invoice_id = i.invoice_id)
        """
    static let parameters: [PostgresType] = [.uuid, .text, .bool]

    let id: InvoiceID
    let voiding: InvoiceVoiding

    func bind(to binds: inout PostgresBinds) {
        binds.append(id.postgres)
        binds.append(voiding.reason)
        binds.append(voiding.isReissued)
    }
}

/// What an invoice gave back and was not revoked yet.
struct ReadCreditsOfInvoice: PostgresStatement {
    static let sql =
        "SELECT grant_id FROM credit_grants WHERE source_invoice_id = $1 AND revoked_at IS NULL ORDER BY grant_id"
    static let parameters: [PostgresType] = [.uuid]
    static let columns: [PostgresType] = [.uuid]

    let id: InvoiceID

    func bind(to binds: inout PostgresBinds) { binds.append(id.postgres) }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> CreditGrantID {
        CreditGrantID(try row.uuid())
    }
}

/// What credit notes of an invoice have given back as money.
struct SumMoneyOfNotes: PostgresStatement {
    static let sql = """
        SELECT coalesce(sum(total_micros - granted_micros), 0)::bigint FROM invoices WHERE corrects_invoice_id = $1 AND note_form = 'money'
        """
    static let parameters: [PostgresType] = [.uuid]
    static let columns: [PostgresType] = [.int8]

    let id: InvoiceID

    func bind(to binds: inout PostgresBinds) { binds.append(id.postgres) }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> Micros { Micros(try row.int64()) }
}

/// A draft of a credit note, on the issuer and in the words of the invoice that it corrects.
struct InsertCreditNote: PostgresStatement {
    static let sql = """
        INSERT INTO invoices (invoice_id, issuer, kind, corrects_invoice_id, tenant_id, period_id, period_start, period_end, time_zone,
            currency, subtotal_micros, total_micros, customer_name, issuer_name, issuer_address, issuer_tax_id, number_prefix, note, note_form,
            granted_micros)
        SELECT $1, i.issuer, 'credit_note', i.invoice_id, i.tenant_id, i.period_id, i.period_start, i.period_end, i.time_zone, i.currency,
            $3, $3, i.customer_name, s.name, s.address, s.tax_id, s.number_prefix, $4, $5, $6
        FROM invoices i JOIN invoice_issuers s ON s.issuer = i.issuer WHERE i.invoice_id = $2
        """
    static let parameters: [PostgresType] = [.uuid, .uuid, .int8, .text, .text, .int8]

    let id: InvoiceID
    let invoiceID: InvoiceID
    let amount: Micros
    let reason: String
    let division: CreditNoteDivision

    func bind(to binds: inout PostgresBinds) {
        binds.append(id.postgres)
        binds.append(invoiceID.postgres)
        binds.append(amount.value)
        binds.append(reason)
        binds.append(division.form.rawValue)
        binds.append(division.granted.value)
    }
}
