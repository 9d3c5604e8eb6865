/// How one replica is chosen among several.
public enum Balancing: String, Sendable, CaseIterable {
    /// Two are drawn by weight, and the one with fewer calls under way for its weight is taken (Mitzenmacher, 2001).
    case powerOfTwo = "power_of_two"
    /// One is drawn by weight, whatever it is doing.
    case weighted
    /// Two are drawn by weight, and the one that promises the sooner answer is taken.
    case leastLatency = "least_latency"
}

/// How the replicas of one model are called: every number is there. Made of a model's ``DeliverySettings`` over the defaults of the process.
public struct DeliveryPolicy: Hashable, Sendable {
    /// Asks a replica whether it is there.
    public struct Probe: Hashable, Sendable {
        /// `nil` asks what the protocol says: `/v2/health/ready` or `/healthz`.
        public var path: String?
        /// 0 sends none.
        public var intervalMilliseconds: Int64
        public var timeoutMilliseconds: Int64
    }

    public var balancing: Balancing = .powerOfTwo
    /// Calls under way at one replica, for one gateway. Far above what a worker does at once, so that it is met only where a worker has
    /// stopped; whoever knows his worker sets less.
    public var replicaConcurrency: Int64 = 256
    /// Requests that wait while every replica has that many. Enough for a thousand connections that each wait for an answer.
    public var queueDepth: Int64 = 1_024
    /// Short: who waits longer is better off being told, and a queue that is never empty only adds time.
    public var queueWaitMilliseconds: Int64 = 500
    public var connectMilliseconds: Int64 = 1_000
    /// From the request being written to the first byte of the answer.
    public var firstByteMilliseconds: Int64 = 30_000
    /// All attempts together.
    public var totalMilliseconds: Int64 = 30_000
    /// The first one included.
    public var attempts: Int64 = 3
    /// After this a second replica is asked too; `nil` never.
    public var hedgeAfterMilliseconds: Int64?
    /// Repetitions for each hundred requests.
    public var retryPercent: Int64 = 20
    /// Whether a request that may have been worked on may be sent again. A prediction computes and changes nothing.
    public var isSafeToRepeat = true
    public var breaker = CircuitBreaker.Thresholds()
    /// How long a replica that is new or returns takes to its whole share; 0 gives it at once.
    public var slowStartMilliseconds: Int64 = 10_000
    /// Between two pieces of a stream.
    public var streamGapMilliseconds: Int64 = 60_000
    /// A whole stream, its attempts included; in the place of ``totalMilliseconds``.
    public var streamTotalMilliseconds: Int64 = 600_000
    public var streamLeave = StreamLeave.cancel
    public var probe = Probe(path: nil, intervalMilliseconds: 5_000, timeoutMilliseconds: 1_000)

    public init() {}

    /// What a model's settings make of these defaults.
    public func overridden(by settings: DeliverySettings) -> DeliveryPolicy {
        var policy = self
        if let balancing = settings.balancing { policy.balancing = balancing }
        if let isSafeToRepeat = settings.isSafeToRepeat { policy.isSafeToRepeat = isSafeToRepeat }
        if let path = settings.probePath { policy.probe.path = path }
        if let leave = settings.streamLeave { policy.streamLeave = leave }
        for (number, value) in settings.numbers { policy.set(number, to: value) }
        // A first byte that may come after the end would make two names of one deadline.
        policy.firstByteMilliseconds = min(policy.firstByteMilliseconds, policy.totalMilliseconds)
        if settings.numbers[.totalMilliseconds] != nil, settings.numbers[.firstByteMilliseconds] == nil {
            policy.firstByteMilliseconds = policy.totalMilliseconds
        }
        return policy
    }

    private mutating func set(_ number: DeliverySettings.Number, to value: Int64) {
        switch number {
        case .replicaConcurrency: replicaConcurrency = value
        case .queueDepth: queueDepth = value
        case .queueWaitMilliseconds: queueWaitMilliseconds = value
        case .connectMilliseconds: connectMilliseconds = value
        case .firstByteMilliseconds: firstByteMilliseconds = value
        case .totalMilliseconds: totalMilliseconds = value
        case .attempts: attempts = value
        case .hedgeAfterMilliseconds: hedgeAfterMilliseconds = value
        case .retryPercent: retryPercent = value
        case .breakerFailures: breaker.consecutiveFailures = value
        case .breakerPercent: breaker.failurePercent = value
        case .breakerOpenMilliseconds: breaker.openMilliseconds = value
        case .slowStartMilliseconds: slowStartMilliseconds = value
        case .probeIntervalMilliseconds: probe.intervalMilliseconds = value
        case .probeTimeoutMilliseconds: probe.timeoutMilliseconds = value
        case .streamGapMilliseconds: streamGapMilliseconds = value
        case .streamTotalMilliseconds: streamTotalMilliseconds = value
        }
    }
}
