import Domain
import NIOCore
import NIOPosix
import TestSupport
import Testing

@testable import Gateway

@Suite("Pipeline") struct InferencePipelineTests {
    /// One request through the whole pipeline, on an event loop of its own thread.
    private func run(_ parts: Installation, _ body: String = Installation.body, credentials: Credentials? = nil)
        async throws -> InferenceOutcome
    {
        let eventLoop = MultiThreadedEventLoopGroup.singleton.next()
        let loop = try await eventLoop.submit { LoopContext(eventLoop: eventLoop) }.get()
        let id = try await eventLoop.submit { loop.makeRequestID(at: parts.time.now) }.get()
        let call = InferenceCall(
            requestID: id, receivedAt: parts.time.now, receivedNanoseconds: parts.time.monotonicNanoseconds,
            credentials: credentials ?? .one(parts.key.text), body: ByteBuffer(string: body),
            trace: TraceContext(parent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", state: "a=b"))
        let pipeline = parts.pipeline
        return await Task(executorPreference: loop.executor) { await pipeline.run(call, on: loop) }.value
    }

    private func refusal(_ outcome: InferenceOutcome) -> Refusal? {
        if case .refused(let refusal, _) = outcome { refusal } else { nil }
    }

    private func prediction(_ outcome: InferenceOutcome) -> Prediction? {
        if case .answered(let prediction) = outcome { prediction } else { nil }
    }

    /// What the one open lease of the tenant has left, by unit.
    private func remaining(_ parts: Installation) -> [QuotaUnit: Int64] {
        var left: [QuotaUnit: Int64] = [:]
        for reading in parts.quota.readings(for: Installation.principal()) {
            left[reading.unit == .tokens ? .tokens : .requests] = reading.remaining
        }
        return left
    }

    private static let untouched: [QuotaUnit: Int64] = [.requests: 1_000, .tokens: 1_000_000]

    @Test("a request is settled once, charged what the worker says, and answered")
    func completed() async throws {
        let parts = await Installation()
        let prediction = try #require(self.prediction(try await run(parts)))
        #expect(String(buffer: prediction.prediction) == #""setosa""#)
        #expect(prediction.usage == Usage(inputTokens: 7, outputTokens: 3, source: .worker))
        #expect(prediction.cost == Micros(1_000 + 70 + 60))
        #expect(prediction.currency == "EUR" && prediction.priceVersion == Installation.tier.priceVersionText)
        #expect(prediction.version == "1" && prediction.degradations.isEmpty)
        #expect(remaining(parts) == [.requests: 999, .tokens: 999_990])
        #expect(prediction.limits.map(\.remaining).sorted() == [999, 999_990])
        #expect(parts.settler.settlements.count == 1)
        let row = try #require(parts.settler.settlements.first)
        #expect(row.outcome == .completed && row.isBilled && row.httpStatus == 200 && row.errorCode == nil)
        #expect(
            row.requestID == prediction.requestID && row.tenantID == Installation.tenant
                && row.keyID == Installation.keyID)
        #expect(
            row.usage == prediction.usage && row.tierVersionID == Installation.tier && row.model == "iris"
                && row.modelVersion == "1")
        #expect(row.estimatedTokens == Int64(Installation.body.utf8.count) + 50)
        #expect(row.leaseID.map { parts.ledger.openLeases.contains($0) } == true)
        #expect(row.prompt == nil && row.promptDigest == nil && row.result == nil)
        #expect(row.completedAt >= row.createdAt)
        let call = try #require(parts.backend.calls.first)
        #expect(call.path == "/predict" && String(buffer: call.body) == Installation.body)
        #expect(call.requestID == prediction.requestID.publicText)
        #expect(call.traceParent?.hasPrefix("00-0af7") == true && call.traceState == "a=b")
        #expect(parts.backend.wasOnLoop)
    }

