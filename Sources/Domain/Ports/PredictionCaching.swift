/// One attempt to make an answer that others wait for.
public struct CacheClaim: Hashable, Sendable {
    public let key: CacheKey
    /// Random: whoever is late must not take another's claim for its own.
    public let token: UInt64

    public init(key: CacheKey, token: UInt64) {
        self.key = key
        self.token = token
    }
}

/// What the level that gateways share says about a key.
public enum SharedCacheAnswer: Sendable {
    case found([UInt8])
    /// There is nothing, and the claim is the asker's: it calls the worker.
    case claimed
    /// There is nothing yet; another gateway is asking the worker.
    case busy
    /// There is nothing, and no claim was wanted.
    case missing
    /// The level cannot be asked. It is a miss, and nobody is kept waiting for it.
    case away
}

/// The level of the cache that all gateways of an installation share. Nothing of it is needed to serve, so nothing here throws.
public protocol SharedPredictionCache: Sendable {
    /// Whether it could not be reached when it was last asked.
    var isAway: Bool { get }
    /// Looks, and claims the key in the same step where there is nothing.
    /// - Parameter claim: `nil` only looks.
    func ask(_ key: CacheKey, claim: CacheClaim?) async -> SharedCacheAnswer
    /// Keeps an answer and ends the claim. One that is another's by now stays as it is, and nothing is kept. Waits for nobody.
    func store(_ bytes: [UInt8], of key: CacheKey, ttlMilliseconds: Int64, claim: CacheClaim?)
    /// Ends a claim that came to nothing. Waits for nobody.
    func release(_ claim: CacheClaim)
    /// Moves the ends of claims whose requests still run.
    func renew(_ claims: [CacheClaim]) async
}

/// A row of the table of predictions.
public struct CachedRow: Sendable {
    public let key: CacheKey
    public let tenantID: TenantID
    public let model: String
    public let version: String
    public let label: String?
    public let bytes: [UInt8]
    public let cachedAt: Timestamp
    public let expiresAt: Timestamp

    public init(
        key: CacheKey, tenantID: TenantID, model: String, version: String, label: String?, bytes: [UInt8],
        cachedAt: Timestamp, expiresAt: Timestamp
    ) {
        self.key = key
        self.tenantID = tenantID
        self.model = model
        self.version = version
        self.label = label
        self.bytes = bytes
        self.cachedAt = cachedAt
        self.expiresAt = expiresAt
    }
}

/// How often a row was read since it was last written down.
public struct CacheAccess: Sendable {
    public let key: CacheKey
    public var count: Int64
    public var lastAt: Timestamp

    public init(key: CacheKey, count: Int64, lastAt: Timestamp) {
        self.key = key
        self.count = count
        self.lastAt = lastAt
    }
}

/// What the cache did for one model of one tenant.
public struct CacheTally: Hashable, Sendable {
    public var memoryHits: Int64 = 0
    public var redisHits: Int64 = 0
    public var tableHits: Int64 = 0
    /// Requests that waited for another's answer.
    public var collapsed: Int64 = 0
    public var misses: Int64 = 0
    public var stores: Int64 = 0
    /// Bytes of all that was stored.
    public var storedBytes: Int64 = 0
    public var evictions: Int64 = 0

    public init() {}

    public var isZero: Bool { self == CacheTally() }
}

/// A tally and whose it is.
public struct CacheStatisticsRow: Hashable, Sendable {
    public let tenantID: TenantID
    public let model: String
    public var tally: CacheTally

    public init(tenantID: TenantID, model: String, tally: CacheTally) {
        self.tenantID = tenantID
        self.model = model
        self.tally = tally
    }
}

/// The cache in the database: the durable level, what was cleared, and what was counted.
public protocol PredictionCacheStore: Sendable {
    /// The answer under a key, unless it has ended.
    func find(_ key: CacheKey, tenantID: TenantID) async throws(StoreUnavailable) -> [UInt8]?
    func write(_ rows: [CachedRow]) async throws(StoreUnavailable)
    func touch(_ accesses: [CacheAccess]) async throws(StoreUnavailable)
    func add(_ rows: [CacheStatisticsRow]) async throws(StoreUnavailable)
    /// The clearings that can still concern an entry.
    /// - Parameter known: the newest that the caller knows; below zero for none, not even that there is none.
    /// - Returns: `nil` where there is no newer one.
    func clearings(after known: Int64) async throws(StoreUnavailable) -> [CacheClearing]?
}
