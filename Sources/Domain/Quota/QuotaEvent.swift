/// What is really used of one quota in one period, against its thresholds.
public struct QuotaStanding: Hashable, Sendable {
    public let quotaID: QuotaID
    public let tenantID: TenantID
    public let mode: QuotaMode
    public let periodStart: Timestamp
    public let periodEnd: Timestamp
    /// The quota's own amount.
    public let amount: Int64
    /// The amount and its raises.
    public let allowed: Int64
    public let used: Int64
    public let thresholds: QuotaThresholds
    /// Those that have their event in this period already.
    public let raised: Set<Int16>
    /// By the database's clock.
    public let seenAt: Timestamp

    public init(
        quotaID: QuotaID, tenantID: TenantID, mode: QuotaMode, periodStart: Timestamp, periodEnd: Timestamp,
        amount: Int64, allowed: Int64, used: Int64, thresholds: QuotaThresholds, raised: Set<Int16>, seenAt: Timestamp
    ) {
        self.quotaID = quotaID
        self.tenantID = tenantID
        self.mode = mode
        self.periodStart = periodStart
        self.periodEnd = periodEnd
        self.amount = amount
        self.allowed = allowed
        self.used = used
        self.thresholds = thresholds
        self.raised = raised
        self.seenAt = seenAt
    }

    /// The events that are missing. What was raised stays raised, also where a higher limit has put the use below it again.
    public var dueThresholds: [Int16] {
        thresholds.reached(used: used, allowed: allowed).filter { !raised.contains($0) }
    }

    /// Whether use went on beyond a limit that does not refuse.
    public var isExceeded: Bool { !mode.refuses && used > allowed }
}

/// Use of a quota has crossed a threshold in a period. There is one for each quota, period and threshold.
public struct QuotaEvent: Hashable, Sendable {
    public let id: QuotaEventID
    public let quotaID: QuotaID
    public let tenantID: TenantID
    public let mode: QuotaMode
    public let thresholdPercent: Int16
    public let periodStart: Timestamp
    public let periodEnd: Timestamp
    /// By the database's clock; `nil` for one that is not written yet.
    public let crossedAt: Timestamp?
    /// What was used when the crossing was seen.
    public let used: Int64
    /// The quota's own amount at that moment.
    public let amount: Int64
    /// The amount and its raises at that moment.
    public let allowed: Int64

    public init(
        id: QuotaEventID, quotaID: QuotaID, tenantID: TenantID, mode: QuotaMode, thresholdPercent: Int16,
        periodStart: Timestamp, periodEnd: Timestamp, crossedAt: Timestamp?, used: Int64, amount: Int64, allowed: Int64
    ) {
        self.id = id
        self.quotaID = quotaID
        self.tenantID = tenantID
        self.mode = mode
        self.thresholdPercent = thresholdPercent
        self.periodStart = periodStart
        self.periodEnd = periodEnd
        self.crossedAt = crossedAt
        self.used = used
        self.amount = amount
        self.allowed = allowed
    }

    /// The event that a standing makes due.
    public init(
        _ standing: QuotaStanding, thresholdPercent: Int16, using generator: inout some RandomNumberGenerator
    ) {
        self.init(
            id: QuotaEventID(at: standing.seenAt, using: &generator), quotaID: standing.quotaID,
            tenantID: standing.tenantID, mode: standing.mode,
            thresholdPercent: thresholdPercent, periodStart: standing.periodStart, periodEnd: standing.periodEnd,
            crossedAt: nil, used: standing.used, amount: standing.amount, allowed: standing.allowed)
    }

    /// The same event as it was written.
    public func raised(at instant: Timestamp) -> QuotaEvent {
        QuotaEvent(
            id: id, quotaID: quotaID, tenantID: tenantID, mode: mode, thresholdPercent: thresholdPercent,
            periodStart: periodStart, periodEnd: periodEnd, crossedAt: instant, used: used, amount: amount,
            allowed: allowed)
    }
}
