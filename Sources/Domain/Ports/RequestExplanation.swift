/// Why one request was admitted, and what is behind its charge.
public struct RequestExplanation: Sendable {
    public let row: RequestRow
    /// What was held for it: the most tokens that it could have been charged. `nil` where nothing was held.
    public let heldTokens: Int64?
    /// The lease that it was charged to; `nil` where it was not charged, or no quota applied.
    public let leaseID: LeaseID?
    /// The quotas that the lease drew from; none where its record has been removed.
    public let policies: [Policy]

    /// One quota that the lease drew from.
    public struct Policy: Hashable, Sendable {
        /// As it is now; the amount may have been changed since.
        public let quota: Quota
        public let periodStart: Timestamp
        public let periodEnd: Timestamp
        /// What the gateway had taken for this request and others together.
        public let granted: Int64
        /// Where the request lies in what the period includes; `nil` where that cannot be told any more.
        public let part: Part?

        public init(quota: Quota, periodStart: Timestamp, periodEnd: Timestamp, granted: Int64, part: Part? = nil) {
            self.quota = quota
            self.periodStart = periodStart
            self.periodEnd = periodEnd
            self.granted = granted
            self.part = part
        }
    }

    /// On which side of a limit a charged request lies.
    public enum Part: String, Sendable {
        /// Within the limit.
        case included
        /// Beyond a limit that does not refuse.
        case overage
    }

    public init(row: RequestRow, heldTokens: Int64?, leaseID: LeaseID?, policies: [Policy]) {
        self.row = row
        self.heldTokens = heldTokens
        self.leaseID = leaseID
        self.policies = policies
    }
}
