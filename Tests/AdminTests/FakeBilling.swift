import Domain

extension FakeAdministration: InvoiceRecords {
    private static let invoiceID = InvoiceID(high: 0x0195_0000_0000_7000, low: 0x8000_0000_0000_0E01)

    private static var invoice: Invoice {
        let row = InvoiceRow(
            id: invoiceID, kind: .invoice, state: .draft, number: nil, issuer: "default", issuerName: "Weir",
            issuerAddress: "", issuerTaxID: "", numberPrefix: "INV-", correctsInvoiceID: nil, tenantID: tenantID,
            customerName: "Example", periodID: "2026-01@UTC", periodStart: instant,
            periodEnd: instant.advanced(byMilliseconds: 86_400_000), timeZone: "UTC", currency: "EUR", subtotal: .zero,
            credits: .zero, total: .zero, credited: .zero, note: "", draftedAt: instant, finalisedAt: nil, dueAt: nil,
            paidAt: nil, voidedAt: nil)
        return Invoice(row: row, lines: [], credits: [])
    }

    func now() async throws(AdministrationFailure) -> Timestamp {
        try note("now")
        return Self.instant
    }

    func taken(_ tenant: TenantID) async throws(AdministrationFailure) -> [BillingTimeline.Taken] { [] }

    /// One month has nothing to bill after all.
    func unbilled(
        _ tenant: TenantID, from start: Timestamp?, before end: Timestamp
    ) async throws(AdministrationFailure) -> Timestamp? {
        start == nil ? Timestamp(microsecondsSince1970: end.microsecondsSince1970 - 1) : nil
    }

    func halfIssued(_ tenant: TenantID, by end: Timestamp) async throws(AdministrationFailure) -> [HalfIssuedPeriod] {
        []
    }

    /// There is something to invoice in January alone.
    func redraft(
        _ tenant: TenantID, _ period: BillingPeriod, by actor: AuditActor, _ compose: InvoiceComposition
    ) async throws(AdministrationFailure) -> [InvoiceID] {
        try note("redraft", actor)
        return period.label == "2026-01" ? [Self.invoiceID] : []
    }

    func finalise(
        _ id: InvoiceID, graceSeconds: Int64, dueDays: Int64, by actor: AuditActor, _ compose: InvoiceComposition
    ) async throws(AdministrationFailure) { try note("finalise", actor) }

    func pay(_ id: InvoiceID, by actor: AuditActor) async throws(AdministrationFailure) { try note("pay", actor) }

    func void(
        _ id: InvoiceID, _ voiding: InvoiceVoiding, by actor: AuditActor
    ) async throws(AdministrationFailure) { try note("void", actor) }

    func credit(
        _ id: InvoiceID, amount: Micros, reason: String, asCredit: Bool, by actor: AuditActor
    ) async throws(AdministrationFailure) -> InvoiceID {
        try note("credit", actor)
        return Self.invoiceID
    }

    func invoices(_ query: InvoiceQuery) async throws(AdministrationFailure) -> Page<InvoiceRow> {
        try note("invoices")
        return Page([Self.invoice.row], hasMore: false)
    }

    func invoice(_ id: InvoiceID) async throws(AdministrationFailure) -> Invoice {
        try note("invoice")
        return Self.invoice
    }

    func issuers() async throws(AdministrationFailure) -> [InvoiceIssuer] {
        try note("issuers")
        return []
    }

    func setIssuer(
        _ issuer: InvoiceIssuer, by actor: AuditActor
    ) async throws(AdministrationFailure) -> InvoiceIssuer {
        try note("setIssuer", actor)
        return issuer
    }
}

extension FakeAdministration: CreditAdministration {
    private static func grantRow(_ grant: NewCreditGrant? = nil) -> CreditGrantRow {
        let grant =
            grant
            ?? NewCreditGrant(
                tenantID: tenantID, kind: .prepaid, currency: "EUR", amount: Micros(5), priority: 100,
                effectiveAt: instant, expiresAt: nil, reason: "Top-up")
        return CreditGrantRow(
            id: CreditGrantID(high: 1, low: 1), grant: grant, effectiveAt: instant, remaining: grant.amount,
            createdAt: instant, revokedAt: nil)
    }

