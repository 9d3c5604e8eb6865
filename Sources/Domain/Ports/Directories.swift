/// What a tenant keeps of prompts and results.
public enum Retention: String, Sendable, CaseIterable {
    case full
    case hashed
    case none
}

/// Finds keys. The gateway asks for one at a time, on the first use, and afterwards reads the changes.
public protocol KeyDirectory: Sendable {
    /// The key with this public id, revoked and expired ones included; `nil` if there is none.
    func find(_ publicID: APIKey.PublicID) async throws(StoreUnavailable) -> KeyRecord?
    /// The number that every change of a key, tenant, subscription or quota increases.
    func generation() async throws(StoreUnavailable) -> Int64
}

/// Reads the route table from its sources.
public protocol RouteSource: Sendable {
    /// The whole table, registry and routes merged.
    func load() async throws(StoreUnavailable) -> RouteTable
}

/// Reads published prices; they never change, so they are kept for ever.
public protocol PriceSource: Sendable {
    func sheet(_ id: TierVersionID) async throws(StoreUnavailable) -> PriceSheet?
}