    @Test(
        "tokens are counted as the model's profile says, and the source is kept",
        arguments: [
            (TokenCounting.counted, Usage(inputTokens: 4, outputTokens: 1, source: .counted)),
            (.fixed, Usage(inputTokens: 10, outputTokens: 0, source: .fixed)),
            (.payload, Usage(inputTokens: 12, outputTokens: 2, source: .estimated)),
        ])
    func counting(counting: TokenCounting, expected: Usage) async throws {
        let parts = await Installation(route: Installation.route(counting: counting))
        let prediction = try #require(self.prediction(try await run(parts)))
        #expect(prediction.usage.source == expected.source && prediction.usage.inputTokens == expected.inputTokens)
        if counting != .payload { #expect(prediction.usage == expected) }
        #expect(parts.settler.settlements.map(\.usage) == [prediction.usage])
    }

    @Test("what is kept of a request is what the tenant lets us keep", arguments: [Retention.full, .hashed, .none])
    func retention(retention: Retention) async throws {
        let parts = await Installation(principal: Installation.principal(retention: retention))
        _ = try await run(parts)
        let row = try #require(parts.settler.settlements.first)
        #expect((row.prompt.map { String(decoding: $0, as: UTF8.self) } == Installation.body) == (retention == .full))
        #expect(
            (row.result.map { String(decoding: $0, as: UTF8.self) }
                == #"{"prediction":"setosa","probabilities":[0.9,0.1]}"#) == (retention == .full))
        #expect((row.promptDigest?.count == 32) == (retention == .hashed))
    }

    @Test(
        "a settlement that is not committed is no answer, and the hold goes where it belongs",
        arguments: [
            (SettlementResult.rejected, FailureCode.internalError, true), (.unavailable, .meteringUnavailable, true),
            (.overloaded, .meteringUnavailable, true),
            (.unknown, .meteringUnavailable, false),
        ] as [(SettlementResult, FailureCode, Bool)])
    func notCommitted(result: SettlementResult, code: FailureCode, isVoided: Bool) async throws {
        let parts = await Installation()
        parts.settler.answer(result)
        #expect(refusal(try await run(parts))?.code == code)
        #expect(parts.settler.settlements.count == 1)
        let held = Int64(Installation.body.utf8.count) + 50
        #expect(remaining(parts) == (isVoided ? Self.untouched : [.requests: 999, .tokens: 1_000_000 - held]))
        await parts.quota.drain()
        #expect(parts.ledger.openLeases.isEmpty, "nothing is in flight any more")
    }

    @Test("a lease lost at settlement is asked for anew once, for what was used")
    func leaseLostOnce() async throws {
        let parts = await Installation()
        parts.settler.answer(.leaseLost)
        #expect(prediction(try await run(parts)) != nil)
        #expect(parts.backend.calls.count == 1, "the work is not done twice")
        #expect(parts.settler.settlements.map(\.outcome) == [.completed, .completed])
        let leases = parts.settler.settlements.compactMap(\.leaseID)
        #expect(leases.count == 2 && leases[0] != leases[1])
        #expect(parts.ledger.requests.count == 2)
        #expect(parts.ledger.requests.last?.wants.map(\.minimum) == [1, 10])
        await parts.quota.drain()
        #expect(parts.ledger.closed == [leases[1]])
    }

    @Test("a lease lost twice is no answer and no charge")
    func leaseLostTwice() async throws {
        let parts = await Installation()
        parts.settler.answer(.leaseLost, .leaseLost)
        #expect(refusal(try await run(parts))?.code == .meteringUnavailable)
        #expect(parts.settler.settlements.map(\.outcome) == [.completed, .completed, .failed])
        await parts.quota.drain()
        #expect(parts.ledger.closed.isEmpty, "both leases are gone, nothing is given back")
    }

    @Test("a lease lost when the quota is used up meanwhile is a refusal by quota")
    func leaseLostQuotaGone() async throws {
        let quota = Installation.quota(.tokens, 1_000)
        let parts = await Installation(principal: Installation.principal(quotas: [quota]))
        parts.settler.answer(.leaseLost)
        parts.ledger.limitSlices(to: 1)
        let gate = Gate()
        let slow = await Installation(
            principal: Installation.principal(quotas: [quota]), ledger: parts.ledger, backend: FakeBackend(gate: gate))
        slow.settler.answer(.leaseLost)
        async let outcome = run(slow)
        await gate.arrivals(1)
        slow.ledger.settle(1_000, of: quota.id)
        gate.open()
        #expect(refusal(try await outcome)?.code == .quotaExceeded)
        #expect(slow.settler.settlements.map(\.outcome) == [.completed, .failed])
        let row = try #require(slow.settler.settlements.last)
        #expect(row.errorCode == "quota_exceeded" && row.httpStatus == 429 && row.leaseID == nil && !row.isBilled)
        #expect(row.requestID == slow.settler.settlements.first?.requestID)
    }

    @Test("a lost lease of a tenant without quotas does not go round for ever")
    func leaseLostWithoutQuota() async throws {
        let parts = await Installation(principal: Installation.principal(quotas: []))
        parts.settler.answer(.leaseLost, .leaseLost, .leaseLost)
        #expect(refusal(try await run(parts))?.code == .meteringUnavailable)
        #expect(parts.settler.settlements.map(\.outcome) == [.completed, .completed, .failed])
    }

    @Test("nobody works while usage cannot be recorded")
    func notAccepting() async throws {
        let parts = await Installation()
        parts.settler.isAccepting = false
        let refusal = self.refusal(try await run(parts))
        #expect(refusal?.code == .meteringUnavailable && refusal?.retryAfterSeconds == 2)
        #expect(parts.backend.calls.isEmpty && parts.ledger.requests.isEmpty && parts.settler.settlements.isEmpty)
    }

    @Test(
        "a failure of the worker is recorded, not billed, and its hold goes back",
        arguments: [
            ("timeout", FailureCode.upstreamTimeout), ("broken", .badUpstream), ("busy", .noHealthyWorker),
            ("unreachable", .noHealthyWorker), ("status", .badUpstream), ("nonsense", .badUpstream),
            ("negative", .badUpstream), ("fraction", .badUpstream),
        ] as [(String, FailureCode)])
    func workerFails(kind: String, code: FailureCode) async throws {
        let parts = await Installation()
        switch kind {
        case "timeout": parts.backend.fail(.timeout(cause: "slow"))
        case "broken": parts.backend.fail(.badAnswer(cause: "reset"))
        case "busy": parts.backend.fail(.overloaded)
        case "unreachable": parts.backend.fail(.unreachable(cause: "refused"))
        case "status": parts.backend.answer(FakeBackend.answer, status: 500)
        case "negative": parts.backend.answer(#"{"prediction":1,"usage":{"input_tokens":-5}}"#)
        case "fraction": parts.backend.answer(#"{"prediction":1,"usage":{"output_tokens":0.5}}"#)
        default: parts.backend.answer("<html>")
        }
        let refusal = try #require(self.refusal(try await run(parts)))
        #expect(refusal.code == code)
        #expect(parts.settler.settlements.count == 1)
        let row = try #require(parts.settler.settlements.first)
        #expect(
            row.outcome == .failed && !row.isBilled && row.errorCode == code.rawValue
                && Int(row.httpStatus) == code.httpStatus)
        #expect(row.usage == .none && row.leaseID == nil && row.result == nil)
        #expect(remaining(parts) == Self.untouched)
        await parts.quota.drain()
        #expect(parts.ledger.openLeases.isEmpty)
    }

    @Test(
        "that a failure could not be recorded does not hide it",
        arguments: [SettlementResult.unavailable, .rejected, .unknown, .overloaded, .leaseLost])
    func failureNotRecorded(result: SettlementResult) async throws {
        let parts = await Installation()
        parts.backend.fail(.timeout(cause: "slow"))
        parts.settler.answer(result)
        #expect(refusal(try await run(parts))?.code == .upstreamTimeout)
        #expect(parts.settler.settlements.count == 1)
    }

    @Test("a worker that cannot be reached is passed over, and a timeout is tried again only where that is safe")
    func secondReplica() async throws {
        let replicas = [9_001, 9_002, 9_003].map { Installation.replica($0) }
        let route = Installation.route(
            replicas: replicas, delivery: DeliverySettings(isSafeToRepeat: false, numbers: [.attempts: 2]))
        let parts = await Installation(route: route)
        parts.backend.fail(.unreachable(cause: "refused"))
        #expect(prediction(try await run(parts)) != nil)
        #expect(Set(parts.backend.calls.map(\.address.port)).count == 2)
        let other = await Installation(route: route)
        other.backend.fail(.unreachable(cause: "a"), .unreachable(cause: "b"))
        #expect(refusal(try await run(other))?.code == .noHealthyWorker)
        #expect(other.backend.calls.count == 2)
        let slow = await Installation(route: route)
        slow.backend.fail(.timeout(cause: "slow"))
        #expect(refusal(try await run(slow))?.code == .upstreamTimeout)
        #expect(slow.backend.calls.count == 1, "the work may have been done")
        let safe = await Installation(route: Installation.route(replicas: replicas))
        safe.backend.fail(.timeout(cause: "slow"))
        #expect(prediction(try await run(safe)) != nil && safe.backend.calls.count == 2)
    }

    @Test("replicas are drawn by weight, and weight zero ends nothing")
    func weights() async throws {
        func replica(_ port: Int, weight: Int) -> Replica {
            Replica(
                address: WorkerAddress(host: "127.0.0.1", port: port), workerProtocol: .predict, weight: weight,
                version: "1")
        }
        let zero = await Installation(
            route: Installation.route(replicas: [replica(1, weight: 0), replica(2, weight: 0)]))
        #expect(prediction(try await run(zero)) != nil)
        let parts = await Installation(
            route: Installation.route(replicas: [replica(1, weight: 1), replica(2, weight: 1_000)]))
        for _ in 0..<60 { _ = try await run(parts) }
        #expect(parts.backend.calls.filter { $0.address.port == 2 }.count > 45)
    }

    @Test(
        "the version asked for is the one that is called",
        arguments: [
            (#""version":"2","#, ["/v2/models/iris/versions/2/infer"], nil as FailureCode?),
            (#""version":"9","#, [], .noHealthyWorker), ("", ["/v2/models/iris/versions/2/infer"], nil),
        ] as [(String, [String], FailureCode?)])
    func version(field: String, paths: [String], code: FailureCode?) async throws {
        let parts = await Installation(
            route: Installation.route(replicas: [Installation.replica(9_001, .oip, version: "2")]))
        parts.backend.answer(#"{"outputs":[{"name":"label","data":["a"]}],"model_version":"2"}"#)
        let outcome = try await run(parts, #"{"model":"iris",\#(field)"features":[1,2,3,4]}"#)
        #expect(refusal(outcome)?.code == code)
        #expect(parts.backend.calls.map(\.path) == paths)
    }

    @Test(
        "usage is taken in the order of trust and never beyond what was held",
        arguments: [
            (#"{"prediction":1}"#, [Int64(10), 0, 0], Usage.Source.fixed),
            (#"{"prediction":1,"usage":{"input_tokens":4}}"#, [4, 0, 0], .worker),
            (#"{"prediction":1,"usage":{"output_tokens":4}}"#, [0, 0, 4], .worker),
            (#"{"prediction":1,"usage":{"input_tokens":0,"output_tokens":0}}"#, [0, 0, 0], .worker),
            (#"{"prediction":1,"usage":{"input_tokens":5,"cached_input_tokens":9}}"#, [5, 5, 0], .worker),
            (
                #"{"prediction":1,"usage":{"input_tokens":9223372036854775807,"output_tokens":9223372036854775807}}"#,
                [95, 0, 0], .worker
            ), (#"{"prediction":1,"usage":{"input_tokens":90,"output_tokens":90}}"#, [90, 0, 5], .worker),
            (#"{"prediction":1,"usage":{"cached_input_tokens":3}}"#, [10, 0, 0], .fixed),
        ] as [(String, [Int64], Usage.Source)])
    func metered(answer: String, expected: [Int64], source: Usage.Source) async throws {
        #expect(Installation.body.utf8.count == 45)
        let parts = await Installation()
        parts.backend.answer(answer)
        let usage = try #require(prediction(try await run(parts))).usage
        #expect([usage.inputTokens, usage.cachedInputTokens, usage.outputTokens] == expected)
        #expect(usage.source == source)
        #expect(parts.settler.settlements.first?.usage == usage)
        #expect(remaining(parts)[.tokens] == 1_000_000 - usage.totalTokens)
    }

    @Test("a profile of any size holds a number that fits", arguments: [Int64.max, 1 << 40, 1 << 62])
    func hugeProfile(tokens: Int64) async throws {
        for mode in [QuotaMode.hard, .soft] {
            let quotas = [Installation.quota(.tokens, .max, mode: mode)]
            let parts = await Installation(
                principal: Installation.principal(quotas: quotas),
                route: Installation.route(fixed: tokens, output: tokens))
            for _ in 0..<3 { #expect(prediction(try await run(parts)) != nil) }
            #expect(parts.settler.settlements.allSatisfy { $0.estimatedTokens == 1 << 40 })
        }
    }

    @Test("a worker's version is kept only if it is of a length that a version has")
    func workerVersion() async throws {
        let parts = await Installation()
        parts.backend.answer(#"{"prediction":1,"version":"7"}"#)
        parts.backend.answer(#"{"prediction":1,"version":"\#(String(repeating: "v", count: 100_000))"}"#)
        parts.backend.answer(#"{"prediction":1,"version":""}"#)
        for _ in 0..<3 { _ = try await run(parts) }
        #expect(parts.settler.settlements.map(\.modelVersion) == ["7", "1", "1"])
    }

    @Test(
        "who may not call is refused before anything is held",
        arguments: [
            ("scope", FailureCode.insufficientScope), ("model", .modelNotAllowed), ("suspended", .tenantSuspended),
            ("admin", .wrongPlane), ("none", .missingKey), ("unknown", .modelNotFound),
            ("width", .validationFailed), ("json", .invalidJSON),
        ] as [(String, FailureCode)])
    func refused(kind: String, code: FailureCode) async throws {
        let parts = await Installation()
        let outcome: InferenceOutcome
        switch kind {
        case "scope":
            outcome = try await run(
                parts, credentials: .one(parts.addKey(Installation.principal(scopes: [.read, .billing])).text))
        case "model":
            outcome = try await run(
                parts, credentials: .one(parts.addKey(Installation.principal(models: ["other"])).text))
        case "suspended":
            outcome = try await run(
                parts, credentials: .one(parts.addKey(Installation.principal(), state: .suspended).text))
        case "admin": outcome = try await run(parts, credentials: .one(try parts.addAdminKey().text))
        case "none": outcome = try await run(parts, credentials: Credentials.none)
        case "unknown": outcome = try await run(parts, #"{"model":"other","features":[1]}"#)
        case "width": outcome = try await run(parts, #"{"model":"iris","features":[1]}"#)
        default: outcome = try await run(parts, "{")
        }
        #expect(refusal(outcome)?.code == code)
        #expect(parts.backend.calls.isEmpty && parts.ledger.requests.isEmpty && parts.settler.settlements.isEmpty)
    }

    @Test("a used-up quota is a refusal with its numbers, before the worker is called")
    func quotaExceeded() async throws {
        let parts = await Installation(principal: Installation.principal(quotas: [Installation.quota(.requests, 1)]))
        #expect(prediction(try await run(parts)) != nil)
        let refusal = try #require(self.refusal(try await run(parts)))
        #expect(refusal.code == .quotaExceeded && refusal.quota?.requested == 1)
        #expect(parts.backend.calls.count == 1 && parts.settler.settlements.count == 1)
    }

    @Test("a model without replicas has no healthy worker")
    func noReplicas() async throws {
        let parts = await Installation(route: Installation.route(replicas: []))
        #expect(refusal(try await run(parts))?.code == .noHealthyWorker)
        #expect(parts.settler.settlements.map(\.outcome) == [.failed])
    }

    @Test("prices that cannot be read do not take back a committed answer")
    func pricesAway() async throws {
        let parts = await Installation()
        parts.priceSource.isAway = true
        let first = try #require(prediction(try await run(parts)))
        #expect(first.cost == nil)
        parts.priceSource.isAway = false
        #expect(prediction(try await run(parts))?.cost != nil)
        _ = try await run(parts)
        #expect(parts.priceSource.reads == 2, "a sheet that is known is not read again")
    }

    @Test("an answer says that Redis is away")
    func degraded() async throws {
        let parts = await Installation(redis: .unavailable)
        #expect(prediction(try await run(parts))?.degradations == ["redis"])
    }
}
