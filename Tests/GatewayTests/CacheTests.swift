import Domain
import HTTPListener
import NIOCore
import NIOPosix
import Synchronization
import TestSupport
import Testing

@testable import Gateway

@Suite("Cached predictions") struct CacheTests {
    @Test("the second request is answered without a worker, metered, and says so")
    func hits() async throws {
        let time = ManualTime(Installation.noon)
        let parts = await CacheStage.installation(percent: 50, time: time)
        let first = try #require(CacheStage.prediction(try await CacheStage.run(parts)))
        #expect(first.cache == .forwarded(.uriMiss, isStored: true))
        time.advance(milliseconds: 29_000)
        let second = try #require(CacheStage.prediction(try await CacheStage.run(parts)))
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
        #expect(CacheStage.prediction(try await CacheStage.run(parts))?.cache == nil)
        #expect(CacheStage.prediction(try await CacheStage.run(parts, [.use("refresh")]))?.cache == nil)
        #expect(CacheStage.refusal(try await CacheStage.run(parts, [.control("only-if-cached")]))?.code == .notCached)
        #expect(parts.backend.calls.count == 2)
    }

    @Test("an entry ends, and a request may ask for an earlier end")
    func expires() async throws {
        let time = ManualTime(Installation.noon)
        let parts = await CacheStage.installation(CachePolicy(isOn: true, ttlSeconds: 60), time: time)
        _ = try await CacheStage.run(parts, [.ttl("2")])
        time.advance(milliseconds: 1_999)
        #expect(CacheStage.prediction(try await CacheStage.run(parts))?.cache == .hit(ttlSeconds: 0, ageSeconds: 1))
        time.advance(milliseconds: 1)
        #expect(CacheStage.prediction(try await CacheStage.run(parts))?.cache == .forwarded(.uriMiss, isStored: true))
        #expect(parts.backend.calls.count == 2)
    }

