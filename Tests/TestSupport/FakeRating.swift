public import Domain
internal import Synchronization

/// What is rated, in memory.
public final class FakeRating: RatingRecords, TierCatalog, UsageSeries, IssuedInvoiceRecords {
    public struct State: Sendable {
        public var accounts: [BillingAccount] = []
        /// By tenant and the period's name.
        public var inputs: [TenantID: [String: RatingInput]] = [:]
        public var tiers: [TierRow] = []
        public var quarters: [UsageQuarter] = []
        public var minutes: [UsageMinute] = []
        public var current: [TenantID: TierVersionID] = [:]
        /// In the order in which they were issued.
        public var invoices: [IssuedInvoice] = []
        public var stays: [TenantID: [TenantStay]] = [:]
        public var terms: [TierVersionID: TierTerms] = [:]
        /// Pages of accounts that were read.
        public var pages = 0

        public init(accounts: [BillingAccount] = [], inputs: [TenantID: [String: RatingInput]] = [:]) {
            self.accounts = accounts
            self.inputs = inputs
        }
    }

    private let state: Mutex<State>

    public init(_ state: State = State()) { self.state = Mutex(state) }

    public var pages: Int { state.withLock { $0.pages } }

    public func account(_ tenant: TenantID) async throws(StoreUnavailable) -> BillingAccount? {
        state.withLock { $0.accounts.first { $0.tenantID == tenant } }
    }

    public func currentVersion(of tenant: TenantID) async throws(StoreUnavailable) -> TierVersionID? {
        state.withLock { $0.current[tenant] }
    }

    public func invoicedTenants(after: TenantID?, limit: Int) async throws(StoreUnavailable) -> [TenantID] {
        state.withLock { state in
            let tenants = Set(state.invoices.map(\.tenantID)).sorted()
            return Array(tenants.filter { tenant in after.map { $0 < tenant } ?? true }.prefix(limit))
        }
    }

    public func issuedInvoices(of tenant: TenantID) async throws(StoreUnavailable) -> [InvoiceID] {
        state.withLock { $0.invoices.filter { $0.tenantID == tenant }.map(\.id) }
    }

    public func issuedInvoice(_ id: InvoiceID) async throws(StoreUnavailable) -> IssuedInvoice? {
        state.withLock { $0.invoices.first { $0.id == id } }
    }

    public func stays(of tenant: TenantID) async throws(StoreUnavailable) -> (
        stays: [TenantStay], terms: [TierVersionID: TierTerms]
    ) {
        state.withLock { ($0.stays[tenant] ?? [], $0.terms) }
    }

    public func accounts(after: TenantID?, limit: Int) async throws(StoreUnavailable) -> [BillingAccount] {
        state.withLock { state in
            state.pages += 1
            let behind = state.accounts.sorted { $0.tenantID < $1.tenantID }.filter { account in
                after.map { $0 < account.tenantID } ?? true
            }
            return Array(behind.prefix(limit))
        }
    }

    public func input(_ tenant: TenantID, _ period: Period) async throws(StoreUnavailable) -> RatingInput {
        state.withLock { $0.inputs[tenant]?[period.id] } ?? RatingInput(spans: [], usage: [], terms: [:])
    }

    public func terms(_ versions: [TierVersionID]) async throws(StoreUnavailable) -> [TierVersionID: TierTerms] {
        state.withLock { state in
            Dictionary(
                state.tiers.filter { versions.contains($0.version.id) }.map { ($0.version.id, $0.terms) },
                uniquingKeysWith: { first, _ in first })
        }
    }

    public func tiers(for tenant: TenantID) async throws(StoreUnavailable) -> [TierRow] {
        state.withLock { $0.tiers.filter { $0.tenantID == nil || $0.tenantID == tenant } }
    }

    public func tierVersion(_ id: TierVersionID, for tenant: TenantID) async throws(StoreUnavailable) -> TierRow? {
        state.withLock { $0.tiers.first { $0.version.id == id } }
    }

    public func quarters(
        of tenant: TenantID, from start: Timestamp, to end: Timestamp
    ) async throws(StoreUnavailable) -> [UsageQuarter] {
        state.withLock { $0.quarters.filter { start <= $0.start && $0.start < end } }
    }

    public func minutes(
        of tenant: TenantID, from start: Timestamp, to end: Timestamp
    ) async throws(StoreUnavailable) -> [UsageMinute] {
        state.withLock { $0.minutes.filter { start <= $0.start && $0.start < end } }
    }
}
