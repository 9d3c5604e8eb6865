/// What was used in a minute, of all models and keys together, and what a rate limit can have seen of it.
///
/// When in the minute a request came is not known, and what it held while it ran only in sum. So what limits see is counted twice: what it was
/// at least, and what it can have been at most.
public struct UsageMinute: Hashable, Sendable {
    public let start: Timestamp
    /// The ledger's, corrections among them.
    public let requests: Int64
    public let tokens: Int64
    /// At most: all that came, failed ones too, and jobs when they were submitted.
    public let arrivals: Int64
    /// At most: held by those that came, each while it ran.
    public let heldTokens: Int64
    /// At most: charged to those that came, by whatever terms.
    public let mostTokens: Int64
    /// At least: that were let through and answered, without jobs.
    public let admitted: Int64
    /// At least: charged to those that were admitted, by whatever terms.
    public let leastTokens: Int64
    /// At least: for how long those that were admitted ran within the minute, together.
    public let busyMicroseconds: Int64
    /// When the last of those that came had ended; `nil` where none came.
    public let lastEnd: Timestamp?

    public init(
        start: Timestamp, requests: Int64, tokens: Int64, arrivals: Int64, heldTokens: Int64, mostTokens: Int64,
        admitted: Int64, leastTokens: Int64, busyMicroseconds: Int64, lastEnd: Timestamp?
    ) {
        self.start = start
        self.requests = requests
        self.tokens = tokens
        self.arrivals = arrivals
        self.heldTokens = heldTokens
        self.mostTokens = mostTokens
        self.admitted = admitted
        self.leastTokens = leastTokens
        self.busyMicroseconds = busyMicroseconds
        self.lastEnd = lastEnd
    }

    public static let microseconds: Int64 = 60_000_000
    /// What a request is taken to have held that has no row of its own any more: more than any can.
    static let unknownTokens: Int64 = 1_000_000_000_000

    /// Minutes since 1970.
    var number: Int64 { floorDivision(start.microsecondsSince1970, Self.microseconds) }

    /// The minute in which the last of those that came had ended.
    var lastNumber: Int64 {
        max(number, lastEnd.map { floorDivision($0.microsecondsSince1970, Self.microseconds) } ?? number)
    }
}

/// The minutes of a stretch of time, and whether they are all of them.
public struct UsageMinutes: Sendable {
    /// In the order of time.
    let minutes: [UsageMinute]
    /// Whether they have all usage of the stretch: minutes are kept for thirteen months, and usage is known for longer.
    let isWhole: Bool

    private struct Missing: Hashable {
        var requests: Int128 = 0
        var tokens: Int128 = 0
    }

    /// - Parameter quarters: all usage of the stretch.
    init(_ minutes: [UsageMinute], of quarters: [UsageQuarter]) {
        self.minutes = minutes.sorted { $0.start < $1.start }
        var missing: [Timestamp: Missing] = [:]
        for quarter in quarters {
            missing[quarter.start, default: Missing()].requests += Int128(quarter.requests)
            missing[quarter.start, default: Missing()].tokens += Int128(quarter.tokens)
        }
        for minute in minutes {
            missing[minute.start.usageBucketStart, default: Missing()].requests -= Int128(minute.requests)
            missing[minute.start.usageBucketStart, default: Missing()].tokens -= Int128(minute.tokens)
        }
        isWhole = missing.values.allSatisfy { $0 == Missing() }
    }

    /// Whether some were counted anew when request rows were gone, those of failed ones among them: what came is not known then.
    var isWithoutRows: Bool { minutes.contains { $0.heldTokens >= UsageMinute.unknownTokens } }

    /// The most of a unit that one of them had.
    func peak(of unit: QuotaUnit) -> Int128 {
        minutes.map { Int128(unit == .requests ? $0.requests : $0.tokens) }.max() ?? 0
    }
}
