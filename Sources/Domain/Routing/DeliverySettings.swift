/// What the registry says about how a model's replicas are called. What it does not say is the default of the process.
public struct DeliverySettings: Hashable, Sendable {
    /// The settings that are whole numbers, by their names in the registry and the admin API.
    public enum Number: String, Sendable, CaseIterable {
        case replicaConcurrency = "replica_concurrency"
        case queueDepth = "queue_depth"
        case queueWaitMilliseconds = "queue_wait_ms"
        case connectMilliseconds = "connect_ms"
        case firstByteMilliseconds = "first_byte_ms"
        case totalMilliseconds = "total_ms"
        case attempts
        case hedgeAfterMilliseconds = "hedge_after_ms"
        case retryPercent = "retry_percent"
        case breakerFailures = "breaker_failures"
        case breakerPercent = "breaker_percent"
        case breakerOpenMilliseconds = "breaker_open_ms"
        case slowStartMilliseconds = "slow_start_ms"
        case probeIntervalMilliseconds = "probe_interval_ms"
        case probeTimeoutMilliseconds = "probe_timeout_ms"
        case streamGapMilliseconds = "stream_gap_ms"
        case streamTotalMilliseconds = "stream_total_ms"

        /// What is accepted; the registry checks the same.
        public var range: ClosedRange<Int64> {
            switch self {
            case .replicaConcurrency: 1...100_000
            case .queueDepth: 0...100_000
            case .queueWaitMilliseconds: 0...60_000
            case .connectMilliseconds: 1...60_000
            case .firstByteMilliseconds, .totalMilliseconds: 1...3_600_000
            case .attempts: 1...5
            case .hedgeAfterMilliseconds: 1...3_600_000
            case .retryPercent: 0...100
            case .breakerFailures: 0...1_000
            case .breakerPercent: 0...100
            case .breakerOpenMilliseconds: 100...600_000
            case .slowStartMilliseconds: 0...3_600_000
            case .probeIntervalMilliseconds: 0...3_600_000
            case .probeTimeoutMilliseconds: 1...60_000
            case .streamGapMilliseconds: 1...3_600_000
            case .streamTotalMilliseconds: 1...86_400_000
            }
        }
    }

    public var balancing: Balancing?
    public var isSafeToRepeat: Bool?
    public var probePath: String?
    public var streamLeave: StreamLeave?
    public var numbers: [Number: Int64]

    public init(
        balancing: Balancing? = nil, isSafeToRepeat: Bool? = nil, probePath: String? = nil,
        streamLeave: StreamLeave? = nil, numbers: [Number: Int64] = [:]
    ) {
        self.balancing = balancing
        self.isSafeToRepeat = isSafeToRepeat
        self.probePath = probePath
        self.streamLeave = streamLeave
        self.numbers = numbers
    }

    /// The defaults of the process in everything.
    public static let none = DeliverySettings()

    /// Whether a path may be probed: starts with `/`, at most 256 bytes, visible ASCII without a fragment.
    public static func isValid(probePath path: String) -> Bool {
        guard path.utf8.first == UInt8(ascii: "/"), path.utf8.count <= 256 else { return false }
        return path.utf8.allSatisfy { (0x21...0x7E).contains($0) && $0 != UInt8(ascii: "#") }
    }
}
