/// Why one request was admitted, and what is behind its charge.
public struct RequestExplanation: Sendable {
    public let row: RequestRow
    /// What was held for it: the most tokens that it could have been charged. `nil` where nothing was held.
    public let heldTokens: Int64?
    /// The lease that it was charged to; `nil` where it was not charged, or no quota applied.
    public let leaseID: LeaseID?
    public let policies: [Policy]

    /// One quota that the lease drew from.
    public struct Policy: Hashable, Sendable {
        /// As it is now; the amount may have been changed since.
        public let quota: Quota
        public let periodStart: Timestamp
        public let periodEnd: Timestamp
        /// What the gateway had taken for this request and others together.
        public let granted: Int64

        public init(quota: Quota, periodStart: Timestamp, periodEnd: Timestamp, granted: Int64) {
            self.quota = quota
            self.periodStart = periodStart
            self.periodEnd = periodEnd
            self.granted = granted
        }
    }

    public init(row: RequestRow, heldTokens: Int64?, leaseID: LeaseID?, policies: [Policy]) {
        self.row = row
        self.heldTokens = heldTokens
        self.leaseID = leaseID
        self.policies = policies
    }
}
