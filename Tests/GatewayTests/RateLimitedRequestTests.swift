import Domain
import HTTPListener
import NIOCore
import NIOPosix
import TestSupport
import Testing

@testable import Gateway

@Suite("Rate-limited requests") struct RateLimitedRequestTests {
    private func run(_ parts: Installation, credentials: Credentials? = nil) async throws -> InferenceOutcome {
        let eventLoop = MultiThreadedEventLoopGroup.singleton.next()
        let loop = try await eventLoop.submit { LoopContext(eventLoop: eventLoop) }.get()
        let id = try await eventLoop.submit { loop.makeRequestID(at: parts.time.now) }.get()
        let call = InferenceCall(
            requestID: id, receivedAt: parts.time.now, receivedNanoseconds: parts.time.monotonicNanoseconds,
            credentials: credentials ?? .one(parts.key.text), body: ByteBuffer(string: Installation.body), trace: nil)
        let pipeline = parts.pipeline
        return await Task(executorPreference: loop.executor) { await pipeline.run(call, on: loop) }.value
    }

    private func refusal(_ outcome: InferenceOutcome) -> Refusal? {
        if case .refused(let refusal, _) = outcome { refusal } else { nil }
    }

    private func prediction(_ outcome: InferenceOutcome) -> Prediction? {
        if case .answered(let prediction) = outcome { prediction } else { nil }
    }

    private static let twoRequests = RateLimits(
        tenant: ScopeLimits(requests: RateLimit(amount: 60, burst: 2), concurrency: RateLimit(amount: 1)))

    @Test("the limit is checked before quota is held, and a refused request reaches nobody")
    func refused() async throws {
        let parts = await Installation(principal: Installation.principal(rateLimits: Self.twoRequests))
        for left in [1, 0] as [Int64] {
            let prediction = try #require(self.prediction(try await run(parts)))
            #expect(prediction.limits.map(\.policy) == ["rpm", "concurrency", "requests-month", "tokens-month"])
            #expect(prediction.limits.first?.remaining == left && prediction.degradations.isEmpty)
        }
        let leases = parts.ledger.requests.count
        let refusal = try #require(self.refusal(try await run(parts)))
        #expect(refusal.code == .rateLimited && refusal.rate?.policy == "rpm" && refusal.retryAfterSeconds == 1)
        #expect(parts.backend.calls.count == 2 && parts.settler.settlements.count == 2)
        #expect(parts.ledger.requests.count == leases)
        #expect(parts.quota.readings(for: Installation.principal()).map(\.remaining).max() == 999_980)
    }

