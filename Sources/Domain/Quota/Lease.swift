/// A slice of several quota periods that one gateway may spend until the lease expires.
///
/// PostgreSQL grants it by one conditional statement, so the sum of all slices never exceeds a limit; admission from it is a subtraction
/// in memory.
public struct Lease: Sendable {
    /// The part of one quota's period that the lease holds.
    public struct Slice: Hashable, Sendable {
        public let quota: Quota
        public let period: Period
        public let granted: Int64

        public init(quota: Quota, period: Period, granted: Int64) {
            self.quota = quota
            self.period = period
            self.granted = granted
        }
    }

    public let id: LeaseID
    public let tenantID: TenantID
    /// One for each quota of the terms that the lease was taken under.
    public let slices: [Slice]
    /// When the lease ends by the gateway's monotonic clock, counted from before the request for it was sent, so that the gateway always
    /// believes it ends no later than the database does.
    public let expiresAtNanoseconds: UInt64

    public init(id: LeaseID, tenantID: TenantID, slices: [Slice], expiresAtNanoseconds: UInt64) {
        self.id = id
        self.tenantID = tenantID
        self.slices = slices
        self.expiresAtNanoseconds = expiresAtNanoseconds
    }
}

/// What a request takes from a lease at admission.
public struct Hold: Hashable, Sendable {
    public let leaseID: LeaseID
    /// The upper bound held; the actual number is settled and the rest goes back to the lease.
    public let tokens: Int64
    /// Which of the tenant's books on this gateway it was taken from.
    public var account = 0
}

/// The limits that a request has to pass, and the zone that cuts their periods, as they stood when its caller was authenticated. A lease is
/// taken under terms; under others, where a limit was changed meanwhile, it admits nothing more.
///
/// An immutable object, made with the principal: the same one is the common case, and that is told without looking into it.
public final class QuotaTerms: Sendable {
    public let quotas: [Quota]
    public let timeZone: String
    /// Of the quotas, in their order.
    public let ids: [QuotaID]

    public init(quotas: [Quota], timeZone: String) {
        self.quotas = quotas
        self.timeZone = timeZone
        ids = quotas.map(\.id)
    }

    /// Whether these are the same quotas, whatever their amounts.
    public func names(_ ids: [QuotaID]) -> Bool { self.ids == ids }

    /// Whether nothing that decides is different.
    public func isSame(as other: QuotaTerms) -> Bool {
        if self === other { return true }
        guard quotas.count == other.quotas.count, timeZone == other.timeZone else { return false }
        for index in quotas.indices {
            let (mine, others) = (quotas[index], other.quotas[index])
            guard mine.id == others.id, mine.amount == others.amount, mine.mode == others.mode,
                mine.anchor == others.anchor
            else { return false }
        }
        return true
    }
}

/// The numbers that decided a refusal; a 429 carries them.
public struct QuotaRefusal: Error, Hashable, Sendable {
    public let quota: Quota
    public let period: Period
    public let settled: Int64
    public let held: Int64
    public let requested: Int64

    public init(quota: Quota, period: Period, settled: Int64, held: Int64, requested: Int64) {
        self.quota = quota
        self.period = period
        self.settled = settled
        self.held = held
        self.requested = requested
    }
}
