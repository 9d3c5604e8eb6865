import Domain
import HTTPListener
import NIOCore
import NIOPosix
import TestSupport
import Testing

@testable import Gateway

/// What a tier says of requests that no worker answered.
@Suite("Charged failures and free hits") struct RequestTermsTests {
    private static let cost = Micros(1_000)
    private static let untouched: [Int64] = [1_000, 1_000_000]
    private static let oneRequest: [Int64] = [999, 1_000_000]

    private func installation(
        _ terms: RequestTerms = RequestTerms(failure: .charged), status: Int = 422
    ) async -> Installation {
        let parts = await Installation(requestTerms: terms)
        parts.backend.answer(#"{"error":"as told"}"#, status: status)
        return parts
    }

    private func run(_ parts: Installation, key: String? = nil) async throws -> InferenceOutcome {
        let eventLoop = MultiThreadedEventLoopGroup.singleton.next()
        let loop = try await eventLoop.submit { LoopContext(eventLoop: eventLoop) }.get()
        let id = try await eventLoop.submit { loop.makeRequestID(at: parts.time.now) }.get()
        let call = InferenceCall(
            requestID: id, receivedAt: parts.time.now, receivedNanoseconds: parts.time.monotonicNanoseconds,
            credentials: .one(parts.key.text), body: ByteBuffer(string: Installation.body), trace: nil,
            idempotencyFields: key.map { [$0] } ?? [])
        let pipeline = parts.pipeline
        return await Task(executorPreference: loop.executor) { await pipeline.run(call, on: loop) }.value
    }

    private func remaining(_ parts: Installation) -> [Int64] {
        parts.quota.readings(for: Installation.principal()).map(\.remaining).sorted()
    }

    @Test("an input that a worker refuses costs one request and no token", arguments: [400, 413, 422])
    func charged(status: Int) async throws {
        let parts = await installation(status: status)
        let refusal = try #require(CacheStage.refusal(try await run(parts)))
        #expect(refusal.charge?.cost == Self.cost && refusal.charge?.currency == "EUR")
        #expect(refusal.detail.hasSuffix("One request was charged: the tier charges those that the model refuses."))
        #expect(!refusal.detail.contains("Nothing was charged"))
        let row = try #require(parts.settler.settlements.first)
        #expect(parts.settler.settlements.count == 1)
        #expect(row.outcome == .failed && row.isBilled && row.chargedRequests == 1 && row.usage == .none)
        #expect(row.leaseID != nil && row.errorCode == refusal.code.rawValue && row.result == nil)
        #expect(remaining(parts) == Self.oneRequest)
        #expect(refusal.fields.contains { $0 == ("x-weir-charged", "failed_request") })
    }

    @Test("400 of a server of the Open Inference Protocol can speak of the model, and is free")
    func inferenceServer() {
        let replica = Installation.replica(1, .oip)
        #expect(Dispatch.failed(422, of: replica).isRefusedInput && Dispatch.failed(413, of: replica).isRefusedInput)
        #expect(!Dispatch.failed(400, of: replica).isRefusedInput)
        #expect(Dispatch.failed(400, of: Installation.replica(1, .openai)).isRefusedInput)
    }

    @Test("it is free by default, and whatever is not the caller's fault is free in every tier")
    func free() async throws {
        for (terms, status) in [(RequestTerms.standard, 422)]
            + [401, 403, 404, 409, 418, 429, 500, 503].map({
                (RequestTerms(failure: .charged), $0)
            })
        {
            let parts = await installation(terms, status: status)
            let refusal = try #require(CacheStage.refusal(try await run(parts)))
            #expect(refusal.charge == nil && !refusal.fields.contains { $0.0 == "x-weir-charged" }, "\(status)")
            #expect(parts.settler.settlements.map(\.isBilled) == [false], "\(status)")
            #expect(remaining(parts) == Self.untouched, "\(status)")
        }
    }

    @Test("where the charge cannot be recorded the caller is told that instead, and pays nothing")
    func notRecorded() async throws {
        for (result, code) in [
            (SettlementResult.unavailable, FailureCode.meteringUnavailable), (.overloaded, .meteringUnavailable),
            (.rejected, .internalError),
        ] {
            let parts = await installation()
            parts.settler.answer(result)
            let refusal = try #require(CacheStage.refusal(try await run(parts)))
            #expect(refusal.code == code && refusal.charge == nil && !refusal.isOutcomeUnknown)
            #expect(remaining(parts) == Self.untouched)
        }
        let parts = await installation()
        parts.settler.answer(.unknown)
        #expect(CacheStage.refusal(try await run(parts))?.isOutcomeUnknown == true)
    }

    @Test("a lease that was lost is asked for anew")
    func leaseLost() async throws {
        let parts = await installation()
        parts.settler.answer(.leaseLost)
        let refusal = try #require(CacheStage.refusal(try await run(parts)))
        #expect(refusal.code == .validationFailed && refusal.charge != nil)
        #expect(parts.settler.settlements.map(\.chargedRequests) == [1, 1])
        #expect(Set(parts.settler.settlements.map(\.leaseID)).count == 2)
    }

    @Test("under a key the error is kept with its charge and sent again as it was")
    func keyed() async throws {
        let parts = await installation()
        guard case .refused(let refusal, let id) = try await run(parts, key: "k") else {
            Issue.record("not refused")
            return
        }
        guard case .replayed(let kept, _) = try await run(parts, key: "k") else {
            Issue.record("not replayed")
            return
        }
        let body = ProblemAnswer.body(refusal, requestID: id, instance: .request)
        #expect(kept.requestID == id && kept.status == 422 && kept.body == Array(body.readableBytesView))
        #expect(
            kept.fields
                == "content-type: application/problem+json\r\nx-weir-error: validation_failed\r\nx-should-retry: false"
                + "\r\nx-weir-model: iris\r\nx-weir-charged: failed_request\r\nx-weir-usage: in=0, cached=0, out=0"
                + "\r\nx-weir-price-version: \(Installation.tier.priceVersionText)\r\nx-weir-cost-micros: 1000; currency=EUR"
        )
        #expect(parts.backend.calls.count == 1 && parts.settler.settlements.count == 1)
        #expect(remaining(parts) == Self.oneRequest)
    }

    @Test("a hit is free where the tier says so, and has its entry")
    func hits() async throws {
        let parts = await Installation(
            route: Installation.route(cache: CachePolicy(isOn: true)), cacheHitTokenPercent: 0,
            requestTerms: RequestTerms(cacheHit: .free))
        let answers = try await [0, 1, 2].asyncMap { _ in
            try #require(CacheStage.prediction(try await run(parts)))
        }
        #expect(answers.map(\.isCached) == [false, true, true])
        #expect(answers.map { $0.cost?.value } == [1_130, 0, 0])
        #expect(parts.settler.settlements.map(\.chargedRequests) == [1, 0, 0])
        #expect(parts.settler.settlements.allSatisfy { $0.isBilled && $0.leaseID != nil })
        #expect(remaining(parts) == [999, 999_990])
    }
}
