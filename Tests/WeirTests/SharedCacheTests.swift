import Domain
import Glibc
import Logging
import NIOCore
import NIOPosix
import RedisDriver
import Storage
import TestSupport
import Testing

@testable import Gateway

/// Two gateways of one process over a real Redis.
@Suite("The cache of two gateways over Redis")
struct SharedCacheTests {
    private struct Time: TimeSource {
        var now: Timestamp { Timestamp(microsecondsSince1970: Int64(monotonicNanoseconds / 1_000)) }

        var monotonicNanoseconds: UInt64 {
            var time = timespec()
            clock_gettime(CLOCK_MONOTONIC, &time)
            return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
        }
    }

    private static let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
    private static let claimMilliseconds: Int64 = 4_000
    private let time = Time()

    private func cache(_ redis: RedisClient) async -> PredictionCache {
        let cache = PredictionCache(
            configuration: .init(), pepper: [UInt8](repeating: 1, count: 32),
            shared: RedisPredictionCache(
                redis: redis, patienceMilliseconds: 5_000, claimMilliseconds: Self.claimMilliseconds, time: time,
                logger: Self.logger), store: FakeCacheStore(), time: time, logger: Self.logger)
        await cache.refresh()
        return cache
    }

    private func question(_ cache: PredictionCache, _ tenantID: TenantID) -> CacheQuestion {
        let tenant = cache.tenant(tenantID)
        return CacheQuestion(
            tenant: tenant, account: tenant.account(of: "iris"), key: CacheKey(tenantID.high, 1, 2, 3), version: "1",
            policy: CachePolicy(isOn: true), instruction: .standard, at: time.now,
            atNanoseconds: time.monotonicNanoseconds)
    }

    private func withRedis(_ count: Int, _ body: ([RedisClient]) async throws -> Void) async throws {
        var configuration = try RedisConfiguration(url: try await RedisServer.sharedURL())
        configuration.commandTimeoutMilliseconds = 5_000
        configuration.connectTimeoutMilliseconds = 5_000
        let clients = try (0..<count).map { _ in
            try RedisClient(
                configuration: configuration, eventLoopGroup: MultiThreadedEventLoopGroup.singleton,
                logger: Self.logger)
        }
        let result: Result<Void, any Error>
        do {
            result = .success(try await body(clients))
        } catch {
            result = .failure(error)
        }
        for client in clients { await client.shutdown() }
        try result.get()
    }

    private func elapsedMilliseconds(since start: UInt64) -> Int64 {
        Int64((time.monotonicNanoseconds - start) / 1_000_000)
    }

    @Test("a claim lasts as long as its gateway lives, and another takes it over when that has died")
    func takeover() async throws {
        try await withRedis(3) { clients in
            let (dying, heir) = (await cache(clients[0]), await cache(clients[1]))
            let tenantID = TenantID(high: .random(in: 0...UInt64.max), low: 1)
            let asked = question(dying, tenantID)
            guard case .leads(let lost) = try await dying.open(asked), lost.claim != nil else {
                Issue.record("nobody else asked")
                return
            }
            let start = time.monotonicNanoseconds
            let inherited = Task { try await heir.open(question(heir, tenantID)) }
            while elapsedMilliseconds(since: start) < 2 * Self.claimMilliseconds {
                await dying.renewClaims()
                try await Task.sleep(nanoseconds: 200_000_000)
            }
            // From here on it is as good as dead.
            guard case .leads(let lead) = try await inherited.value, lead.claim != nil else {
                Issue.record("the claim ran out")
                return
            }
            let waited = elapsedMilliseconds(since: start)
            #expect(waited >= 2 * Self.claimMilliseconds, "it was renewed for so long")
            let reading = WorkerReading(
                prediction: ByteBuffer(string: "1"), probabilities: nil, version: "1", inputTokens: 1,
                cachedInputTokens: 0, outputTokens: 1)
            #expect(heir.close(lead, reading: reading, usage: .none, version: "1"))
            let third = await cache(clients[2])
            // The heir's claim ends with its answer, so there is no moment without both.
            if case .hit = try await third.open(question(third, tenantID)) { return }
            Issue.record("the heir's answer is there")
        }
    }
}
