import Domain
import Glibc
import Logging
import NIOPosix
import RedisDriver
import Storage
import Synchronization
import TestSupport
import Testing

@testable import Gateway

/// Two gateways of one process over a real Redis that is killed and comes back.
@Suite("Rate limits of two gateways over Redis")
struct SharedRateLimitTests {
    private struct Time: TimeSource {
        var now: Timestamp { Timestamp(microsecondsSince1970: Int64(monotonicNanoseconds / 1_000)) }

        var monotonicNanoseconds: UInt64 {
            var time = timespec()
            clock_gettime(CLOCK_MONOTONIC, &time)
            return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
        }
    }

    private static let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
    private let time = Time()

    private func keeper(_ redis: RedisClient, _ number: UInt64, leaseMilliseconds: Int64 = 1_000) -> RateKeeper {
        let id = GatewayID(high: 0xF, low: number)
        var configuration = RateKeeper.Configuration()
        configuration.leaseMilliseconds = leaseMilliseconds
        return RateKeeper(
            shared: RedisRateLimiter(redis: redis, gatewayID: id, leaseMilliseconds: leaseMilliseconds),
            own: InProcessRateLimiter(gatewayID: id, leaseMilliseconds: leaseMilliseconds, time: time),
            configuration: configuration, time: time, logger: Self.logger)
    }

    private func principal(_ limits: RateLimits) -> Principal {
        Principal(
            tenantID: TenantID(high: UInt64.random(in: 0...UInt64.max), low: 1), keyID: KeyID(high: 0, low: 2),
            userID: nil, scopes: [.predict], allowedModels: nil, environment: .live,
            tierVersionID: TierVersionID(high: 0, low: 3), quotas: [], rateLimits: limits, timeZone: "UTC",
            retention: .none)
    }

    private func withRedis<T>(_ url: String, _ body: ([RedisClient]) async throws -> T) async throws -> T {
        var configuration = try RedisConfiguration(url: url)
        configuration.commandTimeoutMilliseconds = 5_000
        configuration.connectTimeoutMilliseconds = 5_000
        configuration.backoff = RedisBackoff(baseMilliseconds: 5, maximumMilliseconds: 50)
        var clients: [RedisClient] = []
        for _ in 0..<2 {
            clients.append(
                try RedisClient(
                    configuration: configuration, eventLoopGroup: MultiThreadedEventLoopGroup.singleton,
                    logger: Self.logger))
        }
        let result: Result<T, any Error>
        do {
            result = .success(try await body(clients))
        } catch {
            result = .failure(error)
        }
        for client in clients { await client.shutdown() }
        return try result.get()
    }

    private struct Asked {
        /// Between which two instants each admission happened, in nanoseconds.
        var admitted: [(from: UInt64, to: UInt64)] = []
        var refused = 0
    }

    /// Asks from several tasks of each gateway until each task was admitted and refused so often.
    private func ask(_ keepers: [RateKeeper], _ caller: Principal, times: Int) async -> Asked {
        await withTaskGroup(of: Asked?.self) { group in
            for keeper in keepers {
                for _ in 0..<4 {
                    group.addTask { () -> Asked? in
                        var asked = Asked()
                        while asked.admitted.count < times || asked.refused < times {
                            let from = time.monotonicNanoseconds
                            if let take = try? await keeper.take(tokens: 1, for: caller) {
                                keeper.admit(take, for: caller)
                                keeper.settle(take, usedTokens: 1, for: caller)
                                asked.admitted.append((from, time.monotonicNanoseconds))
                            } else {
                                asked.refused += 1
                            }
                            try? await Task.sleep(nanoseconds: 1_000_000)
                        }
                        return asked
                    }
                }
            }
            // What a gateway does four times in a lease.
            let upkeep = Task {
                while !Task.isCancelled {
                    for keeper in keepers { await keeper.keep() }
                    try? await Task.sleep(nanoseconds: 100_000_000)
                }
            }
            var all = Asked()
            for await asked in group {
                all.admitted += asked?.admitted ?? []
                all.refused += asked?.refused ?? 0
            }
            upkeep.cancel()
            await upkeep.value
            return all
        }
    }

    /// By how many admissions the worst window exceeds the burst and what the limit allows in the window's length.
    private func excess(_ admitted: [(from: UInt64, to: UInt64)], _ limit: RateLimit) -> Int64 {
        var worst = Int64.min
        for first in admitted {
            let inside = admitted.filter { $0.from >= first.from }.map(\.to).sorted()
            for (index, end) in inside.enumerated() {
                let earned = limit.units(in: Int64((end - first.from) / 1_000))
                worst = max(worst, Int64(index) + 1 - limit.burst - earned)
            }
        }
        return worst
    }

    @Test("never more than the burst and the rate in any window")
    func exact() async throws {
        try await withRedis(try await RedisServer.sharedURL()) { clients in
            let keepers = [keeper(clients[0], 1), keeper(clients[1], 2)]
            let limit = RateLimit(amount: 6_000, burst: 30)
            let caller = principal(RateLimits(tenant: ScopeLimits(requests: limit)))
            let asked = await ask(keepers, caller, times: 25)
            #expect(excess(asked.admitted, limit) <= 0)
            #expect(keepers.allSatisfy { !$0.isDegraded })
        }
    }

    @Test("Redis dies and comes back: served meanwhile, by each on its own, and exact again afterwards")
    func outage() async throws {
        let server = try await RedisServer.startPrivate()
        try await withRedis(server.url) { clients in
            let keepers = [keeper(clients[0], 1), keeper(clients[1], 2)]
            let limit = RateLimit(amount: 3_000, burst: 10)
            let caller = principal(RateLimits(tenant: ScopeLimits(requests: limit)))
            #expect(excess(await ask(keepers, caller, times: 5).admitted, limit) <= 0)
            try await server.stop()
            let alone = await ask(keepers, caller, times: 5)
            #expect(keepers.allSatisfy { $0.isDegraded })
            #expect(excess(alone.admitted, RateLimit(amount: 6_000, burst: 20)) <= 0, "each on its own")
            try await server.restart()
            while keepers.contains(where: { $0.isDegraded }) {
                for keeper in keepers { await keeper.keep() }
                await Task.yield()
            }
            #expect(excess(await ask(keepers, caller, times: 5).admitted, limit) <= 0)
            #expect(keepers.allSatisfy { !$0.isDegraded })
        }
        try await server.stop()
    }
}
