/// A request for a lease, for every quota of one tenant at once.
public struct LeaseRequest: Sendable {
    public struct Want: Sendable {
        public let quota: Quota
        public let period: Period
        /// Less than this is a refusal.
        public let minimum: Int64
        /// As much as this is welcome.
        public let wanted: Int64

        public init(quota: Quota, period: Period, minimum: Int64, wanted: Int64) {
            self.quota = quota
            self.period = period
            self.minimum = minimum
            self.wanted = wanted
        }
    }

    public let leaseID: LeaseID
    public let tenantID: TenantID
    public let wants: [Want]

    public init(leaseID: LeaseID, tenantID: TenantID, wants: [Want]) {
        self.leaseID = leaseID
        self.tenantID = tenantID
        self.wants = wants
    }
}

/// What the database answered.
public enum LeaseAnswer: Sendable {
    /// One slice of a grant, and what of its quota nobody holds after it.
    public struct Grant: Sendable {
        public let slice: Lease.Slice
        public let freeAfterwards: Int64

        public init(slice: Lease.Slice, freeAfterwards: Int64) {
            self.slice = slice
            self.freeAfterwards = freeAfterwards
        }
    }

    case granted([Grant])
    case refused(QuotaRefusal)
}

/// Raised by every port whose store is away.
public struct StoreUnavailable: Error, Sendable {
    /// For the log; holds no SQL and no data.
    public let cause: String
    public init(cause: String) { self.cause = cause }
}

/// The one owner of quota: hands out slices, takes them back. Every verb is one atomic statement.
public protocol QuotaLedger: Sendable {
    /// Takes slices of all the quotas in one step, or none.
    func acquire(_ request: LeaseRequest) async throws(StoreUnavailable) -> LeaseAnswer
    /// Extends leases that are still open. The answer holds those; the others are lost.
    func renew(_ leases: [LeaseID]) async throws(StoreUnavailable) -> Set<LeaseID>
    /// Closes leases of this gateway that have nothing in flight and books what the ledger says was spent on them.
    func close(_ leases: [LeaseID]) async throws(StoreUnavailable)
}
