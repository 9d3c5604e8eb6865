import Domain
import Foundation
import NIOCore
import NIOPosix
import TestSupport
import Testing

@testable import Gateway

@Suite("Idempotency") struct IdempotencyTests {
    private static let otherBody = #"{"model":"iris","features":[1,2,3,4]}"#

    private func run(
        _ parts: Installation, _ fields: [String] = ["k"], body: String = Installation.body, key: APIKey? = nil
    ) async throws -> InferenceOutcome {
        let eventLoop = MultiThreadedEventLoopGroup.singleton.next()
        let loop = try await eventLoop.submit { LoopContext(eventLoop: eventLoop) }.get()
        let id = try await eventLoop.submit { loop.makeRequestID(at: parts.time.now) }.get()
        let call = InferenceCall(
            requestID: id, receivedAt: parts.time.now, receivedNanoseconds: parts.time.monotonicNanoseconds,
            credentials: .one((key ?? parts.key).text), body: ByteBuffer(string: body), trace: nil,
            idempotencyFields: fields)
        let pipeline = parts.pipeline
        return await Task(executorPreference: loop.executor) { await pipeline.run(call, on: loop) }.value
    }

    private func refusal(_ outcome: InferenceOutcome) -> Refusal? {
        if case .refused(let refusal, _) = outcome { refusal } else { nil }
    }

    private func prediction(_ outcome: InferenceOutcome) -> Prediction? {
        if case .answered(let prediction) = outcome { prediction } else { nil }
    }

    private func replay(_ outcome: InferenceOutcome) -> KeptAnswer? {
        if case .replayed(let answer, _) = outcome { answer } else { nil }
    }

    private func bodyText(_ prediction: Prediction) -> String {
        var body = ByteBuffer()
        AnswerBody.write(prediction, to: &body)
        return String(buffer: body)
    }