    @Test("a thousand requests on a warm lease ask nobody but the worker and the settler", arguments: [false, true])
    func warmLease(isRateLimited: Bool) async throws {
        let limit = RateLimit(amount: RateLimit.amountLimit)
        let scope = ScopeLimits(requests: limit, tokens: limit, concurrency: limit)
        let time = ManualTime(Installation.noon)
        let shared = SharedLimits(time: time)
        let parts = await Installation(
            time: time,
            principal: Installation.principal(
                quotas: [Installation.quota(.requests, 1 << 40)],
                rateLimits: isRateLimited ? RateLimits(tenant: scope, key: scope) : nil),
            rates: isRateLimited ? shared.gateway(1) : nil)
        // What is asked for doubles each time; after so many the next question is thousands of requests away.
        for _ in 0..<4_300 { _ = try await run(parts) }
        // Time stands still, so nothing runs out meanwhile.
        let before = (
            leases: parts.ledger.requests.count, keys: parts.directory.finds.count, exchanges: shared.exchanges,
            claims: parts.idempotency.calls, settled: parts.settler.settlements.count,
            renewed: parts.ledger.renewed.count
        )
        #expect(before.keys == 1 && before.claims == 0)
        for _ in 0..<1_000 { #expect(prediction(try await run(parts)) != nil) }
        #expect(parts.ledger.requests.count == before.leases, "quota was asked for")
        #expect(parts.ledger.renewed.count == before.renewed && parts.ledger.closed.isEmpty)
        #expect(parts.directory.finds.count == before.keys, "a key was looked up")
        #expect(shared.exchanges == before.exchanges, "a rate limit was asked for")
        #expect(parts.idempotency.calls == before.claims)
        #expect(parts.settler.settlements.count == before.settled + 1_000)
    }

    @Test("where quota refuses, what was taken of the limits is given back")
    func quotaRefuses() async throws {
        let quota = Installation.quota(.tokens, 10)
        let principal = Installation.principal(quotas: [quota], rateLimits: Self.twoRequests)
        let parts = await Installation(principal: principal)
        for _ in 0..<10 { #expect(refusal(try await run(parts))?.code == .quotaExceeded) }
        #expect(parts.rates.readings(for: principal).map(\.remaining) == [2, 1])
        let other = parts.addKey(Installation.principal(quotas: [], rateLimits: Self.twoRequests))
        #expect(prediction(try await run(parts, credentials: .one(other.text))) != nil)
    }

    @Test("a request that fails frees its slot and its tokens, and counts as one")
    func failed() async throws {
        let limits = RateLimits(
            tenant: ScopeLimits(
                requests: RateLimit(amount: 60, burst: 2), tokens: RateLimit(amount: 60, burst: 150),
                concurrency: RateLimit(amount: 1)))
        let principal = Installation.principal(rateLimits: limits)
        let parts = await Installation(principal: principal)
        parts.backend.fail(.timeout(cause: "late"))
        #expect(refusal(try await run(parts))?.code == .upstreamTimeout)
        #expect(parts.rates.readings(for: principal).map(\.remaining) == [1, 60, 1])
    }

    @Test(
        "a settlement that fails frees the slot as well",
        arguments: [
            SettlementResult.rejected, .unavailable, .overloaded, .unknown,
        ])
    func unsettled(result: SettlementResult) async throws {
        let parts = await Installation(principal: Installation.principal(rateLimits: Self.twoRequests))
        parts.settler.answer(result)
        #expect(refusal(try await run(parts)) != nil)
        #expect(prediction(try await run(parts)) != nil)
    }

    @Test("one slot, one request at a time")
    func oneSlot() async throws {
        let gate = Gate()
        let parts = await Installation(
            principal: Installation.principal(
                rateLimits: RateLimits(key: ScopeLimits(concurrency: RateLimit(amount: 1)))),
            backend: FakeBackend(gate: gate))
        async let first = run(parts)
        await gate.arrivals(1)
        let refusal = try #require(self.refusal(try await run(parts)))
        #expect(refusal.rate?.policy == "key-concurrency" && refusal.rate?.scope == .key)
        gate.open()
        #expect(prediction(try await first) != nil)
        #expect(prediction(try await run(parts)) != nil)
    }

    @Test("an answer says that the limits were enforced by this gateway alone")
    func degraded() async throws {
        let limits = SharedLimits(time: ManualTime(Installation.noon))
        limits.setAway(true)
        let parts = await Installation(
            principal: Installation.principal(rateLimits: Self.twoRequests), redis: .unavailable,
            rates: limits.gateway(1))
        #expect(prediction(try await run(parts))?.degradations == ["redis", "rate_limits"])
        let unlimited = parts.addKey(Installation.principal())
        let other = try await run(parts, credentials: .one(unlimited.text))
        #expect(prediction(other)?.degradations == ["redis"], "to whom nothing is limited nothing is lost")
    }

    private func fields(_ refusal: Refusal) -> [String: String] {
        Dictionary(refusal.fields.map { ($0.lowercased(), $1) }) { _, last in last }
    }

    @Test("a refusal carries both families of headers with the numbers that decided")
    func headers() {
        let requests = fields(
            .rateLimited(
                RateRefusal(
                    scope: .tenant, unit: .requests, limit: RateLimit(amount: 600, burst: 50), remaining: 0,
                    requested: 1, waitMilliseconds: 1_250, resetSeconds: 62)))
        #expect(requests["retry-after"] == "2" && requests["retry-after-ms"] == "1250")
        #expect(requests["x-should-retry"] == nil)
        #expect(requests["x-ratelimit-limit-requests"] == "600" && requests["x-ratelimit-remaining-requests"] == "0")
        #expect(requests["x-ratelimit-reset-requests"] == "1m2s")
        #expect(requests["ratelimit-policy"] == #""rpm";q=600;w=60"# && requests["ratelimit"] == #""rpm";r=0;t=62"#)
        let slots = fields(
            .rateLimited(
                RateRefusal(
                    scope: .key, unit: .concurrency, limit: RateLimit(amount: 4), remaining: 0, requested: 1,
                    waitMilliseconds: 1_000, resetSeconds: 1)))
        #expect(slots["ratelimit-policy"] == #""key-concurrency";q=4;qu="concurrent-requests""#)
        #expect(slots["ratelimit"] == #""key-concurrency";r=0"# && slots["retry-after"] == "1")
        let never = fields(
            .rateLimited(
                RateRefusal(
                    scope: .tenant, unit: .tokens, limit: RateLimit(amount: 600, burst: 50), remaining: 50,
                    requested: 51, waitMilliseconds: nil, resetSeconds: 0)))
        #expect(never["x-should-retry"] == "false" && never["retry-after"] == nil && never["retry-after-ms"] == nil)
        #expect(never["ratelimit-policy"] == #""tpm";q=600;w=60;qu="tokens""#)
    }

    @Test("the body names the limit and its numbers")
    func body() {
        let refusal = Refusal.rateLimited(
            RateRefusal(
                scope: .tenant, unit: .tokens, limit: RateLimit(amount: 600, burst: 50), remaining: 7, requested: 9,
                waitMilliseconds: 200, resetSeconds: 5))
        let text = String(
            buffer: ProblemAnswer.body(refusal, requestID: RequestID(high: 0, low: 1), instance: .request))
        #expect(
            text.contains(
                #""violated-policies":["tpm"],"rate_limit":{"policy":"tpm","scope":"tenant","unit":"tokens","limit":600,"burst":50,"remaining":7,"requested":9,"retry_after_ms":200}"#
            ))
        #expect(text.contains(#""code":"rate_limited""#) && text.contains(#""status":429"#))
    }
}
