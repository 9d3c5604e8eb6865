import Domain
import Synchronization
import TestSupport
import Testing

@testable import Gateway

extension RateKeeperTests {
    @Test("near the limit what a request leaves goes back at once, so that no other gateway is refused for it")
    func returnsAtOnce() async throws {
        let limits = SharedLimits(time: time)
        let keepers = [1, 2].map { Installation.rates(limits.gateway($0), time: time) }
        let caller = principal(tenantLimits(requests: RateLimit(amount: 60_000), concurrency: 1))
        let service = Task { await keepers[0].returnWhatOthersNeed() }
        for _ in 0..<20 {
            let take = try #require(try await keepers[0].take(tokens: 1, for: caller))
            #expect(await refusal(keepers[1], 1, caller)?.unit == .concurrency)
            keepers[0].admit(take, for: caller)
            let before = limits.exchanges
            keepers[0].settle(take, usedTokens: 1, for: caller)
            while limits.exchanges == before { await Task.yield() }
            // The exchange has begun; it ends without waiting for anything.
            var other: RateTake?
            while other == nil { other = try? await keepers[1].take(tokens: 1, for: caller) }
            if let other { keepers[1].giveBack(other, for: caller) }
            await keepers[1].drain()
        }
        service.cancel()
        await service.value
    }

    @Test("far from the limit nothing goes back before the next upkeep")
    func keepsWhatIsPlenty() async throws {
        let limits = SharedLimits(time: time)
        let keeper = Installation.rates(limits.gateway(1), time: time)
        let caller = principal(tenantLimits(requests: RateLimit(amount: 60_000), concurrency: 100))
        let service = Task { await keeper.returnWhatOthersNeed() }
        for _ in 0..<20 {
            let take = try #require(try await keeper.take(tokens: 1, for: caller))
            keeper.admit(take, for: caller)
            keeper.settle(take, usedTokens: 1, for: caller)
        }
        service.cancel()
        await service.value
        #expect(limits.exchanges <= 3, "\(limits.exchanges)")
    }

    @Test("the leases of many keys are all renewed")
    func manyKeys() async throws {
        let limits = SharedLimits(time: time)
        let keepers = [1, 2].map { Installation.rates(limits.gateway($0), time: time) }
        let callers = (0..<600).map {
            principal(RateLimits(key: ScopeLimits(concurrency: RateLimit(amount: 1))), key: KeyID(high: 9, low: $0))
        }
        for caller in callers { _ = try await keepers[0].take(tokens: 1, for: caller) }
        for _ in 0..<6 {
            time.advance(milliseconds: 500)
            await keepers[0].keep()
        }
        var refusals = 0
        for caller in callers where await refusal(keepers[1], 1, caller) != nil { refusals += 1 }
        expect(refusals, 600)
    }

    @Test("a gateway that stops gives back what it holds")
    func drain() async throws {
        let limits = SharedLimits(time: time)
        let keepers = [1, 2].map { Installation.rates(limits.gateway($0), time: time) }
        let caller = principal(tenantLimits(requests: RateLimit(amount: 60, burst: 40), concurrency: 40))
        let take = try #require(try await keepers[0].take(tokens: 1, for: caller))
        keepers[0].giveBack(take, for: caller)
        await keepers[0].drain()
        expect(await takeAll([keepers[1]], caller), 40)
    }

    @Test("who waits too long a queue is told so")
    func overloaded() async throws {
        var configuration = RateKeeper.Configuration()
        configuration.waitingLimit = 1
        let own = InProcessRateLimiter(gatewayID: GatewayID(high: 0, low: 1), leaseMilliseconds: 2_000, time: time)
        let shared = GatedLimiter(inner: SharedLimits(time: time).gateway(1), gate: Gate())
        let keeper = RateKeeper(
            shared: shared, own: own, configuration: configuration, time: time, logger: Installation.logger)
        let caller = principal(tenantLimits(requests: RateLimit(amount: 100)))
        async let first = keeper.take(tokens: 1, for: caller)
        await shared.gate.arrivals(1)
        async let second = keeper.take(tokens: 1, for: caller)
        while keeper.waitingCount(of: caller.tenantID) < 1 { await Task.yield() }
        do throws(Refusal) {
            _ = try await keeper.take(tokens: 1, for: caller)
            Issue.record("it was admitted")
        } catch {
            #expect(error.code == .overloaded && error.retryAfterSeconds == 1)
        }
        shared.gate.open()
        _ = try await (first, second)
    }

