import Domain
import Synchronization
import TestSupport
import Testing

@testable import Gateway

/// The owner of the limits of several gateways, which can be away.
final class SharedLimits: Sendable {
    let store = InProcessRateLimiter.Store()
    let state = Mutex((exchanges: 0, isAway: false))
    let time: any TimeSource

    init(time: any TimeSource) { self.time = time }

    var exchanges: Int { state.withLock { $0.exchanges } }

    func setAway(_ isAway: Bool) { state.withLock { $0.isAway = isAway } }

    func gateway(_ number: UInt64) -> any RateLimiter {
        Way(
            limits: self,
            limiter: InProcessRateLimiter(
                store: store, gatewayID: GatewayID(high: 1, low: number), leaseMilliseconds: 2_000, time: time))
    }

    private struct Way: RateLimiter {
        let limits: SharedLimits
        let limiter: InProcessRateLimiter

        func exchange(_ tenantID: TenantID, _ demands: [RateDemand]) async throws(StoreUnavailable) -> RateAnswer {
            let isAway = limits.state.withLock { state in
                if !demands.isEmpty { state.exchanges += 1 }
                return state.isAway
            }
            if isAway { throw StoreUnavailable(cause: "away") }
            return try await limiter.exchange(tenantID, demands)
        }
    }
}

@Suite("Rate keeper") struct RateKeeperTests {
    let time = ManualTime(Installation.noon)

    func principal(
        _ limits: RateLimits?, key: KeyID = Installation.keyID, tenant: TenantID = Installation.tenant
    )
        -> Principal
    {
        Principal(
            tenantID: tenant, keyID: key, userID: nil, scopes: [.predict], allowedModels: nil, environment: .live,
            tierVersionID: Installation.tier, quotas: [], rateLimits: limits, timeZone: "UTC", retention: .none)
    }

    func tenantLimits(
        requests: RateLimit? = nil, tokens: RateLimit? = nil, concurrency: Int64? = nil
    ) -> RateLimits {
        RateLimits(
            tenant: ScopeLimits(
                requests: requests, tokens: tokens, concurrency: concurrency.map { RateLimit(amount: $0) }))
    }

    func refusal(_ keeper: RateKeeper, _ tokens: Int64, _ principal: Principal) async -> RateRefusal? {
        do throws(Refusal) {
            _ = try await keeper.take(tokens: tokens, for: principal)
            return nil
        } catch {
            #expect(error.code == .rateLimited)
            return error.rate
        }
    }

    /// Takes and admits until a refusal comes.
    func takeAll(_ keepers: [RateKeeper], _ principal: Principal, tokens: Int64 = 1) async -> Int {
        var count = 0
        var refused: Set<Int> = []
        while refused.count < keepers.count {
            for (index, keeper) in keepers.enumerated() where !refused.contains(index) {
                if let take = try? await keeper.take(tokens: tokens, for: principal) {
                    keeper.admit(take, for: principal)
                    count += 1
                } else {
                    refused.insert(index)
                }
            }
        }
        return count
    }

    func expect(_ count: Int, _ expected: Int, sourceLocation: SourceLocation = #_sourceLocation) {
        #expect(count == expected, sourceLocation: sourceLocation)
    }

    @Test("a caller without limits takes nothing and asks nobody")
    func unlimited() async throws {
        let limits = SharedLimits(time: time)
        let keeper = Installation.rates(limits.gateway(1), time: time)
        #expect(try await keeper.take(tokens: 5, for: principal(nil)) == nil)
        #expect(limits.exchanges == 0 && keeper.readings(for: principal(nil)).isEmpty)
    }

    @Test("requests that what is held covers ask nobody")
    func warm() async throws {
        let limits = SharedLimits(time: time)
        let keeper = Installation.rates(limits.gateway(1), time: time)
        let caller = principal(tenantLimits(requests: RateLimit(amount: 60_000), concurrency: 1_000))
        for _ in 0..<200 {
            let take = try #require(try await keeper.take(tokens: 5, for: caller))
            keeper.admit(take, for: caller)
            keeper.settle(take, usedTokens: 3, for: caller)
        }
        #expect(limits.exchanges <= 6, "\(limits.exchanges)")
    }

