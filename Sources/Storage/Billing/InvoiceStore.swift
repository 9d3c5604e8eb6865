public import Domain
internal import PostgresDriver

extension AdministrationStore: InvoiceRecords {
    public func now() async throws(AdministrationFailure) -> Timestamp {
        guard let now = try await read(ReadDatabaseTime()).first else {
            throw .unavailable(StoreUnavailable(cause: "the database does not tell the time"))
        }
        return now
    }

    public func taken(_ tenant: TenantID) async throws(AdministrationFailure) -> [BillingTimeline.Taken] {
        try await read(ReadTakenPeriods(tenantID: tenant))
    }

    public func unbilled(
        _ tenant: TenantID, from start: Timestamp?, before end: Timestamp
    ) async throws(AdministrationFailure) -> Timestamp? {
        try await read(FindUnbilled(tenantID: tenant, start: start, end: end)).first ?? nil
    }

    public func halfIssued(
        _ tenant: TenantID, by end: Timestamp
    ) async throws(AdministrationFailure) -> [HalfIssuedPeriod] {
        try await read(ReadHalfIssued(tenantID: tenant, end: end))
    }

    public func redraft(
        _ tenant: TenantID, _ period: BillingPeriod, by actor: AuditActor, _ compose: InvoiceComposition
    ) async throws(AdministrationFailure) -> [InvoiceID] {
        try await change(actor) { change in try await change.redraft(tenant, period, compose) }
    }

    public func finalise(
        _ id: InvoiceID, graceSeconds: Int64, dueDays: Int64, by actor: AuditActor, _ compose: InvoiceComposition
    ) async throws(AdministrationFailure) {
        try await change(actor) { change in
            try await change.finalise(id, graceSeconds: graceSeconds, dueDays: dueDays, compose)
        }
    }

    public func pay(_ id: InvoiceID, by actor: AuditActor) async throws(AdministrationFailure) {
        try await change(actor) { change in try await change.pay(id) }
    }

    public func void(
        _ id: InvoiceID, _ voiding: InvoiceVoiding, by actor: AuditActor
    ) async throws(AdministrationFailure) {
        try await change(actor) { change in try await change.void(id, voiding) }
    }

    public func credit(
        _ id: InvoiceID, amount: Micros, reason: String, asCredit: Bool, by actor: AuditActor
    ) async throws(AdministrationFailure) -> InvoiceID {
        try await change(actor) { change in
            try await change.credit(id, amount: amount, reason: reason, asCredit: asCredit)
        }
    }

    public func invoices(_ query: InvoiceQuery) async throws(AdministrationFailure) -> Page<InvoiceRow> {
        try await list(ListInvoices(query: query), query.page)
    }

    public func invoice(_ id: InvoiceID) async throws(AdministrationFailure) -> Invoice {
        guard let row = try await read(FindInvoice(id: id)).first else { throw .refused(.noSuchInvoice) }
        return Invoice(
            row: row, lines: try await read(ReadInvoiceLines(id: id)),
            credits: try await read(ReadInvoiceCredits(id: id)))
    }

    public func issuers() async throws(AdministrationFailure) -> [InvoiceIssuer] { try await read(ListIssuers()) }

    public func setIssuer(
        _ issuer: InvoiceIssuer, by actor: AuditActor
    ) async throws(AdministrationFailure) -> InvoiceIssuer {
        try await change(actor) { change in try await change.setIssuer(issuer) }
    }
}

extension AdministrationStore: CreditAdministration {
    public func grantCredit(
        _ grant: NewCreditGrant, by actor: AuditActor
    ) async throws(AdministrationFailure) -> CreditGrantRow {
        try await change(actor) { change in try await change.grantCredit(grant) }
    }

    public func revokeCredit(
        _ id: CreditGrantID, by actor: AuditActor
    ) async throws(AdministrationFailure) -> CreditGrantRow {
        try await change(actor) { change in try await change.revokeCredit(id) }
    }

    public func credits(
        of tenant: TenantID, _ page: PageRequest<CreditGrantID>
    ) async throws(AdministrationFailure) -> Page<CreditGrantRow> {
        _ = try await self.tenant(tenant)
        return try await list(ListCreditGrants(tenantID: tenant, page: page), page)
    }
}
