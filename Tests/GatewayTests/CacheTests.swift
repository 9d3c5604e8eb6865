import Domain
import HTTPListener
import NIOCore
import NIOPosix
import Synchronization
import TestSupport
import Testing

@testable import Gateway

/// Runs requests with what they say about the cache.
private func run(
    _ parts: Installation, _ fields: [CacheField] = [], body: String = Installation.body, key: APIKey? = nil
) async throws -> InferenceOutcome {
    let eventLoop = MultiThreadedEventLoopGroup.singleton.next()
    let loop = try await eventLoop.submit { LoopContext(eventLoop: eventLoop) }.get()
    let id = try await eventLoop.submit { loop.makeRequestID(at: parts.time.now) }.get()
    let call = InferenceCall(
        requestID: id, receivedAt: parts.time.now, receivedNanoseconds: parts.time.monotonicNanoseconds,
        credentials: .one((key ?? parts.key).text), body: ByteBuffer(string: body), trace: nil, cacheFields: fields)
    let pipeline = parts.pipeline
    return await Task(executorPreference: loop.executor) { await pipeline.run(call, on: loop) }.value
}

private func refusal(_ outcome: InferenceOutcome) -> Refusal? {
    if case .refused(let refusal, _) = outcome { refusal } else { nil }
}

private func prediction(_ outcome: InferenceOutcome) -> Prediction? {
    if case .answered(let prediction) = outcome { prediction } else { nil }
}

private func installation(
    _ policy: CachePolicy = CachePolicy(isOn: true), backend: FakeBackend = FakeBackend(),
    shared: (any SharedPredictionCache)? = nil, store: FakeCacheStore = FakeCacheStore(), percent: Int64 = 100,
    time: ManualTime = ManualTime(Installation.noon)
) async -> Installation {
    await Installation(
        time: time, route: Installation.route(cache: policy), backend: backend, sharedCache: shared,
        cacheStore: store, cacheHitTokenPercent: percent)
}

@Suite("Cached predictions") struct CacheTests {
    @Test("the second request is answered without a worker, metered, and says so")
    func hits() async throws {
        let time = ManualTime(Installation.noon)
        let parts = await installation(percent: 50, time: time)
        let first = try #require(prediction(try await run(parts)))
        #expect(first.cache == .forwarded(.uriMiss, isStored: true))
        time.advance(milliseconds: 29_000)
        let second = try #require(prediction(try await run(parts)))
        #expect(second.cache == .hit(ttlSeconds: 271, ageSeconds: 29))
        #expect(parts.backend.calls.count == 1)
        #expect(second.prediction == first.prediction && second.probabilities == first.probabilities)
        #expect(second.usage == Usage(inputTokens: 3, outputTokens: 1, source: .cache))
        #expect(second.cost == Micros(1_000 + 30 + 20), "a request is a request, of the tokens it is half")
        let rows = parts.settler.settlements
        #expect(rows.count == 2 && rows.map(\.isBilled) == [true, true])
        #expect(rows[0].servedUsage == nil && rows[1].servedUsage == first.usage && rows[1].usage == second.usage)
        #expect(parts.quota.readings(for: Installation.principal()).map(\.remaining).sorted() == [998, 999_986])
        var body = ByteBuffer()
        AnswerBody.write(second, to: &body)
        #expect(String(buffer: body).contains(#""cached":true"#))
    }

    @Test("a model without a cache has none, and says nothing about one")
    func off() async throws {
        let parts = await Installation()
        #expect(prediction(try await run(parts))?.cache == nil)
        #expect(prediction(try await run(parts, [.use("refresh")]))?.cache == nil)
        #expect(refusal(try await run(parts, [.control("only-if-cached")]))?.code == .notCached)
        #expect(parts.backend.calls.count == 2)
    }

