/// What one gateway tells of one scope, and what it wants to hold of it.
public struct RateDemand: Hashable, Sendable {
    /// `nil` is the tenant itself.
    public let keyID: KeyID?
    public let capacity: RateCapacity
    /// Whether the gateway's lease is unbroken since its last exchange. Where it is not, all that it held counts as spent.
    public let isContinuous: Bool
    /// What was spent since the last exchange; no concurrency, which is never spent.
    public let spent: RateCredit
    /// What the gateway goes on holding, whatever the answer is. Together with what was spent never more than it held.
    public let kept: RateCredit
    /// What it needs to hold. Less is a refusal.
    public let minimum: RateCredit
    /// What it would like to hold.
    public let wanted: RateCredit

    public init(
        keyID: KeyID?, capacity: RateCapacity, isContinuous: Bool, spent: RateCredit, kept: RateCredit,
        minimum: RateCredit, wanted: RateCredit
    ) {
        self.keyID = keyID
        self.capacity = capacity
        self.isContinuous = isContinuous
        self.spent = spent
        self.kept = kept
        self.minimum = minimum
        self.wanted = wanted
    }
}

/// How one scope stands after an exchange.
public struct RateStanding: Hashable, Sendable {
    /// What the gateway holds now, until its lease ends.
    public let held: RateCredit
    /// What nobody holds and nothing has used. Less than nothing where a limit was lowered.
    public let free: RateCredit

    public init(held: RateCredit, free: RateCredit) {
        self.held = held
        self.free = free
    }
}

/// What an exchange came to.
public struct RateAnswer: Hashable, Sendable {
    /// The limit that decided: the one with the longest wait.
    public struct Shortage: Hashable, Sendable {
        /// The index of the demand.
        public let demand: Int
        public let unit: RateUnit
        /// Until there may be room; 0 for concurrency, of which nobody knows.
        public let waitMicroseconds: Int64

        public init(demand: Int, unit: RateUnit, waitMicroseconds: Int64) {
            self.demand = demand
            self.unit = unit
            self.waitMicroseconds = waitMicroseconds
        }
    }

    /// `nil` where every minimum was granted.
    public let shortage: Shortage?
    /// One for each demand.
    public let standings: [RateStanding]

    public init(shortage: Shortage?, standings: [RateStanding]) {
        self.shortage = shortage
        self.standings = standings
    }
}

/// The one owner of what may be used of rate limits. Gateways hold parts of it on short leases, admit from these in memory, and say later
/// what they have spent.
public protocol RateLimiter: Sendable {
    /// In one step: books what was spent, renews the lease, and lets the gateway hold what it needs of every demand, or of none.
    ///
    /// At every instant, for every limit: what was charged and has not been earned back, and what all gateways hold, are together at most
    /// the capacity. What a gateway holds and does not renew counts as spent when its lease ends.
    func exchange(_ tenantID: TenantID, _ demands: [RateDemand]) async throws(StoreUnavailable) -> RateAnswer
}
