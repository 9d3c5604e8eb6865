public import Domain
public import Logging
internal import Metrics
public import RedisDriver
internal import Synchronization

/// The level of the cache that gateways share, in Redis.
///
/// A value lies under `weir:cache:{<key>}`, a claim beside it under `…:claim`; the braces keep both on one node of a cluster. The key is a code
/// under a secret of the tenant, and the value carries a code of its own, so nothing here has to be believed. Redis has a few milliseconds to
/// answer; what comes later is a miss, and after one Redis is left alone for a moment.
public final class RedisPredictionCache: SharedPredictionCache {
    private let redis: RedisClient
    private let patienceMilliseconds: Int64
    private let claimMilliseconds: Int64
    private let time: any TimeSource
    private let logger: Logger
    private let away = Atomic<Bool>(false)
    private let quietUntilNanoseconds = Atomic<UInt64>(0)
    private let failures = Counter(label: "weir_cache_redis_failures_total")

    private static let quietNanoseconds: UInt64 = 250_000_000

    /// Answers the value; else 1 where the claim is the caller's, 2 where it is another's, 0 where none was wanted.
    private static let ask = RedisScript(
        """
        local value = redis.call('GET', KEYS[1])
        if value then return value end
        if ARGV[1] == '' then return 0 end
        if redis.call('SET', KEYS[2], ARGV[1], 'NX', 'PX', ARGV[2]) then return 1 end
        if redis.call('GET', KEYS[2]) == ARGV[1] then return 1 end
        return 2
        """)
    /// A claim that has run out and is nobody's does not stand in the way; one that is another's does.
    private static let store = RedisScript(
        """
        if ARGV[3] ~= '' then
            local owner = redis.call('GET', KEYS[2])
            if owner and owner ~= ARGV[3] then return 0 end
            redis.call('DEL', KEYS[2])
        end
        redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
        return 1
        """)
    private static let release = RedisScript(
        "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0")
    private static let renewal = RedisScript(
        "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end return 0")

    /// - Parameters:
    ///   - patienceMilliseconds: that a request waits for Redis.
    ///   - claimMilliseconds: how long a claim lasts without renewal; so long others wait for a gateway that has died.
    public init(
        redis: RedisClient, patienceMilliseconds: Int64 = 20, claimMilliseconds: Int64 = 3_000, time: any TimeSource,
        logger: Logger
    ) {
        self.redis = redis
        self.patienceMilliseconds = patienceMilliseconds
        self.claimMilliseconds = claimMilliseconds
        self.time = time
        self.logger = logger
    }

    public var isAway: Bool { away.load(ordering: .relaxed) }

    public func ask(_ key: CacheKey, claim: CacheClaim?) async -> SharedCacheAnswer {
        guard time.monotonicNanoseconds >= quietUntilNanoseconds.load(ordering: .relaxed) else { return .away }
        do throws(RedisError) {
            let value = try await redis.evaluate(
                Self.ask, keys: [Self.name(key), Self.claimName(key)],
                arguments: [Self.token(claim), Self.text(claimMilliseconds)],
                patienceMilliseconds: patienceMilliseconds)
            noteAnswer()
            switch value {
            case .bulk(let bytes): return .found(bytes)
            case .integer(1): return .claimed
            case .integer(2): return .busy
            default: return .missing
            }
        } catch {
            noteFailure(error)
            return .away
        }
    }

    public func store(_ bytes: [UInt8], of key: CacheKey, ttlMilliseconds: Int64, claim: CacheClaim?) {
        redis.evaluate(
            Self.store, keys: [Self.name(key), Self.claimName(key)],
            arguments: [bytes, Self.text(max(1, ttlMilliseconds)), Self.token(claim)]
        ) { self.note($0) }
    }

    public func release(_ claim: CacheClaim) {
        redis.evaluate(Self.release, keys: [Self.claimName(claim.key)], arguments: [Self.token(claim)]) {
            self.note($0)
        }
    }

    public func renew(_ claims: [CacheClaim]) async {
        for claim in claims {
            redis.evaluate(
                Self.renewal, keys: [Self.claimName(claim.key)],
                arguments: [Self.token(claim), Self.text(claimMilliseconds)]
            ) { self.note($0) }
        }
        // Without traffic nobody else would notice that it went, or came back; and Redis has the script then.
        do throws(RedisError) {
            _ = try await redis.evaluate(
                Self.ask, keys: ["weir:cache:{}", "weir:cache:{}:claim"], arguments: [[], Self.text(claimMilliseconds)])
            noteAnswer()
        } catch {
            noteFailure(error)
        }
    }

    private func note(_ error: RedisError?) {
        if let error { noteFailure(error) } else { noteAnswer() }
    }

    private func noteAnswer() {
        guard away.load(ordering: .relaxed), away.exchange(false, ordering: .relaxed) else { return }
        logger.notice("predictions are cached over all gateways again")
    }

    private func noteFailure(_ error: RedisError) {
        failures.increment()
        if case .timeout = error {
            quietUntilNanoseconds.store(time.monotonicNanoseconds + Self.quietNanoseconds, ordering: .relaxed)
        }
        guard !away.exchange(true, ordering: .relaxed) else { return }
        logger.warning("redis is away: each gateway caches predictions on its own", metadata: ["cause": "\(error)"])
    }

    static func name(_ key: CacheKey) -> String { "weir:cache:{\(key.text)}" }

    private static func claimName(_ key: CacheKey) -> String { name(key) + ":claim" }

    private static func token(_ claim: CacheClaim?) -> [UInt8] { claim.map { Array(String($0.token).utf8) } ?? [] }

    private static func text(_ value: Int64) -> [UInt8] { Array(String(value).utf8) }
}
