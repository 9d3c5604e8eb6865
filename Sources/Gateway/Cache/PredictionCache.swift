public import Domain
public import Logging
internal import Metrics
internal import Synchronization

/// The cache of predictions: what lies in this process, what the gateways share, and what the table keeps.
///
/// A question is looked for level by level. The first request that finds it nowhere asks the worker, and every other one that comes meanwhile,
/// on any loop and, where there is Redis, on any gateway, waits for that answer.
///
/// The first level is cut into parts, each behind a lock that is held for a few dozen nanoseconds: the loops of a process share what they
/// know, and two of them seldom meet at the same part.
public final class PredictionCache: Sendable {
    public struct Configuration: Sendable {
        /// Of the first level.
        public var capacityBytes = 64 << 20
        public var standardTTLSeconds: Int64 = 300
        public var maximumTTLSeconds: Int64 = 86_400
        /// How long a request waits for another's answer; as long as it would for a worker's.
        public var waitMilliseconds: Int64 = 30_000
        /// Of one answer in Redis or the table.
        public var valueBytes = 1 << 20
        /// Of one tenant, each minute, to each of Redis and the table.
        public var bytesPerMinute = 64 << 20
        public init() {}
    }

    final class Shard: Sendable {
        struct Held: Sendable {
            let entry: CachedPrediction
            let account: CacheAccount
        }

        let store: Mutex<SieveStore<CacheKey, Held>>

        init(capacityBytes: Int) { store = Mutex(SieveStore(capacityBytes: capacityBytes)) }
    }

    struct Pending {
        var rows: [CachedRow] = []
        var rowBytes = 0
        var accesses: [CacheKey: CacheAccess] = [:]
    }

    private static let shardCount = 16
    static let rowLimit = 1_000
    static let rowByteLimit = 16 << 20
    static let accessLimit = 10_000
    /// How long the table is left alone after it could not be read in time.
    static let tableQuietNanoseconds: UInt64 = 1_000_000_000
    /// How long after an answer that was not to keep nobody waits for another one.
    static let unkeptNanoseconds: UInt64 = 5_000_000_000

    let configuration: Configuration
    let shared: (any SharedPredictionCache)?
    let store: any PredictionCacheStore
    let time: any TimeSource
    let logger: Logger
    let shards: [Shard]
    let pending = Mutex(Pending())
    /// The claims of this gateway's leaders.
    let claims = Mutex<Set<CacheClaim>>([])
    let clearings = Mutex(CacheClearings())
    /// The newest clearing that is known; -1 before the first reading, and then nothing is cached.
    let newestClearing = Atomic<Int64>(-1)
    let droppedRows = Counter(label: "weir_cache_rows_dropped_total")
    /// Until when the table is left alone, by the monotonic clock.
    let tableQuietUntilNanoseconds = Atomic<UInt64>(0)
    let memo = QuestionMemo()
    let refusedStores = Counter(label: "weir_cache_stores_refused_total")
    let unkeptQuestions = Counter(label: "weir_cache_unkept_total")
    private let pepper: [UInt8]
    private let tenants = Mutex<[TenantID: CacheTenant]>([:])

    /// - Parameters:
    ///   - pepper: the secret from which the tenants' own follow.
    ///   - shared: `nil` where there is no Redis.
    public init(
        configuration: Configuration, pepper: [UInt8], shared: (any SharedPredictionCache)?,
        store: any PredictionCacheStore, time: any TimeSource, logger: Logger
    ) {
        self.configuration = configuration
        self.pepper = pepper
        self.shared = shared
        self.store = store
        self.time = time
        self.logger = logger
        shards = (0..<Self.shardCount).map { _ in
            Shard(capacityBytes: configuration.capacityBytes / Self.shardCount)
        }
    }

    /// Whether the gateways do not share what they know at the moment, although they should.
    public var isDegraded: Bool { shared?.isAway ?? false }

    /// Whether it is known what was cleared; before that nothing is cached.
    var knowsClearings: Bool { newestClearing.load(ordering: .acquiring) >= 0 }

    /// Whether the gateways share what they know.
    public var sharing: DependencyState {
        guard let shared else { return .notConfigured }
        return shared.isAway ? .unavailable : .available
    }

    func tenant(_ id: TenantID) -> CacheTenant {
        if let known = tenants.withLock({ $0[id] }) { return known }
        let fresh = CacheTenant(id: id, secret: CacheSecret(pepper: pepper, tenantID: id))
        return tenants.withLock { tenants in
            if let known = tenants[id] { return known }
            tenants[id] = fresh
            return fresh
        }
    }

    var allTenants: [CacheTenant] { tenants.withLock { Array($0.values) } }

    private func shard(of key: CacheKey) -> Shard {
        shards[Int(truncatingIfNeeded: key.words.3) & (Self.shardCount - 1)]
    }

    // MARK: The first level

    /// What lies in this process and may be given to this request.
    func find(_ question: CacheQuestion) -> CachedPrediction? {
        let held = shard(of: question.key).store.withLock {
            $0.value(of: question.key, atNanoseconds: question.atNanoseconds)
        }
        guard let held, isCurrent(held.entry, question) else { return nil }
        return held.entry
    }

    /// - Returns: whether it lies in this process's memory now.
    @discardableResult
    func remember(_ entry: CachedPrediction, _ question: CacheQuestion) -> Bool {
        let now = time.now
        let left = entry.expiresAt.microsecondsSince1970 - now.microsecondsSince1970
        guard left > 0 else { return false }
        let insertion = shard(of: question.key).store.withLock {
            $0.insert(
                Shard.Held(entry: entry, account: question.account), of: question.key, bytes: entry.byteCount,
                endNanoseconds: time.monotonicNanoseconds + UInt64(left) * 1_000)
        }
        guard case .stored(let removed) = insertion else { return false }
        for removal in removed where removal.value.entry.expiresAt > now {
            removal.value.account.count { $0.evictions += 1 }
        }
        return true
    }

    /// Whether an entry has not ended, was not cleared, and is young enough for the request.
    func isCurrent(_ entry: CachedPrediction, _ question: CacheQuestion) -> Bool {
        guard entry.expiresAt > question.at, !hasCleared(entry, question) else { return false }
        guard let maximum = question.instruction.maximumAgeSeconds else { return true }
        return entry.ageSeconds(at: question.at) <= maximum
    }

    /// Whether something that fits the entry was cleared since it was asked for.
    func hasCleared(_ entry: CachedPrediction, _ question: CacheQuestion) -> Bool {
        let checked = entry.checkedClearing
        guard checked < newestClearing.load(ordering: .acquiring) else { return false }
        // The lock is held to take the reference; what is behind it does not change.
        let known = clearings.withLock { $0 }
        guard
            !known.hasCleared(
                since: checked, tenantID: question.tenant.id, model: question.account.model, label: entry.label)
        else { return true }
        entry.check(upTo: known.newest)
        return false
    }
}

/// What a request asks the cache.
struct CacheQuestion: Sendable {
    let tenant: CacheTenant
    let account: CacheAccount
    let key: CacheKey
    let version: String
    let policy: CachePolicy
    let instruction: CacheInstruction
    let at: Timestamp
    let atNanoseconds: UInt64
}
