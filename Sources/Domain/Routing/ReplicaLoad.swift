/// What balancing compares of a replica.
public struct ReplicaLoad: Sendable, Hashable {
    /// In thousandths: the replica's weight by its present share. At least 1.
    public let weight: Int64
    /// Calls under way.
    public let outstanding: Int64
    public let latencyMicroseconds: Int64

    public init(weight: Int64, outstanding: Int64, latencyMicroseconds: Int64) {
        self.weight = weight
        self.outstanding = outstanding
        self.latencyMicroseconds = latencyMicroseconds
    }
}

extension Balancing {
    /// Whether a second replica is drawn to be compared with the first.
    public var compares: Bool { self != .weighted }

    /// Whether the second draw is better than the first. Equal ones leave it at the first, so that the draw decides.
    public func prefers(_ second: ReplicaLoad, to first: ReplicaLoad) -> Bool {
        switch self {
        case .weighted: false
        // One that was never measured promises nothing yet; believing that it is fast would bury it.
        case .leastLatency where first.latencyMicroseconds > 0 && second.latencyMicroseconds > 0:
            Self.promise(second) < Self.promise(first)
        case .powerOfTwo, .leastLatency: second.outstanding * first.weight < first.outstanding * second.weight
        }
    }

    /// Microseconds until an answer, were the calls under way to come one after the other, as many at a time as the weight says. Bounded, so
    /// that no product overflows.
    private static func promise(_ load: ReplicaLoad) -> Int64 {
        min(load.latencyMicroseconds, 1 << 32) * (min(load.outstanding, 1 << 16) * 1_000 / max(load.weight, 1) + 1)
    }
}

/// The mean of answer times, each new one counting an eighth, in whole microseconds.
public enum LatencyAverage {
    /// - Parameter average: 0 where there is none yet.
    public static func adding(_ sample: Int64, to average: Int64) -> Int64 {
        let sample = min(max(sample, 1), 1 << 40)
        guard average > 0 else { return sample }
        let change = (sample - average) / 8
        // Differences below eight would never arrive.
        return max(1, average + (change == 0 ? (sample - average).signum() : change))
    }

    /// What is left of an average after a second in which nothing was measured. A replica that was slow once would never be asked again.
    public static func faded(_ average: Int64) -> Int64 { average - average / 8 }
}