    @Test("an entry ends, and a request may ask for an earlier end")
    func expires() async throws {
        let time = ManualTime(Installation.noon)
        let parts = await installation(CachePolicy(isOn: true, ttlSeconds: 60), time: time)
        _ = try await run(parts, [.ttl("2")])
        time.advance(milliseconds: 1_999)
        #expect(prediction(try await run(parts))?.cache == .hit(ttlSeconds: 0, ageSeconds: 1))
        time.advance(milliseconds: 1)
        #expect(prediction(try await run(parts))?.cache == .forwarded(.uriMiss, isStored: true))
        #expect(parts.backend.calls.count == 2)
    }

    @Test("the same numbers are the same question, another answer's shape is not")
    func sameness() async throws {
        let parts = await installation()
        _ = try await run(parts)
        for body in [
            #"{ "features": [5.10, 35e-1, 1.4e0, 0.2000], "model": "iris" }"#,
            #"{"model":"iris","version":"1","features":[5.1,3.5,1.4,0.2]}"#,
        ] { #expect(prediction(try await run(parts, body: body))?.cache?.isServedFromCache == true, "\(body)") }
        for body in [
            #"{"model":"iris","inputs":[[5.1,3.5,1.4,0.2]]}"#, #"{"model":"iris","features":[5.1,3.5,1.4,0.3]}"#,
            #"{"model":"iris","features":[5.1,3.5,1.4,-0.2]}"#,
        ] { #expect(prediction(try await run(parts, body: body))?.cache?.isServedFromCache == false, "\(body)") }
    }

    @Test("by the canonical body, numbers are the same only if they are written so")
    func canonical() async throws {
        let parts = await installation(CachePolicy(isOn: true, sameness: .canonicalJSON))
        _ = try await run(parts)
        let reordered = #"{"features": [5.1, 3.5, 1.4, 0.2], "model": "iris"}"#
        #expect(prediction(try await run(parts, body: reordered))?.cache?.isServedFromCache == true)
        let rewritten = #"{"model":"iris","features":[5.10,3.5,1.4,0.2]}"#
        #expect(prediction(try await run(parts, body: rewritten))?.cache?.isServedFromCache == false)
    }

    @Test("a request says what it wants of the cache")
    func instructions() async throws {
        let time = ManualTime(Installation.noon)
        let parts = await installation(time: time)
        #expect(refusal(try await run(parts, [.use("only")]))?.code == .notCached)
        #expect(parts.settler.settlements.isEmpty)
        #expect(parts.quota.readings(for: Installation.principal()).map(\.remaining).sorted() == [1_000, 1_000_000])
        #expect(prediction(try await run(parts, [.control("no-store")]))?.cache == .forwarded(.bypass, isStored: false))
        _ = try await run(parts)
        #expect(parts.backend.calls.count == 2)
        #expect(prediction(try await run(parts, [.use("only")]))?.cache?.isServedFromCache == true)
        time.advance(milliseconds: 10_000)
        #expect(prediction(try await run(parts, [.control("max-age=10")]))?.cache?.isServedFromCache == true)
        let refreshed = prediction(try await run(parts, [.control("no-cache")]))
        #expect(refreshed?.cache == .forwarded(.request, isStored: true) && parts.backend.calls.count == 3)
        #expect(prediction(try await run(parts))?.cache == .hit(ttlSeconds: 300, ageSeconds: 0), "it was kept anew")
        time.advance(milliseconds: 11_000)
        #expect(prediction(try await run(parts, [.control("max-age=10")]))?.cache?.isServedFromCache == false)
        let wrong = refusal(try await run(parts, [.use("perhaps")]))
        #expect(wrong?.code == .badRequest && wrong?.errors.first?.location == "x-weir-cache")
    }

    @Test("names keep entries apart, and clearing reaches them")
    func labels() async throws {
        let parts = await installation()
        _ = try await run(parts, [.label("user1_a")])
        _ = try await run(parts, [.label("user2_a")])
        _ = try await run(parts)
        #expect(parts.backend.calls.count == 3)
        parts.cacheStore.clear(
            CacheClearing(sequence: 1, tenantID: Installation.tenant, model: nil, pattern: "user1_*"))
        await parts.cache.refresh()
        #expect(prediction(try await run(parts, [.label("user2_a")]))?.cache?.isServedFromCache == true)
        #expect(prediction(try await run(parts, [.label("user1_a")]))?.cache?.isServedFromCache == false)
        #expect(prediction(try await run(parts, [.label("user1_a")]))?.cache?.isServedFromCache == true)
        parts.cacheStore.clear(CacheClearing(sequence: 2, tenantID: nil, model: "iris", pattern: nil))
        await parts.cache.refresh()
        #expect(prediction(try await run(parts))?.cache?.isServedFromCache == false)
    }

    @Test(
        "what is cleared while the worker computes does not come back with its answer", arguments: ["use", "refresh"])
    func clearedMeanwhile(mode: String) async throws {
        let shared = FakeSharedCache()
        let backend = FakeBackend(gate: Gate())
        let parts = await installation(backend: backend, shared: shared)
        let asking = Task { try await run(parts, [.use(mode)]) }
        await backend.gate.arrivals(1)
        parts.cacheStore.clear(
            CacheClearing(sequence: 1, tenantID: Installation.tenant, model: nil, pattern: nil))
        await parts.cache.refresh()
        backend.gate.open()
        let reason: CacheStatus.Reason = mode == "use" ? .uriMiss : .request
        #expect(prediction(try await asking.value)?.cache == .forwarded(reason, isStored: false))
        #expect(shared.values.isEmpty && shared.claimCount == 0)
        #expect(prediction(try await run(parts))?.cache == .forwarded(.uriMiss, isStored: true))
        #expect(backend.calls.count == 2)
        #expect(prediction(try await run(parts))?.cache?.isServedFromCache == true)
    }

    @Test("one who asks in another's place is younger than what was cleared before")
    func clearedBeforeTakeover() async throws {
        let backend = FakeBackend(gate: Gate())
        backend.fail(.badAnswer(cause: "x"))
        let parts = await installation(backend: backend)
        let tasks = try await CacheFlightTests().start(parts, 2)
        parts.cacheStore.clear(CacheClearing(sequence: 1, tenantID: nil, model: "iris", pattern: nil))
        await parts.cache.refresh()
        backend.gate.open()
        for task in tasks { _ = try await task.value }
        #expect(prediction(try await run(parts))?.cache?.isServedFromCache == true && backend.calls.count == 2)
    }

    @Test("a clearing that does not concern an entry is looked at once")
    func checkedOnce() async throws {
        let parts = await installation()
        let tenant = parts.cache.tenant(Installation.tenant)
        let question = CacheQuestion(
            tenant: tenant, account: tenant.account(of: "iris"), key: CacheKey(1, 2, 3, 4), version: "1",
            policy: CachePolicy(isOn: true), instruction: .standard, at: parts.time.now,
            atNanoseconds: parts.time.monotonicNanoseconds)
        let entry = CachedPrediction(
            reading: WorkerReading(
                prediction: ByteBuffer(string: "1"), probabilities: nil, version: "1", inputTokens: 1,
                cachedInputTokens: 0, outputTokens: 1),
            version: "1", usage: .none, label: "user1_a", storedAt: parts.time.now,
            expiresAt: parts.time.now.advanced(byMilliseconds: 60_000), clearing: 0)
        parts.cache.remember(entry, question)
        parts.cacheStore.clear(
            CacheClearing(sequence: 4, tenantID: Installation.tenant, model: nil, pattern: "user2_*"))
        await parts.cache.refresh()
        #expect(parts.cache.find(question) != nil && entry.checkedClearing == 4)
        parts.cacheStore.clear(
            CacheClearing(sequence: 5, tenantID: Installation.tenant, model: nil, pattern: "user1_*"))
        await parts.cache.refresh()
        #expect(parts.cache.find(question) == nil && entry.checkedClearing == 4)
    }

    @Test("two tenants share nothing: no answer, no count")
    func tenants() async throws {
        let parts = await installation(shared: FakeSharedCache())
        let other = TenantID(high: 0, low: 0xF)
        let key = parts.addKey(Installation.principal(tenant: other))
        _ = try await run(parts)
        _ = try await run(parts)
        let stranger = try #require(prediction(try await run(parts, key: key)))
        #expect(stranger.cache == .forwarded(.uriMiss, isStored: true) && parts.backend.calls.count == 2)
        await parts.cache.flush()
        let rows = Dictionary(uniqueKeysWithValues: parts.cacheStore.statistics.map { ($0.tenantID, $0.tally) })
        #expect(rows[Installation.tenant]?.memoryHits == 1 && rows[Installation.tenant]?.misses == 1)
        #expect(rows[other]?.memoryHits == 0 && rows[other]?.misses == 1 && rows[other]?.stores == 1)
    }

    @Test("what is kept under an idempotency key says how the cache took part")
    func kept() async throws {
        let parts = await installation()
        for expected in ["Cache-Status: weir; fwd=uri-miss; stored", "Cache-Status: weir; hit; ttl=300\r\nAge: 0"] {
            var fields = ByteBuffer()
            AnswerHead.writeFacts(try #require(prediction(try await run(parts))), to: &fields)
            #expect(String(buffer: fields).hasSuffix(expected))
        }
    }

    @Test("that an answer is not kept is no failure of the server")
    func noWarning() {
        #expect(!DataPlaneHandler.isFailure(.notCached) && !DataPlaneHandler.isFailure(.badRequest))
        #expect(DataPlaneHandler.isFailure(.upstreamTimeout) && DataPlaneHandler.isFailure(.internalError))
    }

    @Test("an answer of another version than the registered one is nobody else's")
    func versions() async throws {
        let backend = FakeBackend()
        backend.answer(#"{"prediction":"setosa","version":"2","usage":{"input_tokens":7,"output_tokens":3}}"#)
        let time = ManualTime(Installation.noon)
        let parts = await installation(backend: backend, time: time)
        #expect(prediction(try await run(parts))?.cache == .forwarded(.uriMiss, isStored: false))
        #expect(prediction(try await run(parts))?.cache == .forwarded(.uriMiss, isStored: false), "not so soon again")
        time.advance(milliseconds: 5_000)
        #expect(prediction(try await run(parts))?.cache == .forwarded(.uriMiss, isStored: true))
    }

    @Test("where no answer is kept nobody waits for one", arguments: [true, false])
    func unkept(byTime: Bool) async throws {
        let backend = FakeBackend(gate: Gate())
        let parts = await installation(CachePolicy(isOn: true, ttlSeconds: byTime ? 0 : nil), backend: backend)
        var first: Task<InferenceOutcome, any Error>?
        if !byTime {
            let other = #"{"prediction":"setosa","version":"2","usage":{"input_tokens":7,"output_tokens":3}}"#
            for _ in 0..<5 { backend.answer(other) }
            let leading = Task { try await run(parts) }
            await backend.gate.arrivals(1)
            // Answered beside the gate, it says what this version's answers are.
            let account = parts.cache.tenant(Installation.tenant).account(of: "iris")
            account.noteUnkept("1", untilNanoseconds: parts.time.monotonicNanoseconds + 1)
            first = leading
        }
        let tasks = (0..<4).map { _ in Task { try await run(parts) } }
        await backend.gate.arrivals(byTime ? 4 : 5)
        backend.gate.open()
        for task in tasks {
            #expect(prediction(try await task.value)?.cache == .forwarded(.uriMiss, isStored: false))
        }
        _ = try await first?.value
        #expect(backend.calls.count == (byTime ? 4 : 5))
    }
}

@Suite("Questions that are asked at once") struct CacheFlightTests {
    /// Starts requests and returns when one is at the worker and the others wait.
    func start(_ parts: Installation, _ count: Int) async throws -> [Task<InferenceOutcome, any Error>] {
        let first = Task { try await run(parts) }
        await parts.backend.gate.arrivals(1)
        var tasks = [first]
        for _ in 1..<count { tasks.append(Task { try await run(parts) }) }
        while parts.cache.waiterCount < count - 1 { await Task.yield() }
        return tasks
    }

    @Test("one asks the worker, the others get its answer, and all pay")
    func one() async throws {
        let backend = FakeBackend(gate: Gate())
        let parts = await installation(backend: backend, percent: 0)
        let tasks = try await start(parts, 20)
        backend.gate.open()
        var collapsed = 0
        for task in tasks {
            let answer = try #require(prediction(try await task.value))
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
        let parts = await installation(backend: backend)
        let tasks = try await start(parts, 10)
        backend.gate.open()
        let outcomes = try await tasks.asyncMap { try await $0.value }
        #expect(outcomes.compactMap { refusal($0)?.code } == [.badUpstream])
        #expect(outcomes.compactMap { prediction($0) }.count == 9 && backend.calls.count == 2)

        let worse = FakeBackend(gate: Gate())
        worse.fail(.badAnswer(cause: "x"), .badAnswer(cause: "y"))
        let others = await installation(backend: worse)
        let failing = try await start(others, 10)
        worse.gate.open()
        let refused = try await failing.asyncMap { refusal(try await $0.value)?.code }
        #expect(refused.allSatisfy { $0 == .badUpstream } && worse.calls.count == 2)
        #expect(others.settler.settlements.allSatisfy { !$0.isBilled })
        #expect(prediction(try await run(others)) != nil, "a failure is not kept")
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
        let leader = Task { try await run(parts) }
        await gate.arrivals(1)
        let follower = Task { try await run(parts) }
        while (parts.quota.readings(for: Installation.principal()).map(\.remaining).min() ?? 0) > 998 {
            await Task.yield()
        }
        time.advance(milliseconds: 9_000)
        for port in 1...2 { backend.behave(port, nil) }
        gate.open()
        #expect(refusal(try await leader.value)?.code == .badUpstream)
        #expect(prediction(try await follower.value) != nil && backend.calls.count == 2)
        #expect(parts.deliveries.readings.map(\.latencyMicroseconds).reduce(0, +) < 1_000_000)
    }
}

@Suite("Waiting for another's answer") struct CacheWaitTests {
    /// Asks, and returns when it waits for the one that asked before.
    private func join(_ parts: Installation, _ waiting: Int) async -> Task<InferenceOutcome, any Error> {
        let task = Task { try await run(parts) }
        while parts.cache.waiterCount < waiting { await Task.yield() }
        return task
    }

    @Test("who has waited as long as it may is refused, alone; who came later gets the answer")
    func overdue() async throws {
        let time = ManualTime(Installation.noon)
        let backend = FakeBackend(gate: Gate())
        let parts = await installation(backend: backend, time: time)
        let leading = Task { try await run(parts) }
        await backend.gate.arrivals(1)
        time.advance(milliseconds: 10_000)
        let early = await join(parts, 1)
        time.advance(milliseconds: 25_000)
        let late = await join(parts, 2)
        parts.cache.endWaits()
        #expect(parts.cache.waiterCount == 2, "nobody has waited for 30 seconds yet")
        time.advance(milliseconds: 5_000)
        parts.cache.endWaits()
        #expect(refusal(try await early.value)?.code == .upstreamTimeout, "while the leader still runs")
        #expect(parts.cache.waiterCount == 1)
        backend.gate.open()
        #expect(prediction(try await late.value)?.cache?.isServedFromCache == true && backend.calls.count == 1)
        _ = try await leading.value
        #expect(parts.settler.settlements.count { $0.isBilled } == 2)
    }

    @Test("one who is too old to ask in another's place passes it on, and is no second failure")
    func passesOn() async throws {
        let time = ManualTime(Installation.noon)
        let backend = FakeBackend(gate: Gate())
        backend.fail(.badAnswer(cause: "x"))
        let parts = await installation(backend: backend, time: time)
        let leading = Task { try await run(parts) }
        await backend.gate.arrivals(1)
        let old = await join(parts, 1)
        time.advance(milliseconds: 29_000)
        let fresh = [await join(parts, 2), await join(parts, 3)]
        time.advance(milliseconds: 1_000)
        backend.gate.open()
        #expect(refusal(try await leading.value)?.code == .badUpstream)
        #expect(refusal(try await old.value)?.code == .upstreamTimeout)
        for task in fresh { #expect(prediction(try await task.value) != nil) }
        #expect(backend.calls.count == 2)
    }

    @Test("what was cleared meanwhile is not given to those who wait; one of them asks")
    func cleared() async throws {
        let backend = FakeBackend(gate: Gate())
        let parts = await installation(backend: backend)
        let leading = Task { try await run(parts) }
        await backend.gate.arrivals(1)
        let waiting = [await join(parts, 1), await join(parts, 2), await join(parts, 3)]
        parts.cacheStore.clear(CacheClearing(sequence: 1, tenantID: nil, model: "iris", pattern: nil))
        await parts.cache.refresh()
        backend.gate.open()
        #expect(prediction(try await leading.value)?.cache == .forwarded(.uriMiss, isStored: false))
        var collapsed = 0
        for task in waiting { if prediction(try await task.value)?.isCached == true { collapsed += 1 } }
        #expect(collapsed == 2 && backend.calls.count == 2)
    }
}

extension PredictionCache {
    /// Requests that wait for another's answer.
    fileprivate var waiterCount: Int { allTenants.reduce(0) { $0 + $1.flights.withLock { $0.waiterCount } } }
}

@Suite("Levels of the cache") struct CacheLevelTests {
    @Test("what one gateway learnt, another knows by Redis")
    func shares() async throws {
        let shared = FakeSharedCache()
        let (one, two) = (await installation(shared: shared), await installation(shared: shared))
        _ = try await run(one)
        #expect(prediction(try await run(two))?.cache?.isServedFromCache == true && two.backend.calls.isEmpty)
        #expect(prediction(try await run(two))?.cache?.isServedFromCache == true)
        #expect(shared.claimCount == 0)
        await two.cache.flush()
        #expect(two.cacheStore.statistics.first?.tally.redisHits == 1)
        #expect(two.cacheStore.statistics.first?.tally.memoryHits == 1)
    }

    @Test("a byte that was changed makes a miss, and so do another's bytes")
    func integrity() async throws {
        let shared = FakeSharedCache()
        let one = await installation(shared: shared)
        _ = try await run(one)
        let (key, bytes) = try #require(shared.values.first)
        for index in stride(from: 0, to: bytes.count, by: 7) {
            var changed = bytes
            changed[index] ^= 1
            shared.values = [key: changed]
            let two = await installation(shared: shared)
            #expect(prediction(try await run(two))?.cache?.isServedFromCache == false, "byte \(index)")
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
        let parts = await installation(shared: shared)
        let first = try #require(prediction(try await run(parts)))
        #expect(first.cache == .forwarded(.uriMiss, isStored: true) && first.degradations == ["cache"])
        #expect(prediction(try await run(parts))?.cache?.isServedFromCache == true)
    }

    @Test("over two gateways one asks the worker")
    func flight() async throws {
        let shared = FakeSharedCache()
        let backend = FakeBackend(gate: Gate())
        let (one, two) = (await installation(backend: backend, shared: shared), await installation(shared: shared))
        let first = Task { try await run(one) }
        await backend.gate.arrivals(1)
        let second = Task { try await run(two) }
        while shared.busyCount == 0 { await Task.yield() }
        backend.gate.open()
        #expect(prediction(try await first.value)?.cache?.isServedFromCache == false)
        #expect(prediction(try await second.value)?.cache?.isServedFromCache == true)
        #expect(two.backend.calls.isEmpty && shared.claimCount == 0)
    }

    @Test("claims are renewed while the database does not answer, and until the last question has ended")
    func renewal() async throws {
        let (shared, store) = (FakeSharedCache(), FakeCacheStore(writing: Gate()))
        let backend = FakeBackend(gate: Gate())
        let parts = await installation(backend: backend, shared: shared, store: store)
        let asking = Task { try await run(parts) }
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
        let one = await installation(policy)
        _ = try await run(one)
        await one.cache.flush()
        #expect(one.cacheStore.rows.count == 1 && one.cacheStore.rows.first?.model == "iris")
        let two = await installation(policy)
        try await two.cacheStore.write(one.cacheStore.rows)
        #expect(prediction(try await run(two))?.cache?.isServedFromCache == true && two.backend.calls.isEmpty)
        _ = try await run(two)
        await two.cache.flush()
        #expect(two.cacheStore.accesses.map(\.count) == [2])
        let off = await installation()
        try await off.cacheStore.write(one.cacheStore.rows)
        #expect(prediction(try await run(off))?.cache?.isServedFromCache == false)
    }

    @Test("only rows that were not written count as dropped")
    func dropped() async throws {
        let parts = await installation()
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
        for label in ["a", "b", "c"] { _ = try await run(parts, [.label(label)]) }
        await parts.cache.flush()
        let size = shared.values.values.first?.count ?? 0
        #expect(size > 50 && size <= 300)
        #expect(shared.values.count == 300 / size && shared.values.count < 3 && shared.claimCount == 0)
        #expect(parts.cacheStore.rows.count == shared.values.count)
        #expect(prediction(try await run(parts, [.label("c")]))?.cache?.isServedFromCache == true, "from memory")
        time.advance(milliseconds: 60_000)
        _ = try await run(parts, [.label("d")])
        #expect(shared.values.count == 300 / size + 1)
        configuration.valueBytes = 50
        let small = await Installation(
            time: time, route: Installation.route(cache: policy), sharedCache: FakeSharedCache(),
            cacheConfiguration: configuration)
        _ = try await run(small)
        await small.cache.flush()
        #expect(small.cacheStore.rows.isEmpty)
    }

    @Test("a table that does not answer is left alone for a moment")
    func tableAway() async throws {
        let time = ManualTime(Installation.noon)
        let parts = await installation(CachePolicy(isOn: true, levels: .init(redis: false, table: true)), time: time)
        parts.cacheStore.isAway = true
        for label in ["a", "b", "c"] {
            #expect(prediction(try await run(parts, [.label(label)]))?.cache == .forwarded(.uriMiss, isStored: true))
        }
        #expect(parts.cacheStore.findCount == 1)
        parts.cacheStore.isAway = false
        time.advance(milliseconds: 1_000)
        _ = try await run(parts, [.label("d")])
        _ = try await run(parts, [.label("e")])
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
        #expect(prediction(try await run(parts))?.cache == .forwarded(.uriMiss, isStored: false))
        await parts.cache.flush()
        #expect(parts.cacheStore.statistics.map(\.tally.stores) == [0])
        shared.isAway = false
        #expect(prediction(try await run(parts))?.cache == .forwarded(.uriMiss, isStored: true))
        #expect(prediction(try await run(parts))?.cache?.isServedFromCache == true, "Redis has it")
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

@Suite("Forms of numbers") struct DecimalFormTests {
    @Test(
        "equal numbers have one form",
        arguments: [
            (["1", "1.0", "1e0", "10e-1", "0.1E+1", "1.000"], "1"), (["100", "1e2", "1.0E2", "0.01e4"], "1e2"),
            (["0.5", "5e-1", "0.50", "50e-2"], "5e-1"), (["-12.30", "-1.23e1"], "-123e-1"), (["0", "0.0", "0e9"], "0"),
            (["-0", "-0.0"], "-0"), (["9007199254740993"], "9007199254740993"), (["105", "1.05e2"], "105"),
        ])
    func forms(texts: [String], expected: String) {
        for text in texts {
            var buffer = ByteBuffer()
            ByteBuffer(string: text).withUnsafeReadableBytes { buffer.writeDecimalForm($0[...]) }
            #expect(String(buffer: buffer) == expected, "\(text)")
        }
    }
}

extension Array where Element: Sendable {
    fileprivate func asyncMap<Result>(_ transform: (Element) async throws -> Result) async rethrows -> [Result] {
        var results: [Result] = []
        for element in self { results.append(try await transform(element)) }
        return results
    }
}
