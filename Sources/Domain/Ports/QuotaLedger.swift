/// A request for units of all the quotas of some terms at once: for a new lease, or for more in an open one.
public struct LeaseRequest: Sendable {
    public struct Want: Sendable {
        public let quota: Quota
        public let period: Period
        /// Less than this is a refusal.
        public let minimum: Int64
        /// As much as this is welcome.
        public let wanted: Int64
        /// What the request that asks needs in all, of which the lease may have a part already; a refusal names it.
        public let need: Int64

        public init(quota: Quota, period: Period, minimum: Int64, wanted: Int64, need: Int64? = nil) {
            self.quota = quota
            self.period = period
            self.minimum = minimum
            self.wanted = wanted
            self.need = need ?? minimum
        }
    }

    public let leaseID: LeaseID
    public let tenantID: TenantID
    /// Whether the lease is to be made; otherwise it is open and is to grow.
    public let isNew: Bool
    public let wants: [Want]
    /// What is given back in the same step, before it is decided, and whatever is decided.
    public var returns: [LeaseReturn]

    public init(
        leaseID: LeaseID, tenantID: TenantID, wants: [Want], isNew: Bool = true, returns: [LeaseReturn] = []
    ) {
        self.leaseID = leaseID
        self.tenantID = tenantID
        self.isNew = isNew
        self.wants = wants
        self.returns = returns
    }
}

/// Units of a lease that its gateway has stopped admitting from.
public struct LeaseReturn: Hashable, Sendable {
    public let leaseID: LeaseID
    public let quotaID: QuotaID
    public let amount: Int64

    public init(leaseID: LeaseID, quotaID: QuotaID, amount: Int64) {
        self.leaseID = leaseID
        self.quotaID = quotaID
        self.amount = amount
    }
}

extension [LeaseReturn] {
    /// One return for each lease and quota. The database takes a list in which none is named twice.
    public var summed: [LeaseReturn] {
        var sums: [LeaseReturn] = []
        for part in self {
            if let place = sums.firstIndex(where: { $0.leaseID == part.leaseID && $0.quotaID == part.quotaID }) {
                sums[place] = LeaseReturn(
                    leaseID: part.leaseID, quotaID: part.quotaID, amount: sums[place].amount + part.amount)
            } else {
                sums.append(part)
            }
        }
        return sums
    }
}

/// What the database answered.
public enum LeaseAnswer: Sendable {
    /// One slice of a grant, and what of its quota nobody holds after it.
    public struct Grant: Sendable {
        /// What was granted now; a lease that grew has more.
        public let slice: Lease.Slice
        /// Below zero where a limit that does not refuse has been passed.
        public let freeAfterwards: Int64
        /// What closed leases have booked in the period.
        public let settled: Int64
        /// Whether use is known to have gone on beyond a limit that does not refuse.
        public let isExceeded: Bool

        public init(slice: Lease.Slice, freeAfterwards: Int64, settled: Int64 = 0, isExceeded: Bool = false) {
            self.slice = slice
            self.freeAfterwards = freeAfterwards
            self.settled = settled
            self.isExceeded = isExceeded
        }
    }

    /// - Parameter at: the database's time.
    case granted([Grant], at: Timestamp)
    case refused(QuotaRefusal)
    /// The lease that was to grow is not open any more.
    case lost
    /// The periods that were asked for are not now: the database's time is this, and the gateway's clock is wrong.
    case elsewhen(Timestamp)
}

/// What became of leases that were to be renewed.
public struct LeaseRenewal: Sendable {
    /// Those that are still open, and have their end moved.
    public let open: Set<LeaseID>
    /// Those of them with a slice of a hard quota of which less is free than the slice: what is idle there is missed elsewhere.
    public let scarce: Set<LeaseID>
    /// Their quotas beyond whose limit use is known to have gone on; leases without such are left out.
    public let exceeded: [LeaseID: Set<QuotaID>]

    public init(open: Set<LeaseID>, scarce: Set<LeaseID>, exceeded: [LeaseID: Set<QuotaID>] = [:]) {
        self.open = open
        self.scarce = scarce
        self.exceeded = exceeded
    }
}

/// Raised by every port whose store is away.
public struct StoreUnavailable: Error, Sendable {
    /// For the log; holds no SQL and no data.
    public let cause: String
    public init(cause: String) { self.cause = cause }
}

/// The one owner of quota: hands out slices, takes them back. Every verb is one atomic statement.
public protocol QuotaLedger: Sendable {
    /// Takes units of all the quotas in one step, or none.
    func acquire(_ request: LeaseRequest) async throws(StoreUnavailable) -> LeaseAnswer
    /// Extends leases that are still open; the others are lost.
    func renew(_ leases: [LeaseID]) async throws(StoreUnavailable) -> LeaseRenewal
    /// Makes open leases of this gateway smaller.
    func giveBack(_ returns: [LeaseReturn]) async throws(StoreUnavailable)
    /// Closes leases of this gateway that have nothing in flight and books what the ledger says was spent on them.
    func close(_ leases: [LeaseID]) async throws(StoreUnavailable)
}
