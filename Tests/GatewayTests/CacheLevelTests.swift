import Domain
import HTTPListener
import NIOCore
import NIOPosix
import Synchronization
import TestSupport
import Testing

@testable import Gateway

@Suite("Levels of the cache") struct CacheLevelTests {
    @Test("what one gateway learnt, another knows by Redis")
    func shares() async throws {
        let shared = FakeSharedCache()
        let (one, two) = (await CacheStage.installation(shared: shared), await CacheStage.installation(shared: shared))
        _ = try await CacheStage.run(one)
        #expect(
            CacheStage.prediction(try await CacheStage.run(two))?.cache?.isServedFromCache == true
                && two.backend.calls.isEmpty)
        #expect(CacheStage.prediction(try await CacheStage.run(two))?.cache?.isServedFromCache == true)
        #expect(shared.claimCount == 0)
        await two.cache.flush()
        #expect(two.cacheStore.statistics.first?.tally.redisHits == 1)
        #expect(two.cacheStore.statistics.first?.tally.memoryHits == 1)
    }

    @Test("a byte that was changed makes a miss, and so do another's bytes")
    func integrity() async throws {
        let shared = FakeSharedCache()
        let one = await CacheStage.installation(shared: shared)
        _ = try await CacheStage.run(one)
        let (key, bytes) = try #require(shared.values.first)
        for index in stride(from: 0, to: bytes.count, by: 7) {
            var changed = bytes
            changed[index] ^= 1
            shared.values = [key: changed]
            let two = await CacheStage.installation(shared: shared)
            #expect(
                CacheStage.prediction(try await CacheStage.run(two))?.cache?.isServedFromCache == false, "byte \(index)"
            )
        }
        let secret = CacheSecret(pepper: Installation.pepper, tenantID: Installation.tenant)
        #expect(CacheFrame.decode(bytes, key: key, secret: secret) != nil)
        #expect(CacheFrame.decode(bytes, key: CacheKey(1, 2, 3, 4), secret: secret) == nil)
        let other = CacheSecret(pepper: Installation.pepper, tenantID: TenantID(high: 0, low: 1))
        #expect(CacheFrame.decode(bytes, key: key, secret: other) == nil)
        for length in 0..<40 {
            #expect(CacheFrame.decode(Array(bytes.prefix(length)), key: key, secret: secret) == nil)
        }
    }

    @Test("without Redis everything is served, and the answer says so")
    func away() async throws {
        let shared = FakeSharedCache()
        shared.isAway = true
        let parts = await CacheStage.installation(shared: shared)
        let first = try #require(CacheStage.prediction(try await CacheStage.run(parts)))
        #expect(first.cache == .forwarded(.uriMiss, isStored: true) && first.degradations == ["cache"])
        #expect(CacheStage.prediction(try await CacheStage.run(parts))?.cache?.isServedFromCache == true)
    }

    @Test("over two gateways one asks the worker")
    func flight() async throws {
        let shared = FakeSharedCache()
        let backend = FakeBackend(gate: Gate())
        let (one, two) = (
            await CacheStage.installation(backend: backend, shared: shared),
            await CacheStage.installation(shared: shared)
        )
        let first = Task { try await CacheStage.run(one) }
        await backend.gate.arrivals(1)
        let second = Task { try await CacheStage.run(two) }
        while shared.busyCount == 0 { await Task.yield() }
        backend.gate.open()
        #expect(CacheStage.prediction(try await first.value)?.cache?.isServedFromCache == false)
        #expect(CacheStage.prediction(try await second.value)?.cache?.isServedFromCache == true)
        #expect(two.backend.calls.isEmpty && shared.claimCount == 0)
    }

    @Test("claims are renewed while the database does not answer, and until the last question has ended")
    func renewal() async throws {
        let (shared, store) = (FakeSharedCache(), FakeCacheStore(writing: Gate()))
        let backend = FakeBackend(gate: Gate())
        let parts = await CacheStage.installation(backend: backend, shared: shared, store: store)
        let asking = Task { try await CacheStage.run(parts) }
        await backend.gate.arrivals(1)
        let keeping = Task { await parts.cache.keep(renewalMilliseconds: 1) }
        await store.writing.arrivals(1)
        let before = shared.renewalCount
        while shared.renewalCount < before + 3 { await Task.yield() }
        keeping.cancel()
        store.writing.open()
        await keeping.value
        let kept = shared.renewalCount
        let finishing = Task { await parts.cache.finish(withinMilliseconds: 60_000) }
        while shared.renewalCount == kept { await Task.yield() }
        backend.gate.open()
        _ = try await asking.value
        await finishing.value
        #expect(shared.claimCount == 0 && store.statistics.map(\.tally.stores).reduce(0, +) == 1)
    }

    @Test("the table outlives the process, where the policy has it")
    func table() async throws {
        let policy = CachePolicy(isOn: true, levels: .init(redis: false, table: true))
        let one = await CacheStage.installation(policy)
        _ = try await CacheStage.run(one)
        await one.cache.flush()
        #expect(one.cacheStore.rows.count == 1 && one.cacheStore.rows.first?.model == "iris")
        let two = await CacheStage.installation(policy)
        try await two.cacheStore.write(one.cacheStore.rows)
        #expect(
            CacheStage.prediction(try await CacheStage.run(two))?.cache?.isServedFromCache == true
                && two.backend.calls.isEmpty)
        _ = try await CacheStage.run(two)
        await two.cache.flush()
        #expect(two.cacheStore.accesses.map(\.count) == [2])
        let off = await CacheStage.installation()
        try await off.cacheStore.write(one.cacheStore.rows)
        #expect(CacheStage.prediction(try await CacheStage.run(off))?.cache?.isServedFromCache == false)
    }

    @Test("only rows that were not written count as dropped")
    func dropped() async throws {
        let parts = await CacheStage.installation()
        parts.cacheStore.goAway(afterWrites: 2)
        let rows = (0..<250).map {
            CachedRow(
                key: CacheKey($0, 0, 0, 0), tenantID: Installation.tenant, model: "iris", version: "1", label: nil,
                bytes: [], cachedAt: parts.time.now, expiresAt: parts.time.now)
        }
        #expect(await parts.cache.write(rows, []) == 50)
        #expect(parts.cacheStore.rows.count == 200)
    }

    @Test("what a tenant writes to the levels of all is bounded, by value and by minute")
    func budget() async throws {
        let time = ManualTime(Installation.noon)
        let shared = FakeSharedCache()
        var configuration = PredictionCache.Configuration()
        configuration.bytesPerMinute = 300
        let policy = CachePolicy(isOn: true, levels: .init(redis: true, table: true))
        let parts = await Installation(
            time: time, route: Installation.route(cache: policy), sharedCache: shared,
            cacheConfiguration: configuration)
        for label in ["a", "b", "c"] { _ = try await CacheStage.run(parts, [.label(label)]) }
        await parts.cache.flush()
        let size = shared.values.values.first?.count ?? 0
        #expect(size > 50 && size <= 300)
        #expect(shared.values.count == 300 / size && shared.values.count < 3 && shared.claimCount == 0)
        #expect(parts.cacheStore.rows.count == shared.values.count)
        #expect(
            CacheStage.prediction(try await CacheStage.run(parts, [.label("c")]))?.cache?.isServedFromCache == true,
            "from memory")
        time.advance(milliseconds: 60_000)
        _ = try await CacheStage.run(parts, [.label("d")])
        #expect(shared.values.count == 300 / size + 1)
        configuration.valueBytes = 50
        let small = await Installation(
            time: time, route: Installation.route(cache: policy), sharedCache: FakeSharedCache(),
            cacheConfiguration: configuration)
        _ = try await CacheStage.run(small)
        await small.cache.flush()
        #expect(small.cacheStore.rows.isEmpty)
    }

    @Test("a table that does not answer is left alone for a moment")
    func tableAway() async throws {
        let time = ManualTime(Installation.noon)
        let parts = await CacheStage.installation(
            CachePolicy(isOn: true, levels: .init(redis: false, table: true)), time: time)
        parts.cacheStore.isAway = true
        for label in ["a", "b", "c"] {
            #expect(
                CacheStage.prediction(try await CacheStage.run(parts, [.label(label)]))?.cache
                    == .forwarded(.uriMiss, isStored: true))
        }
        #expect(parts.cacheStore.findCount == 1)
        parts.cacheStore.isAway = false
        time.advance(milliseconds: 1_000)
        _ = try await CacheStage.run(parts, [.label("d")])
        _ = try await CacheStage.run(parts, [.label("e")])
        #expect(parts.cacheStore.findCount == 3)
    }

    @Test("what is kept nowhere is not said to be stored, nor counted")
    func storedNowhere() async throws {
        var configuration = PredictionCache.Configuration()
        // Nothing fits into memory.
        configuration.capacityBytes = 1_000
        let shared = FakeSharedCache()
        let parts = await Installation(
            route: Installation.route(cache: CachePolicy(isOn: true)), sharedCache: shared,
            cacheConfiguration: configuration)
        shared.isAway = true
        #expect(CacheStage.prediction(try await CacheStage.run(parts))?.cache == .forwarded(.uriMiss, isStored: false))
        await parts.cache.flush()
        #expect(parts.cacheStore.statistics.map(\.tally.stores) == [0])
        shared.isAway = false
        #expect(CacheStage.prediction(try await CacheStage.run(parts))?.cache == .forwarded(.uriMiss, isStored: true))
        #expect(
            CacheStage.prediction(try await CacheStage.run(parts))?.cache?.isServedFromCache == true, "Redis has it")
        await parts.cache.flush()
        #expect(parts.cacheStore.statistics.map(\.tally.stores) == [0, 1])
    }

    @Test("before it is known what was cleared, nothing is cached")
    func unknownClearings() async throws {
        let store = FakeCacheStore()
        store.isAway = true
        let cache = PredictionCache(
            configuration: .init(), pepper: Installation.pepper, shared: nil, store: store,
            time: ManualTime(Installation.noon), logger: Installation.logger)
        await cache.refresh()
        #expect(!cache.knowsClearings)
        store.isAway = false
        await cache.refresh()
        #expect(cache.knowsClearings)
    }
}
