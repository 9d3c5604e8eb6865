import Domain
import HTTPListener
import NIOCore
import NIOPosix
import Synchronization
import TestSupport
import Testing

@testable import Gateway

@Suite("Questions that are asked at once") struct CacheFlightTests {
    /// Starts requests and returns when one is at the worker and the others wait.
    func start(_ parts: Installation, _ count: Int) async throws -> [Task<InferenceOutcome, any Error>] {
        let first = Task { try await CacheStage.run(parts) }
        await parts.backend.gate.arrivals(1)
        var tasks = [first]
        for _ in 1..<count { tasks.append(Task { try await CacheStage.run(parts) }) }
        while parts.cache.waiterCount < count - 1 { await Task.yield() }
        return tasks
    }

    @Test("one asks the worker, the others get its answer, and all pay")
    func one() async throws {
        let backend = FakeBackend(gate: Gate())
        let parts = await CacheStage.installation(backend: backend, percent: 0)
        let tasks = try await start(parts, 20)
        backend.gate.open()
        var collapsed = 0
        for task in tasks {
            let answer = try #require(CacheStage.prediction(try await task.value))
            #expect(String(buffer: answer.prediction) == #""setosa""#)
            if answer.cache?.isServedFromCache == true { collapsed += 1 }
        }
        #expect(backend.calls.count == 1 && collapsed == 19)
        #expect(parts.settler.settlements.filter(\.isBilled).count == 20)
        #expect(parts.settler.settlements.filter { $0.servedUsage != nil }.count == 19)
    }

    @Test("if the leader fails, one of the others tries; a second failure is everybody's")
    func leaderFails() async throws {
        let backend = FakeBackend(gate: Gate())
        backend.fail(.badAnswer(cause: "x"))
        let parts = await CacheStage.installation(backend: backend)
        let tasks = try await start(parts, 10)
        backend.gate.open()
        let outcomes = try await tasks.asyncMap { try await $0.value }
        #expect(outcomes.compactMap { CacheStage.refusal($0)?.code } == [.badUpstream])
        #expect(outcomes.compactMap { CacheStage.prediction($0) }.count == 9 && backend.calls.count == 2)

        let worse = FakeBackend(gate: Gate())
        worse.fail(.badAnswer(cause: "x"), .badAnswer(cause: "y"))
        let others = await CacheStage.installation(backend: worse)
        let failing = try await start(others, 10)
        worse.gate.open()
        let refused = try await failing.asyncMap { CacheStage.refusal(try await $0.value)?.code }
        #expect(refused.allSatisfy { $0 == .badUpstream } && worse.calls.count == 2)
        #expect(others.settler.settlements.allSatisfy { !$0.isBilled })
        #expect(CacheStage.prediction(try await CacheStage.run(others)) != nil, "a failure is not kept")
    }
}

@Suite("Time in the cache") struct CacheTimeTests {
    @Test("what a request waited for another's answer is no time of its worker's")
    func waited() async throws {
        let time = ManualTime(Installation.noon)
        let backend = FakeBackend()
        let gate = Gate()
        for port in 1...2 { backend.behave(port, .stalls(gate, .badAnswer(cause: "x"))) }
        let route = Installation.route(
            replicas: [Installation.replica(1), Installation.replica(2)],
            delivery: DeliverySettings(numbers: [.totalMilliseconds: 10_000, .attempts: 1]),
            cache: CachePolicy(isOn: true))
        let parts = await Installation(time: time, route: route, backend: backend)
        let leader = Task { try await CacheStage.run(parts) }
        await gate.arrivals(1)
        let follower = Task { try await CacheStage.run(parts) }
        while (parts.quota.readings(for: Installation.principal()).map(\.remaining).min() ?? 0) > 998 {
            await Task.yield()
        }
        time.advance(milliseconds: 9_000)
        for port in 1...2 { backend.behave(port, nil) }
        gate.open()
        #expect(CacheStage.refusal(try await leader.value)?.code == .badUpstream)
        #expect(CacheStage.prediction(try await follower.value) != nil && backend.calls.count == 2)
        #expect(parts.deliveries.readings.map(\.latencyMicroseconds).reduce(0, +) < 1_000_000)
    }
}