    @Test("the refusal of a key's limit is shared by all who wait for it, and by no other key's")
    func sharedByKey() async throws {
        let limits = SharedLimits(time: time)
        let own = InProcessRateLimiter(gatewayID: GatewayID(high: 0, low: 1), leaseMilliseconds: 2_000, time: time)
        let shared = GatedLimiter(inner: limits.gateway(1), gate: Gate())
        let keeper = RateKeeper(
            shared: shared, own: own, configuration: .init(), time: time, logger: Installation.logger)
        let narrow = principal(RateLimits(key: ScopeLimits(requests: RateLimit(amount: 1))))
        let wide = principal(
            RateLimits(key: ScopeLimits(requests: RateLimit(amount: 1_000_000))), key: KeyID(high: 7, low: 7))
        let used = try #require(
            try await limits.gateway(2).exchange(
                narrow.tenantID,
                [
                    RateDemand(
                        keyID: narrow.keyID, capacity: RateCapacity(requests: 60_000_000), isContinuous: false,
                        spent: RateCredit(requests: 60_000_000), kept: .zero, minimum: .zero, wanted: .zero)
                ]) as RateAnswer?)
        #expect(used.shortage == nil)
        let before = limits.exchanges
        let (refused, admitted) = await withTaskGroup(of: (Bool, Bool).self) { group in
            for index in 0..<300 {
                let caller = index % 3 == 0 ? wide : narrow
                group.addTask {
                    let take = try? await keeper.take(tokens: 1, for: caller)
                    return (take == nil && index % 3 != 0, take != nil && index % 3 == 0)
                }
            }
            await shared.gate.arrivals(1)
            while keeper.waitingCount(of: narrow.tenantID) < 299 { await Task.yield() }
            shared.gate.open()
            return await group.reduce(into: (0, 0)) {
                $0.0 += $1.0 ? 1 : 0
                $0.1 += $1.1 ? 1 : 0
            }
        }
        expect(refused, 200)
        expect(admitted, 100)
        // One for the narrow key, and few for the other, whose every exchange asks for more.
        #expect(limits.exchanges - before <= 12, "\(limits.exchanges - before)")
    }

    @Test("who needs more than is left is refused with who was refused for even more")
    func sharedRemaining() throws {
        let caller = principal(tenantLimits(tokens: RateLimit(amount: 600, burst: 100)))
        let limits = try #require(caller.rateLimits)
        let limit = RateLimit(amount: 600, burst: 100)
        func shared(_ tokens: Int64, remaining: Int64) -> Bool {
            let refusal = RateRefusal(
                scope: .tenant, unit: .tokens, limit: limit, remaining: remaining, requested: 90, waitMilliseconds: 5,
                resetSeconds: 1)
            return RateNeed(caller, limits, tokens: tokens).shared(refusal) != nil
        }
        #expect(shared(90, remaining: 20) && shared(21, remaining: 20))
        #expect(!shared(20, remaining: 20))
        #expect(!shared(89, remaining: 100), "more may be left than is shown")
    }

    @Test("what this process counted while the owner was away is forgotten once it decides nothing any more")
    func sweep() async throws {
        let limits = SharedLimits(time: time)
        let store = InProcessRateLimiter.Store()
        let own = InProcessRateLimiter(
            store: store, gatewayID: GatewayID(high: 0, low: 1), leaseMilliseconds: 2_000, time: time)
        let keeper = RateKeeper(
            shared: limits.gateway(1), own: own, configuration: .init(), time: time, logger: Installation.logger)
        let rates = RateLimits(
            tenant: ScopeLimits(requests: RateLimit(amount: 60), concurrency: RateLimit(amount: 5)),
            key: ScopeLimits(tokens: RateLimit(amount: 600)))
        limits.setAway(true)
        for number in 0..<300 as Range<UInt64> {
            let caller = principal(rates, tenant: TenantID(high: 3, low: number))
            let take = try #require(try await keeper.take(tokens: 10, for: caller))
            keeper.admit(take, for: caller)
        }
        expect(store.count, 600)
        limits.setAway(false)
        time.advance(milliseconds: 1_000)
        await keeper.keep()
        expect(store.count, 600)
        time.advance(milliseconds: 70_000)
        await keeper.keep()
        expect(store.count, 0)
    }

    @Test("what is shown is asked for first, and nothing is taken for it")
    func look() async throws {
        let limits = SharedLimits(time: time)
        let keepers = [1, 2].map { Installation.rates(limits.gateway($0), time: time) }
        let caller = principal(
            RateLimits(
                tenant: ScopeLimits(requests: RateLimit(amount: 600, burst: 50), concurrency: RateLimit(amount: 4)),
                key: ScopeLimits(tokens: RateLimit(amount: 1_000))))
        let fresh = await keepers[1].look(caller)
        #expect(fresh.map(\.reading.policy) == ["rpm", "concurrency", "key-tpm"])
        #expect(fresh.map(\.reading.remaining) == [50, 4, 1_000] && fresh.map(\.burst) == [50, 4, 1_000])
        #expect(fresh.allSatisfy { $0.isExact })
        let take = try #require(try await keepers[0].take(tokens: 400, for: caller))
        keepers[0].admit(take, for: caller)
        await keepers[0].keep()
        await keepers[0].keep()
        let later = await keepers[1].look(caller)
        #expect(later.map(\.reading.remaining) == [49, 3, 600])
        limits.setAway(true)
        let away = await keepers[1].look(caller)
        #expect(away.allSatisfy { !$0.isExact } && away.map(\.reading.remaining) == [50, 4, 1_000])
        #expect(await keepers[1].look(principal(nil)).isEmpty)
        for _ in 0..<50 { _ = await keepers[1].look(caller) }
        expect(await takeAll([keepers[1]], caller), 4)
    }

    private struct GatedLimiter: RateLimiter {
        let inner: any RateLimiter
        let gate: Gate

        func exchange(_ tenantID: TenantID, _ demands: [RateDemand]) async throws(StoreUnavailable) -> RateAnswer {
            await gate.pass()
            return try await inner.exchange(tenantID, demands)
        }
    }

    @Test("the limiter in this process does what an owner of rate limits has to do")
    func conformance() async throws {
        let (time, store) = (self.time, InProcessRateLimiter.Store())
        // The clock of the suite has a finer step than the manual one.
        let clock = FineTime(time)
        let suite = RateLimiterConformance(
            limiter: {
                InProcessRateLimiter(
                    store: store, gatewayID: $0, leaseMilliseconds: RateLimiterConformance.leaseMilliseconds,
                    time: clock)
            }, advance: { clock.advance(microseconds: $0) })
        let failures = try await suite.failures()
        #expect(failures.isEmpty, "\(failures)")
    }

    private final class FineTime: TimeSource {
        private let base: any TimeSource
        private let more = Atomic<UInt64>(0)

        init(_ base: any TimeSource) { self.base = base }

        func advance(microseconds: Int64) {
            more.wrappingAdd(UInt64(microseconds) * 1_000, ordering: .relaxed)
        }

        var now: Timestamp { base.now }
        var monotonicNanoseconds: UInt64 { base.monotonicNanoseconds + more.load(ordering: .relaxed) }
    }
}
