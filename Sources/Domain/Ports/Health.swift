/// What the health pages show.
public struct HealthReport: Sendable {
    public let postgres: DependencyState
    public let redis: DependencyState
    public let isSettlementAccepting: Bool
    /// Where rate limits are enforced: over all gateways, or by each on its own, by configuration or because Redis is away.
    public let rateLimits: DependencyState
    /// Where predictions are cached: over all gateways, or by each on its own.
    public let cache: DependencyState
    /// Every model of the route table, and whether it has a replica that can be asked.
    public let models: [String: Bool]
    /// Models that have replicas, none of which is healthy.
    public let strandedModels: [String]

    public init(
        postgres: DependencyState, redis: DependencyState, isSettlementAccepting: Bool,
        rateLimits: DependencyState = .notConfigured, cache: DependencyState = .notConfigured, models: [String: Bool],
        strandedModels: [String] = []
    ) {
        self.postgres = postgres
        self.redis = redis
        self.isSettlementAccepting = isSettlementAccepting
        self.rateLimits = rateLimits
        self.cache = cache
        self.models = models
        self.strandedModels = strandedModels
    }

    /// Whether paid requests can be served: their usage can be recorded.
    public var isReady: Bool { postgres == .available && isSettlementAccepting }

    /// The degraded modes in force, by name.
    public var degradations: [String] {
        var names: [String] = []
        if postgres != .available { names.append("postgres") }
        if !isSettlementAccepting { names.append("settlement") }
        if redis == .unavailable { names.append("redis") }
        if rateLimits == .unavailable { names.append("rate_limits") }
        if cache == .unavailable { names.append("cache") }
        names += strandedModels.map { "model:\($0)" }
        return names
    }
}

/// Asks the dependencies how they are. Bounded in time.
public protocol HealthSource: Sendable {
    func report() async -> HealthReport
}
