internal import Domain
internal import PostgresDriver

/// What becomes of an invoice after it was issued.
extension AdministrationTransaction {
    func pay(_ id: InvoiceID) async throws {
        let (row, _) = try await hold(id)
        try await change(id, row, "invoice.pay", by: PayInvoice(id: id)) {
            "The invoice is \(row.state.rawValue). Only a finalised one can be paid."
        }
    }

    func void(_ id: InvoiceID, _ voiding: InvoiceVoiding) async throws {
        let (row, _) = try await hold(id)
        try await change(id, row, "invoice.void", by: VoidInvoice(id: id, voiding: voiding)) {
            row.state == .finalised || row.state == .paid && row.total == .zero
                ? "The invoice has credit notes, or what it gave back is spent. Write a credit note instead."
                : "The invoice is \(row.state.rawValue). Only a finalised one can be voided; for a paid one, write a credit note."
        }
        let grants = try await connection.execute(ReadCreditsOfInvoice(id: id))
        var before: [String?] = []
        for grant in grants { before.append(try await connection.execute(DescribeCreditGrant(id: grant)).first) }
        _ = try await connection.execute(RevokeCreditsOfInvoice(id: id))
        for (grant, before) in zip(grants, before) {
            let after = try await connection.execute(DescribeCreditGrant(id: grant)).first
            try await audit(
                "credit.revoke", "credit_grant", grant.publicText, tenantID: row.tenantID, before: before, after: after)
        }
    }

    private func change(
        _ id: InvoiceID, _ row: InvoiceRow, _ action: String, by statement: some PostgresStatement,
        _ refusal: () -> String
    ) async throws {
        let before = try await connection.execute(DescribeInvoice(id: id)).first
        guard try await connection.affectedRows(by: statement) == 1 else { throw Refusal(.conflict, refusal()) }
        let after = try await connection.execute(DescribeInvoice(id: id)).first
        try await audit(action, "invoice", id.publicText, tenantID: row.tenantID, before: before, after: after)
    }

    func credit(_ id: InvoiceID, amount: Micros, reason: String, asCredit: Bool) async throws -> InvoiceID {
        let (row, _) = try await hold(id)
        guard row.kind == .invoice, row.state == .finalised || row.state == .paid else {
            throw Refusal(.conflict, "A credit note corrects an invoice that is finalised or paid.")
        }
        let left = row.subtotal.value - row.credited.value
        guard amount.value <= left else {
            throw Refusal.invalid(
                "/amount_micros", "is more than is left of the invoice, \(left)", fix: "Send \(left) or less.")
        }
        let division = CreditNoteDivision(
            amount: amount, total: row.total, reduced: row.reduced,
            givenBack: try await connection.execute(SumMoneyOfNotes(id: id)).first ?? .zero,
            isPaid: row.state == .paid, asCredit: asCredit)
        let note: InvoiceID = newID()
        _ = try await connection.execute(
            InsertCreditNote(id: note, invoiceID: id, amount: amount, reason: reason, division: division))
        let line = InvoiceLine(
            kind: .creditNote, description: "Credit for invoice \(row.numberText ?? "")", start: row.periodStart,
            end: row.periodEnd, amount: amount)
        _ = try await connection.execute(InsertInvoiceLine(invoiceID: note, number: 1, line: line))
        if division.granted > .zero {
            try await giveBack(division.granted, row.currency, for: note, row.tenantID, reason)
        }
        try await issue(note, tenant: row.tenantID, dueDays: 0, before: nil, "invoice.credit")
        return note
    }

    func setIssuer(_ issuer: InvoiceIssuer) async throws -> InvoiceIssuer {
        let before = try await connection.execute(DescribeIssuer(code: issuer.code)).first
        guard try await connection.affectedRows(by: UpdateIssuer(issuer: issuer)) == 1 else {
            throw Refusal(.notFound, "There is no issuer \(issuer.code).")
        }
        let after = try await connection.execute(DescribeIssuer(code: issuer.code)).first
        if before != after {
            try await audit("issuer.set", "issuer", issuer.code, before: before, after: after)
        }
        return try await connection.execute(ListIssuers()).first { $0.code == issuer.code } ?? issuer
    }
}