    @Test("two gateways admit together exactly what the limit allows, and again as much as time earns")
    func twoGateways() async throws {
        let limits = SharedLimits(time: time)
        let keepers = [1, 2].map { Installation.rates(limits.gateway($0), time: time) }
        let caller = principal(tenantLimits(requests: RateLimit(amount: 600, burst: 50)))
        expect(await takeAll(keepers, caller), 50)
        let refusal = try #require(await refusal(keepers[0], 1, caller))
        #expect(refusal.policy == "rpm" && refusal.remaining == 0 && refusal.requested == 1)
        #expect(refusal.waitMilliseconds == 100 && refusal.resetSeconds == 5)
        time.advance(milliseconds: 1_000)
        for keeper in keepers { await keeper.keep() }
        expect(await takeAll(keepers, caller), 10)
    }

    @Test("a thousand requests at once with one unit left: exactly one is admitted, on two gateways")
    func thousandAtOnce() async throws {
        let limits = SharedLimits(time: time)
        let keepers = [1, 2].map { Installation.rates(limits.gateway($0), time: time) }
        let caller = principal(tenantLimits(requests: RateLimit(amount: 1)))
        let admitted = await withTaskGroup(of: Int.self) { group in
            for index in 0..<1_000 {
                group.addTask { (try? await keepers[index % 2].take(tokens: 1, for: caller)) == nil ? 0 : 1 }
            }
            return await group.reduce(0, +)
        }
        #expect(admitted == 1)
    }

    @Test("slots are counted over all gateways, and come back when requests end")
    func concurrency() async throws {
        let limits = SharedLimits(time: time)
        let keepers = [1, 2].map { Installation.rates(limits.gateway($0), time: time) }
        let caller = principal(tenantLimits(concurrency: 3))
        let first = try #require(try await keepers[0].take(tokens: 1, for: caller))
        let second = try #require(try await keepers[1].take(tokens: 1, for: caller))
        let third = try #require(try await keepers[1].take(tokens: 1, for: caller))
        let refusal = try #require(await refusal(keepers[0], 1, caller))
        #expect(refusal.unit == .concurrency && refusal.limit.amount == 3 && refusal.waitMilliseconds == 1_000)
        for take in [second, third] {
            keepers[1].admit(take, for: caller)
            keepers[1].settle(take, usedTokens: 0, for: caller)
        }
        await keepers[1].keep()
        await keepers[1].keep()
        expect(await takeAll([keepers[0]], caller), 2)
        keepers[0].giveBack(first, for: caller)
        expect(await takeAll([keepers[0]], caller), 1)
    }

    @Test("a gateway that dies leaves its slots to the others after a lease")
    func deadGateway() async throws {
        let limits = SharedLimits(time: time)
        let keepers = [1, 2].map { Installation.rates(limits.gateway($0), time: time) }
        let caller = principal(tenantLimits(concurrency: 4))
        expect(await takeAll([keepers[0]], caller), 4)
        #expect(await refusal(keepers[1], 1, caller) != nil)
        time.advance(milliseconds: 2_000)
        expect(await takeAll([keepers[1]], caller), 4)
    }

    @Test("slots of requests that run longer than a lease stay taken while their gateway lives")
    func longRequests() async throws {
        let limits = SharedLimits(time: time)
        let keepers = [1, 2].map { Installation.rates(limits.gateway($0), time: time) }
        let caller = principal(tenantLimits(concurrency: 4))
        expect(await takeAll([keepers[0]], caller), 4)
        for _ in 0..<20 {
            time.advance(milliseconds: 500)
            await keepers[0].keep()
            #expect(await refusal(keepers[1], 1, caller) != nil)
        }
    }

    @Test("the bound of tokens is held until the end; what was not used is free again")
    func tokens() async throws {
        let keeper = Installation.rates(nil, time: time)
        let caller = principal(tenantLimits(tokens: RateLimit(amount: 600, burst: 100)))
        let take = try #require(try await keeper.take(tokens: 80, for: caller))
        keeper.admit(take, for: caller)
        let refusal = try #require(await refusal(keeper, 30, caller))
        #expect(refusal.policy == "tpm" && refusal.remaining == 20 && refusal.requested == 30)
        #expect(refusal.waitMilliseconds == 1_000)
        keeper.settle(take, usedTokens: 10, for: caller)
        #expect(try await keeper.take(tokens: 90, for: caller) != nil)
        #expect(await self.refusal(keeper, 1, caller) != nil)
    }

