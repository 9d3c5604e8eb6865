internal import Domain
internal import PostgresDriver

extension AdministrationTransaction {
    // MARK: Drafts

    func redraft(
        _ tenant: TenantID, _ period: BillingPeriod, _ compose: InvoiceComposition
    ) async throws -> [InvoiceID] {
        let bill = try await holdBills(of: tenant)
        let standing = try await place(period, of: tenant)
        let there = try await connection.execute(ReadDraftsOfPeriod(tenantID: tenant, period: period))
        let composed = try await compose(bill, period)
        let drafts = composed.filter { draft in !standing.contains { $0.currency == draft.currency } }
        let stale = there.filter { entry in !drafts.contains { $0.currency == entry.currency } }
        if drafts.isEmpty, stale.isEmpty, !composed.isEmpty, let first = standing.first {
            throw Refusal(
                .conflict,
                "Invoice \(first.invoiceID.publicText) stands for this period. Void it first to draft another.")
        }
        for entry in stale { try await removeDraft(entry.id, tenant) }
        var ids: [InvoiceID] = []
        for draft in drafts {
            let old = there.first { $0.currency == draft.currency }?.id
            let before: String? =
                if let old { try await connection.execute(DescribeInvoice(id: old)).first } else { nil }
            let id: InvoiceID = old ?? newID()
            try await write(draft, id, tenant, period)
            let after = try await connection.execute(DescribeInvoice(id: id)).first
            if before != after {
                try await audit(
                    "invoice.draft", "invoice", id.publicText, tenantID: tenant, before: before, after: after)
            }
            ids.append(id)
        }
        return ids
    }

    /// Makes sure that a period is what other invoices have left of the tenant's time: its neighbours can have been issued since it was made, or
    /// its zone changed.
    /// - Returns: the standing invoices of this very period, in other currencies or in the same one.
    private func place(_ period: BillingPeriod, of tenant: TenantID) async throws -> [BillingTimeline.Taken] {
        let taken = try await connection.execute(ReadTakenPeriods(tenantID: tenant))
        let standing = taken.filter { $0.stands && $0.start == period.start && $0.end == period.end }
        guard standing.isEmpty else { return standing }
        let timeline = BillingTimeline(timeZone: period.timeZone, taken: taken)
        guard timeline?.period(holding: period.middle) == period else {
            let there = timeline?.standing(at: period.middle).map { "Invoice \($0.invoiceID.publicText) stands" }
            throw Refusal(
                .conflict,
                "\(there ?? "Invoices of the months beside it stand") for a part of this period. Draft the month anew, or void that invoice first."
            )
        }
        return []
    }

    func holdBills(of tenant: TenantID) async throws -> BillTransaction {
        guard let held = try await connection.execute(LockBillingAccount(tenantID: tenant)).first else {
            throw Refusal.noSuchTenant
        }
        return BillTransaction(connection: connection, account: held.account, now: held.now)
    }

    private func removeDraft(_ id: InvoiceID, _ tenant: TenantID) async throws {
        let before = try await connection.execute(DescribeInvoice(id: id)).first
        _ = try await connection.execute(RemoveDraftLines(id: id))
        _ = try await connection.execute(RemoveDraftUsage(id: id))
        _ = try await connection.execute(RemoveDraftCredits(id: id))
        _ = try await connection.execute(RemoveDraft(id: id))
        try await audit(
            "invoice.remove_draft", "invoice", id.publicText, tenantID: tenant, before: before, after: nil)
    }

    private func write(_ draft: InvoiceDraft, _ id: InvoiceID, _ tenant: TenantID, _ period: BillingPeriod)
        async throws
    {
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
    func hold(_ id: InvoiceID) async throws -> (row: InvoiceRow, bill: BillTransaction) {
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
        guard let period = BillingPeriod(start: row.periodStart, end: row.periodEnd, timeZone: row.timeZone) else {
            throw Refusal.noSuchInvoice
        }
        guard try await !place(period, of: row.tenantID).contains(where: { $0.currency == row.currency }) else {
            throw Refusal(.conflict, "An invoice stands for this period already. Void it first.")
        }
        let before = try await connection.execute(DescribeInvoice(id: id)).first
        guard let draft = try await compose(bill, period).first(where: { $0.currency == row.currency }) else {
            throw Refusal(.conflict, "There is nothing to invoice any more.")
        }
        try await write(draft, id, row.tenantID, period)
        if draft.givenBack > .zero {
            try await giveBack(
                draft.givenBack, draft.currency, for: id, row.tenantID, "Period \(row.periodID) came out below zero")
        }
        try await issue(id, tenant: row.tenantID, dueDays: dueDays, before: before, "invoice.finalise")
    }

    /// The number comes last: whoever issues next waits for it until the commit.
    func issue(
        _ id: InvoiceID, tenant: TenantID, dueDays: Int64, before: String?, _ action: String
    ) async throws {
        guard
            try await connection.affectedRows(by: FinaliseInvoice(id: id, dueDays: Int32(clamping: dueDays))) == 1
        else { throw Refusal(.conflict, "The invoice is no draft any more.") }
        let after = try await connection.execute(DescribeInvoice(id: id)).first
        try await audit(action, "invoice", id.publicText, tenantID: tenant, before: before, after: after)
    }

    func giveBack(
        _ amount: Micros, _ currency: String, for id: InvoiceID, _ tenant: TenantID, _ reason: String
    ) async throws {
        let grant = NewCreditGrant(
            tenantID: tenant, kind: .refund, currency: currency, amount: amount, priority: 50, effectiveAt: nil,
            expiresAt: nil, reason: reason)
        let grantID: CreditGrantID = newID()
        _ = try await connection.execute(InsertCreditGrant(id: grantID, grant: grant, source: id))
        let after = try await connection.execute(DescribeCreditGrant(id: grantID)).first
        try await audit(
            "credit.grant", "credit_grant", grantID.publicText, tenantID: tenant, before: nil, after: after)
    }
}

extension Refusal {
    static let noSuchInvoice = Refusal(.notFound, "There is no such invoice.")
}
