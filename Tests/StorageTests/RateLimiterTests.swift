import Domain
import Logging
import NIOPosix
import RedisDriver
import TestSupport
import Testing

@testable import Storage

@Suite("rate limits in Redis") struct RateLimiterTests {
    /// Runs a body with a client of a Redis server.
    private func withClient<T>(_ url: String, _ body: (RedisClient) async throws -> T) async throws -> T {
        var configuration = try RedisConfiguration(url: url)
        // The tests share two processors with much else.
        configuration.commandTimeoutMilliseconds = 10_000
        configuration.connectTimeoutMilliseconds = 10_000
        configuration.backoff = RedisBackoff(baseMilliseconds: 5, maximumMilliseconds: 50)
        let client = try RedisClient(
            configuration: configuration, eventLoopGroup: MultiThreadedEventLoopGroup.singleton,
            logger: StorageHarness.logger)
        do {
            let value = try await body(client)
            await client.shutdown()
            return value
        } catch {
            await client.shutdown()
            throw error
        }
    }

    private static let start: Int64 = 1_772_366_400_000_000

    /// A script whose clock a test moves: a key that nobody else uses.
    private func script(_ clock: String) -> String {
        RateScript.source(clock: "local now = tonumber(redis.call('GET', '\(clock)'))")
    }

    @Test("the script does what an owner of rate limits has to do")
    func conformance() async throws {
        try await withClient(try await RedisServer.sharedURL()) { client in
            let clock = "weir:test:clock:\(UInt64.random(in: 0...UInt64.max))"
            try await client.set(clock, Array(String(Self.start).utf8), expiryMilliseconds: 600_000)
            let source = script(clock)
            let suite = RateLimiterConformance(
                limiter: {
                    RedisRateLimiter(
                        redis: client, gatewayID: $0, leaseMilliseconds: RateLimiterConformance.leaseMilliseconds,
                        source: source)
                }, advance: { try await client.incr(clock, by: $0) })
            let failures = try await suite.failures()
            #expect(failures.isEmpty, "\(failures)")
        }
    }

    @Test("the script and the value answer random demands alike, to the last unit", arguments: 0..<8 as Range<UInt64>)
    func alike(seed: UInt64) async throws {
        try await withClient(try await RedisServer.sharedURL()) { client in
            var random = SeededRandom(seed: seed)
            let clock = "weir:test:clock:\(UInt64.random(in: 0...UInt64.max))"
            let source = script(clock)
            let tenant = TenantID(high: UInt64.random(in: 0...UInt64.max), low: seed)
            let key = KeyID(high: 1, low: 1)
            var accounts = [RateAccount(), RateAccount()]
            var now = Self.start
            for step in 0..<250 {
                now += Int64.random(in: 0...400_000, using: &random)
                try await client.set(clock, Array(String(now).utf8), expiryMilliseconds: 600_000)
                let gateway = GatewayID(high: 2, low: UInt64.random(in: 1...3, using: &random))
                let count = Int.random(in: 1...2, using: &random)
                let demands = (0..<count).map { demand($0 == 0 ? nil : key, using: &random) }
                var touched = Array(accounts.prefix(count))
                let expected = RateAccount.exchange(
                    demands, &touched, of: gateway, lifetimeMicroseconds: 1_000_000, at: now)
                accounts.replaceSubrange(0..<count, with: touched)
                let limiter = RedisRateLimiter(
                    redis: client, gatewayID: gateway, leaseMilliseconds: 1_000, source: source)
                let answer = try await limiter.exchange(tenant, demands)
                #expect(answer == expected, "seed \(seed), step \(step)")
                guard answer == expected else { return }
            }
            try await client.del(RedisRateLimiter.key(tenant, nil), RedisRateLimiter.key(tenant, key), clock)
        }
    }

