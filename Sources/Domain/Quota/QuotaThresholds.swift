/// At which shares of its limit a quota raises an event: at most ten percentages from 1 to 1000, ascending.
public struct QuotaThresholds: Hashable, Sendable {
    public static let countLimit = 10
    public static let range: ClosedRange<Int16> = 1...1_000
    /// Where nobody says otherwise.
    public static let standard = QuotaThresholds(unchecked: [50, 80, 100])

    public let percents: [Int16]

    private init(unchecked percents: [Int16]) { self.percents = percents }

    /// - Returns: `nil` for too many, one out of range, or a list that does not ascend.
    public init?(_ percents: [Int16]) {
        guard percents.count <= Self.countLimit, percents.allSatisfy({ Self.range.contains($0) }),
            zip(percents, percents.dropFirst()).allSatisfy({ $0 < $1 })
        else { return nil }
        self.percents = percents
    }

    /// Reads the form of ``text``; the empty text has none.
    public init?(text: String) {
        guard !text.isEmpty else {
            self.init([])
            return
        }
        var percents: [Int16] = []
        for part in text.split(separator: ",", omittingEmptySubsequences: false) {
            guard let percent = Int16(part) else { return nil }
            percents.append(percent)
        }
        self.init(percents)
    }

    /// The percentages with commas between them, as in `50,80,100`.
    public var text: String { percents.map(String.init).joined(separator: ",") }

    /// Those that this use has reached. Something has to be used: nothing of a limit of nothing is no crossing.
    public func reached(used: Int64, allowed: Int64) -> [Int16] {
        guard used > 0 else { return [] }
        let share = used.multipliedFullWidth(by: 100)
        return percents.filter { percent in
            let mark = max(allowed, 0).multipliedFullWidth(by: Int64(percent))
            return share.high > mark.high || share.high == mark.high && share.low >= mark.low
        }
    }
}

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
