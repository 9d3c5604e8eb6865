/// What to clear of the cache; at least a tenant or a model is named, and a pattern is always a tenant's.
public struct NewCacheClearing: Hashable, Sendable {
    /// `nil` for all tenants; only for a whole model.
    public let tenantID: TenantID?
    public let model: String?
    /// See ``CachePattern``.
    public let pattern: String?

    public init(tenantID: TenantID?, model: String?, pattern: String?) {
        self.tenantID = tenantID
        self.model = model
        self.pattern = pattern
    }
}

public struct CacheStatisticsQuery: Hashable, Sendable {
    public let tenantID: TenantID?
    public let model: String?
    public let limit: Int

    public init(tenantID: TenantID?, model: String?, limit: Int) {
        self.tenantID = tenantID
        self.model = model
        self.limit = limit
    }
}

/// What all gateways together counted, and what the table holds now.
public struct CacheStatisticsReport: Hashable, Sendable {
    public let row: CacheStatisticsRow
    public let tableEntries: Int64
    /// Readings of those entries.
    public let tableAccesses: Int64

    public init(row: CacheStatisticsRow, tableEntries: Int64, tableAccesses: Int64) {
        self.row = row
        self.tableEntries = tableEntries
        self.tableAccesses = tableAccesses
    }
}

/// What the operator does to the cache of predictions.
public protocol CacheAdministration: Sendable {
    /// Changes a model's policy.
    /// - Throws: `not_found` for a model that is not registered.
    func setCachePolicy(_ model: String, _ policy: CachePolicy, by actor: AuditActor)
        async throws(AdministrationFailure) -> ModelProfile
    /// Makes every gateway forget. Returns when it is recorded; the gateways follow within a second.
    /// - Returns: the clearing's number.
    /// - Throws: `not_found` for an unknown tenant.
    func clearCache(_ clearing: NewCacheClearing, by actor: AuditActor) async throws(AdministrationFailure) -> Int64
    func cacheStatistics(_ query: CacheStatisticsQuery) async throws(AdministrationFailure) -> [CacheStatisticsReport]
}