    private func demand(_ keyID: KeyID?, using random: inout SeededRandom) -> RateDemand {
        func number(_ most: Int64) -> Int64 { Int64.random(in: 0...most, using: &random) }
        func capacity(_ most: Int64) -> Int64? { Int.random(in: 0..<8, using: &random) == 0 ? nil : most }
        let spent = RateCredit(requests: number(300_000), tokens: number(900_000))
        let kept = RateCredit(requests: number(200_000), tokens: number(500_000), concurrency: number(2))
        let need = RateCredit(requests: number(900_000), tokens: number(2_000_000), concurrency: number(2))
        let minimum = Bool.random(using: &random) ? kept + need : kept
        let wanted =
            minimum + RateCredit(requests: number(9_000_000), tokens: number(9_000_000), concurrency: number(9))
        return RateDemand(
            keyID: keyID,
            capacity: RateCapacity(
                requests: capacity(3_000_000), tokens: capacity(7_000_001), concurrency: capacity(9)),
            isContinuous: Int.random(in: 0..<4, using: &random) > 0, spent: spent, kept: kept, minimum: minimum,
            wanted: wanted)
    }

    @Test("time is Redis' own: what was spent comes back by itself, and what is forgotten leaves nothing behind")
    func ownClock() async throws {
        try await withClient(try await RedisServer.sharedURL()) { client in
            let tenant = TenantID(high: UInt64.random(in: 0...UInt64.max), low: 1)
            let limiter = RedisRateLimiter(
                redis: client, gatewayID: GatewayID(high: 3, low: 1), leaseMilliseconds: 1_000)
            // 200 ms a unit.
            let capacity = RateCapacity(requests: 200_000)
            let unit = RateCredit(requests: 200_000)
            let demand = RateDemand(
                keyID: nil, capacity: capacity, isContinuous: false, spent: unit, kept: .zero, minimum: unit,
                wanted: unit)
            let first = try await limiter.exchange(tenant, [demand])
            let wait = try #require(first.shortage?.waitMicroseconds)
            #expect(wait == 200_000)
            let ask = RateDemand(
                keyID: nil, capacity: capacity, isContinuous: true, spent: .zero, kept: .zero, minimum: unit,
                wanted: unit)
            var waits = [wait]
            while let next = try await limiter.exchange(tenant, [ask]).shortage?.waitMicroseconds {
                #expect(next < waits[waits.count - 1], "the wait shrinks as time goes on")
                waits.append(next)
            }
            let left = try await client.send(["PTTL", RedisRateLimiter.key(tenant, nil)]).integer ?? -1
            #expect((1...4_000).contains(left), "\(left)")
        }
    }

    @Test("the keys of a tenant are on one node of a cluster")
    func hashTag() {
        let tenant = TenantID(high: 1, low: 2)
        let keys = [RedisRateLimiter.key(tenant, nil), RedisRateLimiter.key(tenant, KeyID(high: 3, low: 4))]
        #expect(keys.allSatisfy { $0.hasPrefix("weir:rate:{\(tenant)}") } && keys[0] != keys[1])
    }

    @Test("a script that Redis has forgotten is loaded again; a Redis that is away is said to be away")
    func outages() async throws {
        let server = try await RedisServer.startPrivate()
        try await withClient(server.url) { client in
            let tenant = TenantID(high: 1, low: 1)
            let limiter = RedisRateLimiter(
                redis: client, gatewayID: GatewayID(high: 3, low: 1), leaseMilliseconds: 1_000)
            _ = try await limiter.exchange(tenant, [])
            _ = try await client.send(["SCRIPT", "FLUSH"])
            _ = try await limiter.exchange(tenant, [])
            // Somebody else's value under our key is no answer and no crash.
            try await client.set(RedisRateLimiter.key(tenant, nil), Array("x".utf8))
            let demand = RateDemand(
                keyID: nil, capacity: RateCapacity(requests: 1), isContinuous: false, spent: .zero, kept: .zero,
                minimum: .zero, wanted: .zero)
            await #expect(throws: StoreUnavailable.self) { try await limiter.exchange(tenant, [demand]) }
            try await server.stop()
            await #expect(throws: StoreUnavailable.self) { try await limiter.exchange(tenant, []) }
        }
    }
}