    @Test("the second request gets the first one's answer, and neither works nor pays")
    func replays() async throws {
        let parts = await Installation()
        let first = try #require(prediction(try await run(parts)))
        let second = try #require(replay(try await run(parts)))
        #expect(second.requestID == first.requestID && second.status == 200)
        #expect(String(decoding: second.body, as: UTF8.self) == bodyText(first))
        #expect(
            second.fields == "x-weir-model: iris\r\nx-weir-model-version: 1\r\nx-weir-usage: in=7, cached=0, out=3\r\n"
                + "x-weir-price-version: \(Installation.tier.priceVersionText)\r\nx-weir-cost-micros: 1130; currency=EUR"
        )
        #expect(parts.backend.calls.count == 1 && parts.settler.settlements.count == 1)
        #expect(parts.quota.readings(for: Installation.principal()).map(\.remaining).sorted() == [999, 999_990])
    }

    @Test("a request without the header never asks for a key")
    func withoutHeader() async throws {
        let parts = await Installation()
        #expect(prediction(try await run(parts, [])) != nil)
        parts.backend.fail(.timeout(cause: "slow"))
        #expect(refusal(try await run(parts, [])) != nil)
        await parts.claims.keep()
        #expect(parts.idempotency.calls == 0)
        #expect(parts.settler.settlements.allSatisfy { $0.answer == nil })
    }

    @Test("blanks, the order of members and quotes around the key make no other request")
    func sameRequest() async throws {
        let parts = await Installation()
        #expect(prediction(try await run(parts, ["a-key"])) != nil)
        let body = #" {"features": [5.1, 3.5, 1.4, 0.2], "model":"iris"}"#
        #expect(replay(try await run(parts, [#""a-key""#], body: body)) != nil)
        #expect(parts.backend.calls.count == 1)
    }

    @Test("the same key with another body is refused, before and after the answer")
    func otherBody() async throws {
        let gate = Gate()
        let parts = await Installation(backend: FakeBackend(gate: gate))
        async let first = run(parts)
        await gate.arrivals(1)
        let early = try #require(refusal(try await run(parts, body: Self.otherBody)))
        #expect(early.code == .idempotencyMismatch && early.code.httpStatus == 422)
        gate.open()
        #expect(prediction(try await first) != nil)
        #expect(refusal(try await run(parts, body: Self.otherBody))?.code == .idempotencyMismatch)
        #expect(replay(try await run(parts)) != nil, "the refusals have not touched the answer")
        #expect(parts.backend.calls.count == 1 && parts.settler.settlements.count == 1)
    }

    @Test("while the first is under way the others are told to come back in a second")
    func inFlight() async throws {
        let gate = Gate()
        let parts = await Installation(backend: FakeBackend(gate: gate))
        async let first = run(parts)
        await gate.arrivals(1)
        let refusal = try #require(self.refusal(try await run(parts)))
        #expect(refusal.code == .idempotencyInProgress && refusal.code.httpStatus == 409)
        #expect(refusal.retryAfterSeconds == 1)
        #expect(parts.ledger.requests.count == 1, "nothing is held for it")
        gate.open()
        #expect(prediction(try await first) != nil)
        #expect(replay(try await run(parts)) != nil)
        #expect(parts.backend.calls.count == 1)
    }

    @Test("another tenant's key of the same text is another key")
    func otherTenant() async throws {
        let parts = await Installation()
        let other = parts.addKey(Installation.principal(tenant: TenantID(high: 0, low: 0xAA)))
        let sibling = parts.addKey(Installation.principal())
        let mine = try #require(prediction(try await run(parts)))
        #expect(prediction(try await run(parts, key: other)) != nil)
        #expect(replay(try await run(parts, key: sibling))?.requestID == mine.requestID, "a key is the tenant's")
        #expect(parts.backend.calls.count == 2)
    }

    @Test(
        "a header that is no key is refused before anything is claimed",
        arguments: [
            [""], [" "], ["a b"], ["ä"], [String(repeating: "k", count: 256)], ["a", "a"], ["a", "b"], [#""a"#],
        ])
    func malformed(fields: [String]) async throws {
        let parts = await Installation()
        let refusal = try #require(self.refusal(try await run(parts, fields)))
        #expect(refusal.code == .badRequest && refusal.code.httpStatus == 400)
        #expect(refusal.errors.map(\.location) == ["Idempotency-Key"])
        #expect(parts.idempotency.calls == 0 && parts.backend.calls.isEmpty)
    }

    @Test("who may not call, and a body that cannot be read, are refused before anything is claimed")
    func refusedBeforeClaim() async throws {
        let parts = await Installation()
        let noScope = parts.addKey(Installation.principal(scopes: [.read]))
        #expect(refusal(try await run(parts, key: noScope))?.code == .insufficientScope)
        let noModel = parts.addKey(Installation.principal(models: ["other"]))
        #expect(refusal(try await run(parts, key: noModel))?.code == .modelNotAllowed)
        #expect(refusal(try await run(parts, body: "{"))?.code == .invalidJSON)
        parts.settler.isAccepting = false
        #expect(refusal(try await run(parts))?.code == .meteringUnavailable)
        #expect(parts.idempotency.calls == 0)
    }

    @Test("keys that cannot be claimed mean that nothing is served")
    func storeAway() async throws {
        let parts = await Installation()
        parts.idempotency.isAway = true
        let refusal = try #require(self.refusal(try await run(parts)))
        #expect(refusal.code == .meteringUnavailable && refusal.retryAfterSeconds == 2)
        #expect(parts.backend.calls.isEmpty && parts.ledger.requests.isEmpty && parts.settler.settlements.isEmpty)
    }

    @Test(
        "what was not charged runs again under the same key",
        arguments: ["worker", "quota", "model", "width", "rejected", "unavailable", "overloaded", "lease"])
    func runsAgain(kind: String) async throws {
        let quota = Installation.quota(.requests, 1_000)
        let parts = await Installation(principal: Installation.principal(quotas: [quota]))
        var body = Installation.body
        switch kind {
        case "worker": parts.backend.fail(.timeout(cause: "slow"))
        case "quota": parts.ledger.settle(1_000, of: quota.id)
        case "model": body = #"{"model":"other","features":[1]}"#
        case "width": body = Self.otherBody.replacingOccurrences(of: ",4", with: "")
        case "rejected": parts.settler.answer(.rejected)
        case "unavailable": parts.settler.answer(.unavailable)
        case "overloaded": parts.settler.answer(.overloaded)
        default: parts.settler.answer(.leaseLost, .leaseLost)
        }
        #expect(refusal(try await run(parts, body: body)) != nil)
        #expect(parts.idempotency.released.count == 1 && parts.idempotency.count == 0)
        if kind == "quota" { parts.ledger.settle(-1_000, of: quota.id) }
        #expect(prediction(try await run(parts)) != nil)
        #expect(replay(try await run(parts)) != nil)
    }

    @Test("an unknown outcome keeps the claim until it runs out, and then the next attempt runs")
    func unknown() async throws {
        let time = ManualTime(Installation.noon)
        let parts = await Installation(time: time)
        parts.settler.answer(.unknown)
        #expect(refusal(try await run(parts))?.isOutcomeUnknown == true)
        #expect(parts.idempotency.released.isEmpty && parts.idempotency.count == 1)
        #expect(refusal(try await run(parts))?.code == .idempotencyInProgress)
        await parts.claims.keep()
        #expect(parts.idempotency.renewed.isEmpty, "nobody works on it here, so nobody renews it")
        time.advance(milliseconds: 10_001)
        #expect(prediction(try await run(parts)) != nil)
    }

    @Test("a gateway that slept past its claim does not charge, gives its hold back, and sends to the other answer")
    func takenOver() async throws {
        let time = ManualTime(Installation.noon)
        let gate = Gate()
        let parts = await Installation(time: time, backend: FakeBackend(gate: gate))
        async let slow = run(parts)
        await gate.arrivals(1)
        time.advance(milliseconds: 10_001)
        async let quick = run(parts)
        await gate.arrivals(2)
        gate.open()
        let outcomes = [try await slow, try await quick]
        #expect(refusal(outcomes[0])?.code == .idempotencyInProgress)
        let charged = try #require(prediction(outcomes[1]))
        #expect(replay(try await run(parts))?.requestID == charged.requestID)
        #expect(parts.idempotency.count == 1)
        await parts.quota.drain()
        #expect(parts.ledger.openLeases.count <= 1, "of the leases only the one that ran out is left to the reaper")
    }

    @Test("a claim is renewed for as long as its request runs")
    func renewed() async throws {
        let time = ManualTime(Installation.noon)
        let gate = Gate()
        let parts = await Installation(time: time, backend: FakeBackend(gate: gate))
        async let slow = run(parts)
        await gate.arrivals(1)
        for _ in 0..<10 {
            time.advance(milliseconds: 5_000)
            await parts.claims.keep()
        }
        #expect(parts.idempotency.renewed.count == 10)
        #expect(refusal(try await run(parts))?.code == .idempotencyInProgress)
        gate.open()
        #expect(prediction(try await slow) != nil)
        await parts.claims.keep()
        #expect(parts.idempotency.renewed.count == 10, "what has ended is not renewed")
    }

    @Test("an answer is kept for 48 hours, and not a moment longer")
    func kept() async throws {
        let time = ManualTime(Installation.noon)
        let parts = await Installation(time: time)
        let first = try #require(prediction(try await run(parts)))
        time.advance(milliseconds: 48 * 3_600_000 - 1)
        #expect(replay(try await run(parts))?.requestID == first.requestID)
        time.advance(milliseconds: 1)
        let anew = try #require(prediction(try await run(parts, body: Self.otherBody)))
        #expect(anew.requestID != first.requestID && parts.backend.calls.count == 2)
    }

    @Test("an answer is kept when its model has gone, its quota is used up, and its price cannot be read")
    func worldChanged() async throws {
        let quota = Installation.quota(.requests, 1)
        let parts = await Installation(principal: Installation.principal(quotas: [quota]))
        parts.priceSource.isAway = true
        let first = try #require(prediction(try await run(parts)))
        #expect(first.cost == nil)
        parts.priceSource.isAway = false
        parts.routeSource.set(
            RouteSnapshot(table: RouteTable([], source: .registry), redis: .notConfigured, isRegistryFresh: true))
        await parts.routes.refresh()
        let second = try #require(replay(try await run(parts)))
        #expect(second.requestID == first.requestID)
        #expect(!second.fields.contains("x-weir-cost-micros"), "what was not said the first time is not said later")
    }

    @Test("on a lease that was lost the answer is kept once, with the settlement that counts")
    func leaseLostOnce() async throws {
        let parts = await Installation()
        parts.settler.answer(.leaseLost)
        let first = try #require(prediction(try await run(parts)))
        #expect(parts.settler.settlements.map { $0.answer?.claim.requestID } == [first.requestID, first.requestID])
        #expect(replay(try await run(parts))?.requestID == first.requestID)
    }
}

