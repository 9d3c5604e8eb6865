public import Domain
internal import Synchronization

/// The cache's table in memory.
public final class FakeCacheStore: PredictionCacheStore {
    private struct State {
        var rows: [CacheKey: CachedRow] = [:]
        var accesses: [CacheAccess] = []
        var statistics: [CacheStatisticsRow] = []
        var clearings: [CacheClearing] = []
        var isAway = false
        var finds = 0
        var writesLeft = Int.max
    }

    private let state = Mutex(State())
    /// Everything that is written passes it.
    public let writing: Gate

    public init(writing: Gate = Gate(isOpen: true)) { self.writing = writing }

    public var rows: [CachedRow] { state.withLock { Array($0.rows.values) } }
    /// Writings of rows until it goes away.
    public func goAway(afterWrites count: Int) { state.withLock { $0.writesLeft = count } }
    /// How often a row was looked for.
    public var findCount: Int { state.withLock { $0.finds } }
    public var accesses: [CacheAccess] { state.withLock { $0.accesses } }
    /// Everything that was added, in order.
    public var statistics: [CacheStatisticsRow] { state.withLock { $0.statistics } }
    public var isAway: Bool {
        get { state.withLock { $0.isAway } }
        set { state.withLock { $0.isAway = newValue } }
    }

    public func clear(_ clearing: CacheClearing) { state.withLock { $0.clearings.append(clearing) } }

    public func find(_ key: CacheKey, tenantID: TenantID) async throws(StoreUnavailable) -> [UInt8]? {
        state.withLock { $0.finds += 1 }
        try check()
        return state.withLock { $0.rows[key].flatMap { $0.tenantID == tenantID ? $0.bytes : nil } }
    }

    public func write(_ rows: [CachedRow]) async throws(StoreUnavailable) {
        await writing.pass()
        let isLate = state.withLock { state in
            state.writesLeft -= 1
            return state.writesLeft < 0
        }
        if isLate { isAway = true }
        try check()
        state.withLock { state in for row in rows { state.rows[row.key] = row } }
    }

    public func touch(_ accesses: [CacheAccess]) async throws(StoreUnavailable) {
        await writing.pass()
        try check()
        state.withLock { $0.accesses += accesses }
    }

    public func add(_ rows: [CacheStatisticsRow]) async throws(StoreUnavailable) {
        await writing.pass()
        try check()
        state.withLock { $0.statistics += rows }
    }

    public func clearings(after known: Int64) async throws(StoreUnavailable) -> [CacheClearing]? {
        try check()
        let all = state.withLock { $0.clearings }
        return known >= 0 && all.allSatisfy { $0.sequence <= known } ? nil : all
    }

    private func check() throws(StoreUnavailable) {
        if isAway { throw StoreUnavailable(cause: "away") }
    }
}

/// A level that gateways share, in memory.
public final class FakeSharedCache: SharedPredictionCache {
    private struct State {
        var values: [CacheKey: [UInt8]] = [:]
        var claims: [CacheKey: UInt64] = [:]
        var renewals = 0
        var busy = 0
        var isAway = false
    }

    private let state = Mutex(State())

    public init() {}

    public var isAway: Bool {
        get { state.withLock { $0.isAway } }
        set { state.withLock { $0.isAway = newValue } }
    }
    public var values: [CacheKey: [UInt8]] {
        get { state.withLock { $0.values } }
        set { state.withLock { $0.values = newValue } }
    }
    public var claimCount: Int { state.withLock { $0.claims.count } }

    public func ask(_ key: CacheKey, claim: CacheClaim?) async -> SharedCacheAnswer {
        state.withLock { state in
            if state.isAway { return .away }
            if let value = state.values[key] { return .found(value) }
            guard let claim else { return .missing }
            guard state.claims[key] ?? claim.token == claim.token else {
                state.busy += 1
                return .busy
            }
            state.claims[key] = claim.token
            return .claimed
        }
    }

    public func store(_ bytes: [UInt8], of key: CacheKey, ttlMilliseconds: Int64, claim: CacheClaim?) {
        state.withLock { state in
            guard !state.isAway else { return }
            if let claim {
                guard state.claims[key] ?? claim.token == claim.token else { return }
                state.claims[key] = nil
            }
            state.values[key] = bytes
        }
    }

    public func release(_ claim: CacheClaim) {
        state.withLock { state in if state.claims[claim.key] == claim.token { state.claims[claim.key] = nil } }
    }

    /// How often somebody was told to wait.
    public var busyCount: Int { state.withLock { $0.busy } }
    /// Claims that were renewed, each as often as it was.
    public var renewalCount: Int { state.withLock { $0.renewals } }

    public func renew(_ claims: [CacheClaim]) async { state.withLock { $0.renewals += claims.count } }
}
