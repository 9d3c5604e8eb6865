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

    /// By tenant, those behind `after`, at most `limit`.
    func accounts(after: TenantID?, limit: Int) async throws(StoreUnavailable) -> [BillingAccount]

    /// - Parameter period: its edges lie on edges of usage (``Timestamp/isUsageEdge``).
    func input(_ tenant: TenantID, _ period: Period) async throws(StoreUnavailable) -> RatingInput

    /// The terms of versions in any state, drafts too; those that do not exist are left out.
    func terms(_ versions: [TierVersionID]) async throws(StoreUnavailable) -> [TierVersionID: TierTerms]
}
