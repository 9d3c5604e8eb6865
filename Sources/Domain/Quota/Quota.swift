/// What a quota counts.
public enum QuotaUnit: String, Sendable, CaseIterable {
    case requests
    case tokens
}

/// How often a quota begins anew. There is no reset job: the period follows from the time.
public enum Frequency: String, Sendable, CaseIterable {
    case minute
    case hour
    case day
    case week
    case month
    case quarter
    case year
    /// One period for all time.
    case none

    /// Whether the quota begins anew. Where it does not, no answer names the period's end: it lies beyond what RFC 3339 can say.
    public var recurs: Bool { self != .none }
}

/// What happens at the limit.
public enum QuotaMode: String, Sendable, CaseIterable {
    /// Refused; `settled + held` never exceeds the limit.
    case hard
    /// Counted and reported, not refused.
    case soft
}

/// One limit of a tenant.
public struct Quota: Hashable, Sendable {
    public let id: QuotaID
    public let unit: QuotaUnit
    public let frequency: Frequency
    /// Units per period.
    public let amount: Int64
    public let mode: QuotaMode
    /// The name in `RateLimit-Policy` and in answers, as in `tokens-month`. Kept, because every answer carries it.
    public let policy: String

    public init(id: QuotaID, unit: QuotaUnit, frequency: Frequency, amount: Int64, mode: QuotaMode) {
        self.id = id
        self.unit = unit
        self.frequency = frequency
        self.amount = amount
        self.mode = mode
        policy = "\(unit.rawValue)-\(frequency.rawValue)"
    }
}
