/// What a tenant keeps of prompts and results.
public enum Retention: String, Sendable, CaseIterable {
    case full
    case hashed
    case none
}

/// Finds keys. The gateway asks for one at a time, on the first use, and afterwards reads the changes.
public protocol KeyDirectory: Sendable {
    /// The keys with these public ids, revoked and expired ones included; unknown ones are left out.
    func find(_ publicIDs: [APIKey.PublicID]) async throws(StoreUnavailable) -> [KeyRecord]
    /// The number that every change of a key, tenant, subscription, quota, model or route increases.
    func generation() async throws(StoreUnavailable) -> Int64
}

/// Whether a part that Weir can do without is there.
public enum DependencyState: String, Sendable {
    case notConfigured = "not_configured"
    case available
    case unavailable
}

/// The route table as it was read, and from what.
public struct RouteSnapshot: Sendable {
    public let table: RouteTable
    public let redis: DependencyState
    /// False where PostgreSQL was away and the registry's part is the last one known.
    public let isRegistryFresh: Bool

    public init(table: RouteTable, redis: DependencyState, isRegistryFresh: Bool) {
        self.table = table
        self.redis = redis
        self.isRegistryFresh = isRegistryFresh
    }
}

/// Reads the route table from its sources: the registry in PostgreSQL, and the hash `model_routes` in Redis.
public protocol RouteSource: Sendable {
    /// The whole table. Answers from what it last knew where a source is away.
    func load() async -> RouteSnapshot
}

/// Reads published prices; they never change, so they are kept for ever.
public protocol PriceSource: Sendable {
    func sheet(_ id: TierVersionID) async throws(StoreUnavailable) -> PriceSheet?
}
