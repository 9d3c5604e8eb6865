/// How a replica is, as this gateway sees it.
public struct ReplicaReading: Sendable, Hashable {
    public enum Condition: String, Sendable, CaseIterable {
        case healthy
        /// Left out, and about to be tried with one request.
        case trial
        /// Left out because of what its calls came to.
        case ejected
        /// Left out because it does not answer probes.
        case down
    }

    public let model: String
    public let replica: Replica
    public let condition: Condition
    /// Calls under way.
    public let outstanding: Int64
    /// 0 where nothing was measured.
    public let latencyMicroseconds: Int64
    /// The part of its weight that it has while it starts slowly, in percent.
    public let sharePercent: Int64
    public let consecutiveFailures: Int64
    public let ejectedUntil: Timestamp?

    public init(
        model: String, replica: Replica, condition: Condition, outstanding: Int64, latencyMicroseconds: Int64,
        sharePercent: Int64, consecutiveFailures: Int64, ejectedUntil: Timestamp?
    ) {
        self.model = model
        self.replica = replica
        self.condition = condition
        self.outstanding = outstanding
        self.latencyMicroseconds = latencyMicroseconds
        self.sharePercent = sharePercent
        self.consecutiveFailures = consecutiveFailures
        self.ejectedUntil = ejectedUntil
    }
}