    @Test("the same numbers are the same question, another answer's shape is not")
    func sameness() async throws {
        let parts = await CacheStage.installation()
        _ = try await CacheStage.run(parts)
        for body in [
            #"{ "features": [5.10, 35e-1, 1.4e0, 0.2000], "model": "iris" }"#,
            #"{"model":"iris","version":"1","features":[5.1,3.5,1.4,0.2]}"#,
        ] {
            #expect(
                CacheStage.prediction(try await CacheStage.run(parts, body: body))?.cache?.isServedFromCache == true,
                "\(body)")
        }
        for body in [
            #"{"model":"iris","inputs":[[5.1,3.5,1.4,0.2]]}"#, #"{"model":"iris","features":[5.1,3.5,1.4,0.3]}"#,
            #"{"model":"iris","features":[5.1,3.5,1.4,-0.2]}"#,
        ] {
            #expect(
                CacheStage.prediction(try await CacheStage.run(parts, body: body))?.cache?.isServedFromCache == false,
                "\(body)")
        }
    }

    @Test("by the canonical body, numbers are the same only if they are written so")
    func canonical() async throws {
        let parts = await CacheStage.installation(CachePolicy(isOn: true, sameness: .canonicalJSON))
        _ = try await CacheStage.run(parts)
        let reordered = #"{"features": [5.1, 3.5, 1.4, 0.2], "model": "iris"}"#
        #expect(
            CacheStage.prediction(try await CacheStage.run(parts, body: reordered))?.cache?.isServedFromCache == true)
        let rewritten = #"{"model":"iris","features":[5.10,3.5,1.4,0.2]}"#
        #expect(
            CacheStage.prediction(try await CacheStage.run(parts, body: rewritten))?.cache?.isServedFromCache == false)
    }

    @Test("a request says what it wants of the cache")
    func instructions() async throws {
        let time = ManualTime(Installation.noon)
        let parts = await CacheStage.installation(time: time)
        #expect(CacheStage.refusal(try await CacheStage.run(parts, [.use("only")]))?.code == .notCached)
        #expect(parts.settler.settlements.isEmpty)
        #expect(parts.quota.readings(for: Installation.principal()).map(\.remaining).sorted() == [1_000, 1_000_000])
        #expect(
            CacheStage.prediction(try await CacheStage.run(parts, [.control("no-store")]))?.cache
                == .forwarded(.bypass, isStored: false))
        _ = try await CacheStage.run(parts)
        #expect(parts.backend.calls.count == 2)
        #expect(
            CacheStage.prediction(try await CacheStage.run(parts, [.use("only")]))?.cache?.isServedFromCache == true)
        time.advance(milliseconds: 10_000)
        #expect(
            CacheStage.prediction(try await CacheStage.run(parts, [.control("max-age=10")]))?.cache?.isServedFromCache
                == true)
        let refreshed = CacheStage.prediction(try await CacheStage.run(parts, [.control("no-cache")]))
        #expect(refreshed?.cache == .forwarded(.request, isStored: true) && parts.backend.calls.count == 3)
        #expect(
            CacheStage.prediction(try await CacheStage.run(parts))?.cache == .hit(ttlSeconds: 300, ageSeconds: 0),
            "it was kept anew")
        time.advance(milliseconds: 11_000)
        #expect(
            CacheStage.prediction(try await CacheStage.run(parts, [.control("max-age=10")]))?.cache?.isServedFromCache
                == false)
        let wrong = CacheStage.refusal(try await CacheStage.run(parts, [.use("perhaps")]))
        #expect(wrong?.code == .badRequest && wrong?.errors.first?.location == "x-weir-cache")
    }

    @Test("names keep entries apart, and clearing reaches them")
    func labels() async throws {
        let parts = await CacheStage.installation()
        _ = try await CacheStage.run(parts, [.label("user1_a")])
        _ = try await CacheStage.run(parts, [.label("user2_a")])
        _ = try await CacheStage.run(parts)
        #expect(parts.backend.calls.count == 3)
        parts.cacheStore.clear(
            CacheClearing(sequence: 1, tenantID: Installation.tenant, model: nil, pattern: "user1_*"))
        await parts.cache.refresh()
        #expect(
            CacheStage.prediction(try await CacheStage.run(parts, [.label("user2_a")]))?.cache?.isServedFromCache
                == true)
        #expect(
            CacheStage.prediction(try await CacheStage.run(parts, [.label("user1_a")]))?.cache?.isServedFromCache
                == false)
        #expect(
            CacheStage.prediction(try await CacheStage.run(parts, [.label("user1_a")]))?.cache?.isServedFromCache
                == true)
        parts.cacheStore.clear(CacheClearing(sequence: 2, tenantID: nil, model: "iris", pattern: nil))
        await parts.cache.refresh()
        #expect(CacheStage.prediction(try await CacheStage.run(parts))?.cache?.isServedFromCache == false)
    }

    @Test(
        "what is cleared while the worker computes does not come back with its answer", arguments: ["use", "refresh"])
    func clearedMeanwhile(mode: String) async throws {
        let shared = FakeSharedCache()
        let backend = FakeBackend(gate: Gate())
        let parts = await CacheStage.installation(backend: backend, shared: shared)
        let asking = Task { try await CacheStage.run(parts, [.use(mode)]) }
        await backend.gate.arrivals(1)
        parts.cacheStore.clear(
            CacheClearing(sequence: 1, tenantID: Installation.tenant, model: nil, pattern: nil))
        await parts.cache.refresh()
        backend.gate.open()
        let reason: CacheStatus.Reason = mode == "use" ? .uriMiss : .request
        #expect(CacheStage.prediction(try await asking.value)?.cache == .forwarded(reason, isStored: false))
        #expect(shared.values.isEmpty && shared.claimCount == 0)
        #expect(CacheStage.prediction(try await CacheStage.run(parts))?.cache == .forwarded(.uriMiss, isStored: true))
        #expect(backend.calls.count == 2)
        #expect(CacheStage.prediction(try await CacheStage.run(parts))?.cache?.isServedFromCache == true)
    }

    @Test("one who asks in another's place is younger than what was cleared before")
    func clearedBeforeTakeover() async throws {
        let backend = FakeBackend(gate: Gate())
        backend.fail(.badAnswer(cause: "x"))
        let parts = await CacheStage.installation(backend: backend)
        let tasks = try await CacheFlightTests().start(parts, 2)
        parts.cacheStore.clear(CacheClearing(sequence: 1, tenantID: nil, model: "iris", pattern: nil))
        await parts.cache.refresh()
        backend.gate.open()
        for task in tasks { _ = try await task.value }
        #expect(
            CacheStage.prediction(try await CacheStage.run(parts))?.cache?.isServedFromCache == true
                && backend.calls.count == 2)
    }

    @Test("a clearing that does not concern an entry is looked at once")
    func checkedOnce() async throws {
        let parts = await CacheStage.installation()
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
        let parts = await CacheStage.installation(shared: FakeSharedCache())
        let other = TenantID(high: 0, low: 0xF)
        let key = parts.addKey(Installation.principal(tenant: other))
        _ = try await CacheStage.run(parts)
        _ = try await CacheStage.run(parts)
        let stranger = try #require(CacheStage.prediction(try await CacheStage.run(parts, key: key)))
        #expect(stranger.cache == .forwarded(.uriMiss, isStored: true) && parts.backend.calls.count == 2)
        await parts.cache.flush()
        let rows = Dictionary(uniqueKeysWithValues: parts.cacheStore.statistics.map { ($0.tenantID, $0.tally) })
        #expect(rows[Installation.tenant]?.memoryHits == 1 && rows[Installation.tenant]?.misses == 1)
        #expect(rows[other]?.memoryHits == 0 && rows[other]?.misses == 1 && rows[other]?.stores == 1)
    }

    @Test("what is kept under an idempotency key says how the cache took part")
    func kept() async throws {
        let parts = await CacheStage.installation()
        for expected in ["Cache-Status: weir; fwd=uri-miss; stored", "Cache-Status: weir; hit; ttl=300\r\nAge: 0"] {
            var fields = ByteBuffer()
            AnswerHead.writeFacts(try #require(CacheStage.prediction(try await CacheStage.run(parts))), to: &fields)
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
        let parts = await CacheStage.installation(backend: backend, time: time)
        #expect(CacheStage.prediction(try await CacheStage.run(parts))?.cache == .forwarded(.uriMiss, isStored: false))
        #expect(
            CacheStage.prediction(try await CacheStage.run(parts))?.cache == .forwarded(.uriMiss, isStored: false),
            "not so soon again")
        time.advance(milliseconds: 5_000)
        #expect(CacheStage.prediction(try await CacheStage.run(parts))?.cache == .forwarded(.uriMiss, isStored: true))
    }

    @Test("where no answer is kept nobody waits for one", arguments: [true, false])
    func unkept(byTime: Bool) async throws {
        let backend = FakeBackend(gate: Gate())
        let parts = await CacheStage.installation(
            CachePolicy(isOn: true, ttlSeconds: byTime ? 0 : nil), backend: backend)
        var first: Task<InferenceOutcome, any Error>?
        if !byTime {
            let other = #"{"prediction":"setosa","version":"2","usage":{"input_tokens":7,"output_tokens":3}}"#
            for _ in 0..<5 { backend.answer(other) }
            let leading = Task { try await CacheStage.run(parts) }
            await backend.gate.arrivals(1)
            // Answered beside the gate, it says what this version's answers are.
            let account = parts.cache.tenant(Installation.tenant).account(of: "iris")
            account.noteUnkept("1", untilNanoseconds: parts.time.monotonicNanoseconds + 1)
            first = leading
        }
        let tasks = (0..<4).map { _ in Task { try await CacheStage.run(parts) } }
        await backend.gate.arrivals(byTime ? 4 : 5)
        backend.gate.open()
        for task in tasks {
            #expect(CacheStage.prediction(try await task.value)?.cache == .forwarded(.uriMiss, isStored: false))
        }
        _ = try await first?.value
        #expect(backend.calls.count == (byTime ? 4 : 5))
    }
}
