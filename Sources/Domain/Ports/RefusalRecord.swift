/// What is kept of a request that a quota or a rate limit refused before it cost anything: the numbers that decided.
public struct RefusalRecord: Hashable, Sendable {
    public let requestID: RequestID
    public let tenantID: TenantID
    public let keyID: KeyID
    public let model: String
    /// `quota_exceeded` or `rate_limited`.
    public let code: FailureCode
    public let refusedAt: Timestamp
    public let numbers: Numbers

    public struct Numbers: Hashable, Sendable {
        /// The policy's name, as in `tokens-month` or `rpm`.
        public let policy: String
        public let unit: RateUnit
        public let limit: Int64
        /// Of a quota; `nil` for a rate limit.
        public let settled: Int64?
        /// Of a quota; `nil` for a rate limit.
        public let held: Int64?
        public let remaining: Int64
        public let requested: Int64
        /// `nil` where waiting does not help.
        public let retryAfterMilliseconds: Int64?
        /// Of a quota that begins anew; `nil` otherwise.
        public let periodStart: Timestamp?
        public let periodEnd: Timestamp?

        public init(
            policy: String, unit: RateUnit, limit: Int64, settled: Int64?, held: Int64?, remaining: Int64,
            requested: Int64, retryAfterMilliseconds: Int64?, periodStart: Timestamp?, periodEnd: Timestamp?
        ) {
            self.policy = policy
            self.unit = unit
            self.limit = limit
            self.settled = settled
            self.held = held
            self.remaining = remaining
            self.requested = requested
            self.retryAfterMilliseconds = retryAfterMilliseconds
            self.periodStart = periodStart
            self.periodEnd = periodEnd
        }
    }

    public init(
        requestID: RequestID, tenantID: TenantID, keyID: KeyID, model: String, code: FailureCode, refusedAt: Timestamp,
        numbers: Numbers
    ) {
        self.requestID = requestID
        self.tenantID = tenantID
        self.keyID = keyID
        self.model = model
        self.code = code
        self.refusedAt = refusedAt
        self.numbers = numbers
    }
}

extension Refusal {
    /// The numbers that decided; `nil` for a refusal that neither a quota nor a rate limit made.
    public var decidingNumbers: RefusalRecord.Numbers? {
        if let quota {
            let recurs = quota.quota.frequency.recurs
            return RefusalRecord.Numbers(
                policy: quota.quota.policy, unit: quota.quota.unit == .tokens ? .tokens : .requests,
                limit: quota.quota.amount, settled: quota.settled, held: quota.held,
                remaining: max(0, quota.quota.amount - quota.settled - quota.held), requested: quota.requested,
                retryAfterMilliseconds: retryAfterSeconds.map { Int64($0) * 1_000 },
                periodStart: recurs ? quota.period.start : nil, periodEnd: recurs ? quota.period.end : nil)
        }
        return rate.map { rate in
            RefusalRecord.Numbers(
                policy: rate.policy, unit: rate.unit, limit: rate.limit.amount, settled: nil, held: nil,
                remaining: rate.remaining, requested: rate.requested, retryAfterMilliseconds: rate.waitMilliseconds,
                periodStart: nil, periodEnd: nil)
        }
    }
}

/// Keeps refusals for a while.
public protocol RefusalStore: Sendable {
    /// Writes them all, or none. One that is there stays.
    func keep(_ refusals: [RefusalRecord]) async throws(StoreUnavailable)
}