    @Test("what is given back was never used")
    func givenBack() async throws {
        let keeper = Installation.rates(nil, time: time)
        let caller = principal(
            tenantLimits(requests: RateLimit(amount: 60, burst: 1), tokens: RateLimit(amount: 60), concurrency: 1))
        for _ in 0..<5 {
            let take = try #require(try await keeper.take(tokens: 60, for: caller))
            keeper.giveBack(take, for: caller)
        }
        let take = try #require(try await keeper.take(tokens: 60, for: caller))
        keeper.admit(take, for: caller)
        keeper.settle(take, usedTokens: 0, for: caller)
        #expect(await refusal(keeper, 60, caller)?.unit == .requests, "an admitted request counts, whatever it used")
    }

    @Test("a key's limit stops that key alone; nothing of the tenant's is consumed by what it refuses")
    func keys() async throws {
        let limits = RateLimits(
            tenant: ScopeLimits(requests: RateLimit(amount: 60, burst: 10)),
            key: ScopeLimits(requests: RateLimit(amount: 60, burst: 4)))
        let keeper = Installation.rates(nil, time: time)
        let one = principal(limits)
        let two = principal(limits, key: KeyID(high: 7, low: 7))
        let three = principal(limits, key: KeyID(high: 7, low: 8))
        expect(await takeAll([keeper], one), 4)
        for _ in 0..<30 { #expect(await refusal(keeper, 1, one)?.policy == "key-rpm") }
        expect(await takeAll([keeper], two), 4)
        expect(await takeAll([keeper], three), 2)
        #expect(await refusal(keeper, 1, three)?.policy == "rpm")
        #expect(keeper.readings(for: three).map(\.policy) == ["rpm", "key-rpm"])
        #expect(keeper.readings(for: three).map(\.remaining) == [0, 2])
    }

    @Test("what can never fit is refused without asking, and without a time to wait")
    func impossible() async throws {
        let limits = SharedLimits(time: time)
        let keeper = Installation.rates(limits.gateway(1), time: time)
        let refusal = try #require(
            await refusal(keeper, 101, principal(tenantLimits(tokens: RateLimit(amount: 1_000, burst: 100)))))
        #expect(refusal.waitMilliseconds == nil && refusal.requested == 101)
        #expect(await self.refusal(keeper, 1, principal(tenantLimits(requests: RateLimit(amount: 0))))?.remaining == 0)
        #expect(limits.exchanges == 0)
    }

    @Test("a limit that is lowered counts at once, and never shows less than nothing")
    func lowered() async throws {
        let keeper = Installation.rates(nil, time: time)
        let before = principal(tenantLimits(requests: RateLimit(amount: 100), concurrency: 100))
        expect(await takeAll([keeper], before), 100)
        time.advance(milliseconds: 3_000)
        await keeper.keep()
        let after = principal(tenantLimits(requests: RateLimit(amount: 10, burst: 2), concurrency: 5))
        let refusal = try #require(await refusal(keeper, 1, after))
        #expect(refusal.remaining == 0 && (refusal.waitMilliseconds ?? 0) <= 12_000)
        #expect(keeper.readings(for: after).allSatisfy { $0.remaining >= 0 && $0.remaining <= $0.limit })
    }

    @Test(
        "while the owner is away each gateway enforces the limits on its own and says so; afterwards they hold for all again"
    )
    func away() async throws {
        let limits = SharedLimits(time: time)
        let keepers = [1, 2].map { Installation.rates(limits.gateway($0), time: time, gateway: $0) }
        let caller = principal(tenantLimits(requests: RateLimit(amount: 600, burst: 20), concurrency: 1_000))
        expect(await takeAll(keepers, caller), 20)
        limits.setAway(true)
        #expect(!keepers[0].isDegraded)
        expect(await takeAll(keepers, caller), 40)
        #expect(keepers.allSatisfy { $0.isDegraded })
        limits.setAway(false)
        time.advance(milliseconds: 5_000)
        for keeper in keepers { await keeper.keep() }
        #expect(keepers.allSatisfy { !$0.isDegraded })
        expect(await takeAll(keepers, caller), 20)
    }

    @Test("an idle gateway learns by itself that the owner is away, and that it is back")
    func probes() async throws {
        let limits = SharedLimits(time: time)
        let keeper = Installation.rates(limits.gateway(1), time: time)
        limits.setAway(true)
        await keeper.keep()
        #expect(keeper.isDegraded)
        limits.setAway(false)
        await keeper.keep()
        #expect(!keeper.isDegraded)
        #expect(!Installation.rates(nil, time: time).isDegraded, "where there is no Redis nothing is lost")
    }
}
