/// What a bill needs to know of a tenant.
public struct BillingAccount: Hashable, Sendable {
    public let tenantID: TenantID
    public let name: String
    /// An IANA zone; periods are its calendar months.
    public let timeZone: String

    public init(tenantID: TenantID, name: String, timeZone: String) {
        self.tenantID = tenantID
        self.name = name
        self.timeZone = timeZone
    }
}

/// Everything that ``Rating`` needs of one tenant and period, as it was in one snapshot of the database.
public struct RatingInput: Sendable {
    /// Clipped to the period, in the order of time; the part of a subscription before its trial's end is a span of its own.
    public let spans: [SubscriptionSpan]
    /// Roll-up and the ledger's tail together, exact to the last commit.
    public let usage: [UsageQuantity]
    /// Of every version that spans or usage name.
    public let terms: [TierVersionID: TierTerms]

    public init(spans: [SubscriptionSpan], usage: [UsageQuantity], terms: [TierVersionID: TierTerms]) {
        self.spans = spans
        self.usage = usage
        self.terms = terms
    }
}

/// Reads what is rated. Invoices, reports, the analysis of tiers and the replay of drafts all ask here, so that they cannot disagree.
public protocol RatingRecords: Sendable {
    /// - Returns: `nil` for an unknown tenant.
    func account(_ tenant: TenantID) async throws(StoreUnavailable) -> BillingAccount?

    /// The tier version that a tenant is on now; `nil` for an unknown tenant.
    func currentVersion(of tenant: TenantID) async throws(StoreUnavailable) -> TierVersionID?

    /// By tenant, those behind `after`, at most `limit`.
    func accounts(after: TenantID?, limit: Int) async throws(StoreUnavailable) -> [BillingAccount]

    /// - Parameter period: its edges lie on edges of usage (``Timestamp/isUsageEdge``).
    func input(_ tenant: TenantID, _ period: Period) async throws(StoreUnavailable) -> RatingInput

    /// The terms of versions in any state, drafts too; those that do not exist are left out.
    func terms(_ versions: [TierVersionID]) async throws(StoreUnavailable) -> [TierVersionID: TierTerms]
}

/// What was issued, so that it can be rated anew.
public protocol IssuedInvoiceRecords: Sendable {
    /// Those with an issued invoice, by id, behind `after`, at most `limit`.
    func invoicedTenants(after: TenantID?, limit: Int) async throws(StoreUnavailable) -> [TenantID]
    /// All of a tenant, in the order in which they were issued; void ones too.
    func issuedInvoices(of tenant: TenantID) async throws(StoreUnavailable) -> [InvoiceID]
    /// - Returns: `nil` for what is unknown or no issued invoice.
    func issuedInvoice(_ id: InvoiceID) async throws(StoreUnavailable) -> IssuedInvoice?
    /// All stays of a tenant, and the terms of every version that they or its invoices name.
    func stays(of tenant: TenantID) async throws(StoreUnavailable) -> (
        stays: [TenantStay], terms: [TierVersionID: TierTerms]
    )
}