@Suite("Idempotency over HTTP", .serialized, .timeLimit(.minutes(2))) struct IdempotencyHeaderTests {
    @Test("the answer comes back byte for byte, marked as what it is, on both spellings of the path")
    func replay() async throws {
        try await RunningGateway.with(await Installation(time: SystemTime())) { gateway in
            let connection = try gateway.connect()
            try await connection.write(gateway.predict(fields: ["Idempotency-Key: k1", "x-request-id: one"]))
            let first = try await connection.response()
            #expect(first.status == 200 && first.field("idempotent-replayed") == nil)
            let again = gateway.predict(fields: ["idempotency-key: \"k1\"", "x-request-id: two"])
            try await connection.write(again.replacingOccurrences(of: "POST /predict ", with: "POST /predict/ "))
            let second = try await connection.response()
            #expect(second.status == 200 && second.body == first.body)
            #expect(second.field("idempotent-replayed") == "true")
            #expect(second.field("x-client-request-id") == "two")
            for name in [
                "content-type", "x-request-id", "x-weir-model", "x-weir-model-version", "x-weir-usage",
                "x-weir-cost-micros", "x-weir-price-version", "cache-control", "ratelimit-policy",
            ] {
                #expect(second.field(name) == first.field(name) && second.field(name) != nil, "\(name)")
            }
            #expect(gateway.parts.backend.calls.count == 1)
        }
    }

    @Test(
        "what is no key is 400, and the connection goes on",
        arguments: [
            ["idempotency-key:"], ["idempotency-key: a b"], ["idempotency-key: ä"],
            ["idempotency-key: " + String(repeating: "k", count: 256)], ["idempotency-key: a", "Idempotency-Key: a"],
        ])
    func malformed(fields: [String]) async throws {
        try await RunningGateway.with(await Installation(time: SystemTime())) { gateway in
            let connection = try gateway.connect()
            try await connection.write(gateway.predict(fields: fields))
            let refused = try await connection.response()
            #expect(refused.status == 400 && refused.field("x-weir-error") == "bad_request")
            try await connection.write(gateway.predict())
            #expect(try await connection.response().status == 200)
            #expect(gateway.parts.backend.calls.count == 1)
        }
    }
}
