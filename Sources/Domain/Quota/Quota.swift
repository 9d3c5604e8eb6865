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
    public var recurs: Bool { if case .none = self { false } else { true } }
}

/// What happens at the limit.
public enum QuotaMode: String, Sendable, CaseIterable {
    /// Refused; `settled + held` never exceeds the limit.
    case hard
    /// Counted and reported, not refused.
    case soft
    /// The amount is included in the price; what is used beyond it is not refused and is charged as overage.
    case payAsYouGo = "pay_as_you_go"

    /// Whether a request is refused that does not fit.
    public var refuses: Bool { self == .hard }
}

/// Whose use a quota counts. A request has to pass those of its key, of the key's user and of the tenant.
public enum QuotaLevel: String, Sendable, CaseIterable {
    case tenant
    case user
    case key
}

/// Where the periods of a quota begin.
public enum QuotaAlignment: String, Sendable, CaseIterable {
    /// At the calendar's edges in the tenant's time zone.
    case calendar
    /// At the day and time at which the tenant's first subscription with such a quota began.
    case subscription
}

/// One limit of a tenant, of one of its users or of one of its keys.
public struct Quota: Hashable, Sendable {
    public let id: QuotaID
    public let level: QuotaLevel
    public let unit: QuotaUnit
    public let frequency: Frequency
    /// Units per period.
    public let amount: Int64
    public let mode: QuotaMode
    /// Where one of its periods begins; `nil` for a quota that is aligned to the calendar.
    public let anchor: Timestamp?
    /// The name in `RateLimit-Policy` and in answers, as in `tokens-month` or `key-tokens-month`. Kept, because every answer carries it.
    public let policy: String

    public init(
        id: QuotaID, unit: QuotaUnit, frequency: Frequency, amount: Int64, mode: QuotaMode,
        level: QuotaLevel = .tenant, anchor: Timestamp? = nil
    ) {
        self.id = id
        self.level = level
        self.unit = unit
        self.frequency = frequency
        self.amount = amount
        self.mode = mode
        self.anchor = anchor
        policy = "\(level == .tenant ? "" : level.rawValue + "-")\(unit.rawValue)-\(frequency.rawValue)"
    }

    public var alignment: QuotaAlignment { anchor == nil ? .calendar : .subscription }

    /// How many of `units` lie beyond the limit, when `used` units come before them in the period. Nothing for a hard quota.
    public func beyond(units: Int64, after used: Int64) -> Int64 {
        guard !mode.refuses else { return 0 }
        let first = max(used, 0)
        let (sum, isHuge) = first.addingReportingOverflow(max(units, 0))
        let end = isHuge ? .max : sum
        return end - min(end, max(first, amount))
    }

    /// What one request of `tokens` tokens needs of it.
    public func need(tokens: Int64) -> Int64 { unit == .requests ? 1 : tokens }

    /// The same quota with another amount.
    public func with(amount: Int64) -> Quota {
        Quota(id: id, unit: unit, frequency: frequency, amount: amount, mode: mode, level: level, anchor: anchor)
    }
}