    func grantCredit(
        _ grant: NewCreditGrant, by actor: AuditActor
    ) async throws(AdministrationFailure) -> CreditGrantRow {
        try note("grantCredit", actor)
        return Self.grantRow(grant)
    }

    func revokeCredit(
        _ id: CreditGrantID, by actor: AuditActor
    ) async throws(AdministrationFailure) -> CreditGrantRow {
        try note("revokeCredit", actor)
        return Self.grantRow()
    }

    func credits(
        of tenant: TenantID, _ page: PageRequest<CreditGrantID>
    ) async throws(AdministrationFailure) -> Page<CreditGrantRow> {
        try note("credits")
        return Page([Self.grantRow()], hasMore: false)
    }
}

extension FakeAdministration: SubscriptionAdministration {
    private static var standing: SubscriptionStanding {
        SubscriptionStanding(
            account: BillingAccount(tenantID: tenantID, name: "Example", timeZone: "UTC"), now: instant, scheduled: nil,
            stays: [])
    }

    func subscription(of tenant: TenantID) async throws(AdministrationFailure) -> SubscriptionStanding {
        try note("subscription")
        return Self.standing
    }

    func subscribe(
        _ tenant: TenantID, tier: String, when: SubscriptionMoment, by actor: AuditActor
    ) async throws(AdministrationFailure) -> SubscriptionStanding {
        try note("subscribe", actor)
        return Self.standing
    }

    func cancelChange(
        of tenant: TenantID, by actor: AuditActor
    ) async throws(AdministrationFailure) -> SubscriptionStanding {
        try note("cancelChange", actor)
        return Self.standing
    }

    func applyDueChange() async throws(AdministrationFailure) -> DueChange? { nil }
}

extension FakeAdministration: PrepaidRecords, AdjustmentRecords {
    func setPrepaid(
        _ tenant: TenantID, _ isPrepaid: Bool, by actor: AuditActor
    ) async throws(AdministrationFailure) -> PrepaidStanding {
        try note("setPrepaid", actor)
        return PrepaidStanding(tenantID: tenant, isPrepaid: isPrepaid, isExhausted: false)
    }

    func prepaidTenants(after: TenantID?, limit: Int) async throws(AdministrationFailure) -> [PrepaidTenant] { [] }

    func prepaidUse(since position: String?) async throws(AdministrationFailure) -> PrepaidUse {
        PrepaidUse(position: "0", earliest: [:])
    }

    func weigh(
        _ tenant: TenantID, _ rule: BalanceRule
    ) async throws(AdministrationFailure) -> PrepaidWeighing { PrepaidWeighing(finding: nil, isChanged: false) }

    func adjust(
        _ adjustment: NewAdjustment, by actor: AuditActor
    ) async throws(AdministrationFailure) -> AdjustmentRow {
        try note("adjust", actor)
        return AdjustmentRow(
            entryID: adjustment.requestID, tenantID: Self.tenantID, adjustment: adjustment, sum: [0, 0, 0, 0])
    }
}

/// One tenant with nothing to rate.
struct FakeEmptyMonths: RatingRecords {
    private let known = BillingAccount(tenantID: FakeAdministration.tenantID, name: "Example", timeZone: "UTC")

    func account(_ tenant: TenantID) async throws(StoreUnavailable) -> BillingAccount? { known }

    func currentVersion(of tenant: TenantID) async throws(StoreUnavailable) -> TierVersionID? { nil }

    func accounts(after: TenantID?, limit: Int) async throws(StoreUnavailable) -> [BillingAccount] {
        after == nil ? [known] : []
    }

    func input(_ tenant: TenantID, _ period: Period) async throws(StoreUnavailable) -> RatingInput {
        RatingInput(spans: [], usage: [], terms: [:])
    }

    func terms(_ versions: [TierVersionID]) async throws(StoreUnavailable) -> [TierVersionID: TierTerms] { [:] }
}

struct FakePrinter: InvoicePrinter {
    func pdf(_ page: [UInt8]) async throws(Refusal) -> [UInt8] { Array("%PDF-".utf8) }
}
