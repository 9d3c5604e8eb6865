internal import Domain
internal import PostgresDriver

extension AdministrationTransaction {
    // MARK: Drafts

    func redraft(_ tenant: TenantID, _ period: Period, _ compose: InvoiceComposition) async throws -> InvoiceID? {
        let bill = try await holdBills(of: tenant)
        let there = try await connection.execute(
            FindInvoiceOfPeriod(tenantID: tenant, start: period.start, end: period.end)
        ).first
        if let there, !there.isDraft {
            throw Refusal(
                .conflict, "Invoice \(there.id.publicText) stands for this period. Void it first to draft another.")
        }
        let before: String? =
            if let there { try await connection.execute(DescribeInvoice(id: there.id)).first } else { nil }
        guard let draft = try await compose(bill, period) else {
            if let there { try await removeDraft(there.id) }
            return nil
        }
        let id: InvoiceID = there?.id ?? newID()
        try await write(draft, id, tenant, period)
        let after = try await connection.execute(DescribeInvoice(id: id)).first
        if before != after {
            try await audit(
                "invoice.draft", "invoice", id.publicText, tenantID: tenant, before: before, after: after)
        }
        return id
    }

    func holdBills(of tenant: TenantID) async throws -> BillTransaction {
        guard let held = try await connection.execute(LockBillingAccount(tenantID: tenant)).first else {
            throw Refusal.noSuchTenant
        }
        return BillTransaction(connection: connection, account: held.account, now: held.now)
    }

    private func removeDraft(_ id: InvoiceID) async throws {
        _ = try await connection.execute(RemoveDraftLines(id: id))
        _ = try await connection.execute(RemoveDraftUsage(id: id))
        _ = try await connection.execute(RemoveDraftCredits(id: id))
        _ = try await connection.execute(RemoveDraft(id: id))
    }

    private func write(_ draft: InvoiceDraft, _ id: InvoiceID, _ tenant: TenantID, _ period: Period) async throws {
        _ = try await connection.execute(UpsertDraft(id: id, tenantID: tenant, period: period, draft: draft))
        _ = try await connection.execute(RemoveDraftLines(id: id))
        _ = try await connection.execute(RemoveDraftUsage(id: id))
        _ = try await connection.execute(RemoveDraftCredits(id: id))
        for (index, line) in draft.lines.enumerated() {
            _ = try await connection.execute(InsertInvoiceLine(invoiceID: id, number: Int32(index + 1), line: line))
        }
        for used in draft.usage { _ = try await connection.execute(InsertInvoiceUsage(invoiceID: id, used: used)) }
        for application in draft.credits {
            _ = try await connection.execute(InsertCreditApplication(invoiceID: id, application: application))
        }
    }

    // MARK: Issued invoices

    /// Holds the tenant's bills, so that the row is what it is until the end of the transaction.
    private func hold(_ id: InvoiceID) async throws -> (row: InvoiceRow, bill: BillTransaction) {
        guard let tenant = try await connection.execute(FindInvoice(id: id)).first?.tenantID else {
            throw Refusal.noSuchInvoice
        }
        let bill = try await holdBills(of: tenant)
        guard let row = try await connection.execute(FindInvoice(id: id)).first else { throw Refusal.noSuchInvoice }
        return (row, bill)
    }

    func finalise(
        _ id: InvoiceID, graceSeconds: Int64, dueDays: Int64, _ compose: InvoiceComposition
    ) async throws {
        let (row, bill) = try await hold(id)
        guard row.state == .draft else {
            throw Refusal(.conflict, "The invoice is \(row.state.rawValue) already; it cannot be finalised again.")
        }
        let due = row.periodEnd.advanced(byMilliseconds: graceSeconds * 1_000)
        guard bill.now >= due else {
            throw Refusal(
                .conflict,
                "The period is open, or usage of it may still come. Finalise the invoice from \(due) on, or draft another one then."
            )
        }
        guard let calendar = PeriodCalendar(timeZone: row.timeZone) else { throw Refusal.noSuchInvoice }
        let period = calendar.period(containing: row.periodStart, frequency: .month)
        guard let draft = try await compose(bill, period) else {
            throw Refusal(.conflict, "There is nothing to invoice any more.")
        }
        try await write(draft, id, row.tenantID, period)
        if draft.givenBack > .zero {
            try await giveBack(
                draft.givenBack, draft.currency, for: id, row.tenantID, "Period \(row.periodID) came out below zero")
        }
        try await issue(id, tenant: row.tenantID, dueDays: dueDays, before: nil, "invoice.finalise")
    }

    /// The number comes last: whoever issues next waits for it until the commit.
    private func issue(
        _ id: InvoiceID, tenant: TenantID, dueDays: Int64, before: String?, _ action: String
    ) async throws {
        guard
            try await connection.affectedRows(by: FinaliseInvoice(id: id, dueDays: Int32(clamping: dueDays))) == 1
        else { throw Refusal(.conflict, "The invoice is no draft any more.") }
        let after = try await connection.execute(DescribeInvoice(id: id)).first
        try await audit(action, "invoice", id.publicText, tenantID: tenant, before: before, after: after)
    }

    private func giveBack(
        _ amount: Micros, _ currency: String, for id: InvoiceID, _ tenant: TenantID, _ reason: String
    ) async throws {
        let grant = NewCreditGrant(
            tenantID: tenant, kind: .refund, currency: currency, amount: amount, priority: 50, effectiveAt: nil,
            expiresAt: nil, reason: reason)
        _ = try await connection.execute(InsertCreditGrant(id: newID(), grant: grant, source: id))
    }

    func pay(_ id: InvoiceID) async throws {
        let (row, _) = try await hold(id)
        try await change(id, row, "invoice.pay", by: PayInvoice(id: id)) {
            "The invoice is \(row.state.rawValue). Only a finalised one can be paid."
        }
    }

    func void(_ id: InvoiceID) async throws {
        let (row, _) = try await hold(id)
        try await change(id, row, "invoice.void", by: VoidInvoice(id: id)) {
            row.state == .finalised
                ? "The invoice has credit notes, or what it gave back is spent. Write a credit note instead."
                : "The invoice is \(row.state.rawValue). Only a finalised one can be voided; for a paid one, write a credit note."
        }
        _ = try await connection.execute(RevokeCreditsOfInvoice(id: id))
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
        let left = row.total.value - row.credited.value
        guard amount.value <= left else {
            throw Refusal.invalid(
                "/amount_micros", "is more than is left of the invoice, \(left)", fix: "Send \(left) or less.")
        }
        let note: InvoiceID = newID()
        _ = try await connection.execute(
            InsertCreditNote(id: note, invoiceID: id, amount: amount, reason: reason))
        let line = InvoiceLine(
            kind: .creditNote, description: "Credit for invoice \(row.numberText ?? "")", start: row.periodStart,
            end: row.periodEnd, amount: amount)
        _ = try await connection.execute(InsertInvoiceLine(invoiceID: note, number: 1, line: line))
        if asCredit { try await giveBack(amount, row.currency, for: note, row.tenantID, reason) }
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

extension Refusal {
    static let noSuchInvoice = Refusal(.notFound, "There is no such invoice.")
}
