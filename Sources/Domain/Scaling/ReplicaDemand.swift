/// How many replicas a model needs, from what its requests kept busy: a pure function of numbers.
///
/// Little's law: the requests under way on average are their arrival rate times their duration, which is the sum of their durations
/// divided by the time in which they came. A replica takes some at once, and is to be used to a part of that only, so that bursts find
/// room. Integer arithmetic throughout, rounded up.
public struct ReplicaDemand: Hashable, Sendable {
    /// Requests that one replica serves at once, at least 1.
    public let concurrency: Int64
    /// How much of that is to be used, 1 to 100.
    public let targetPercent: Int64
    /// The fewest and the most replicas.
    public let replicas: ClosedRange<Int64>

    /// Values outside their ranges are taken for the nearest that is inside.
    public init(concurrency: Int64, targetPercent: Int64, minimumReplicas: Int64, maximumReplicas: Int64) {
        self.concurrency = max(1, concurrency)
        self.targetPercent = min(max(1, targetPercent), 100)
        let minimum = max(0, minimumReplicas)
        replicas = minimum...max(minimum, maximumReplicas)
    }

    /// - Parameters:
    ///   - busyMicroseconds: the sum of the processing times of the requests of a stretch of time.
    ///   - microseconds: how long the stretch was.
    public func desired(busyMicroseconds: Int64, inMicroseconds microseconds: Int64) -> Int64 {
        let busy = UInt128(max(0, busyMicroseconds)) * 100
        // Each factor is below 2^63, 2^7 and 2^63; a divisor that does not fit means that hardly anything is needed.
        let (capacity, overflow) = UInt128(max(1, microseconds)).multipliedReportingOverflow(
            by: UInt128(targetPercent) * UInt128(concurrency))
        let needed = overflow ? (busy > 0 ? 1 : 0) : (busy + capacity - 1) / capacity
        return min(max(Int64(clamping: needed), replicas.lowerBound), replicas.upperBound)
    }

    /// The stretch that counts now: the running quarter of an hour and the one before it, which is whole.
    /// - Returns: its start; it ends at `now`.
    public static func windowStart(at now: Timestamp) -> Timestamp {
        now.usageBucketStart.advanced(byMilliseconds: -900_000)
    }
}