@Suite("Waiting for another's answer") struct CacheWaitTests {
    /// Asks, and returns when it waits for the one that asked before.
    private func join(_ parts: Installation, _ waiting: Int) async -> Task<InferenceOutcome, any Error> {
        let task = Task { try await CacheStage.run(parts) }
        while parts.cache.waiterCount < waiting { await Task.yield() }
        return task
    }

    @Test("who has waited as long as it may is refused, alone; who came later gets the answer")
    func overdue() async throws {
        let time = ManualTime(Installation.noon)
        let backend = FakeBackend(gate: Gate())
        let parts = await CacheStage.installation(backend: backend, time: time)
        let leading = Task { try await CacheStage.run(parts) }
        await backend.gate.arrivals(1)
        time.advance(milliseconds: 10_000)
        let early = await join(parts, 1)
        time.advance(milliseconds: 25_000)
        let late = await join(parts, 2)
        parts.cache.endWaits()
        #expect(parts.cache.waiterCount == 2, "nobody has waited for 30 seconds yet")
        time.advance(milliseconds: 5_000)
        parts.cache.endWaits()
        #expect(CacheStage.refusal(try await early.value)?.code == .upstreamTimeout, "while the leader still runs")
        #expect(parts.cache.waiterCount == 1)
        backend.gate.open()
        #expect(
            CacheStage.prediction(try await late.value)?.cache?.isServedFromCache == true && backend.calls.count == 1)
        _ = try await leading.value
        #expect(parts.settler.settlements.count { $0.isBilled } == 2)
    }

    @Test("one who is too old to ask in another's place passes it on, and is no second failure")
    func passesOn() async throws {
        let time = ManualTime(Installation.noon)
        let backend = FakeBackend(gate: Gate())
        backend.fail(.badAnswer(cause: "x"))
        let parts = await CacheStage.installation(backend: backend, time: time)
        let leading = Task { try await CacheStage.run(parts) }
        await backend.gate.arrivals(1)
        let old = await join(parts, 1)
        time.advance(milliseconds: 29_000)
        let fresh = [await join(parts, 2), await join(parts, 3)]
        time.advance(milliseconds: 1_000)
        backend.gate.open()
        #expect(CacheStage.refusal(try await leading.value)?.code == .badUpstream)
        #expect(CacheStage.refusal(try await old.value)?.code == .upstreamTimeout)
        for task in fresh { #expect(CacheStage.prediction(try await task.value) != nil) }
        #expect(backend.calls.count == 2)
    }

    @Test("what was cleared meanwhile is not given to those who wait; one of them asks")
    func cleared() async throws {
        let backend = FakeBackend(gate: Gate())
        let parts = await CacheStage.installation(backend: backend)
        let leading = Task { try await CacheStage.run(parts) }
        await backend.gate.arrivals(1)
        let waiting = [await join(parts, 1), await join(parts, 2), await join(parts, 3)]
        parts.cacheStore.clear(CacheClearing(sequence: 1, tenantID: nil, model: "iris", pattern: nil))
        await parts.cache.refresh()
        backend.gate.open()
        #expect(CacheStage.prediction(try await leading.value)?.cache == .forwarded(.uriMiss, isStored: false))
        var collapsed = 0
        for task in waiting { if CacheStage.prediction(try await task.value)?.isCached == true { collapsed += 1 } }
        #expect(collapsed == 2 && backend.calls.count == 2)
    }
}

extension PredictionCache {
    /// Requests that wait for another's answer.
    fileprivate var waiterCount: Int { allTenants.reduce(0) { $0 + $1.flights.withLock { $0.waiterCount } } }
}
