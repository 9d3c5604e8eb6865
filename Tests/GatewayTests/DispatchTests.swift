import Domain
import Logging
import NIOCore
import NIOPosix
import Synchronization
import TestSupport
import Testing

@testable import Gateway

@Suite("Dispatch") struct DispatchTests {
    @Test(
        "a replica that fails costs no request, is left out after some failures, and one trial brings it back",
        arguments: [
            FakeBackend.Manner.fails(.unreachable(cause: "refused")), .fails(.badAnswer(cause: "reset")),
            .answers(status: 500), .answers(status: 503), .fails(.timeout(cause: "slow")),
        ])
    func ejected(manner: FakeBackend.Manner) async throws {
        let parts = DispatchUnderTest()
        parts.backend.behave(1, manner)
        for _ in 0..<60 { #expect(await parts.refusal() == nil) }
        #expect(parts.reading(1)?.condition == .ejected && parts.reading(1)?.consecutiveFailures == 5)
        #expect(parts.reading(1)?.ejectedUntil == parts.time.now.advanced(byMilliseconds: 5_000))
        #expect(parts.backend.callCount(1) == 5)
        parts.backend.behave(1, nil)
        parts.advance(milliseconds: 4_999)
        #expect(parts.reading(1)?.condition == .ejected)
        parts.advance(milliseconds: 1)
        #expect(parts.reading(1)?.condition == .trial)
        #expect(await parts.refusal() == nil)
        #expect(parts.backend.callCount(1) == 6 && parts.reading(1)?.condition == .healthy)
        parts.advance(milliseconds: 100)
        #expect(parts.reading(1)?.sharePercent == 10)
        parts.advance(milliseconds: 4_900)
        #expect(parts.reading(1)?.sharePercent == 50)
        parts.advance(milliseconds: 5_000)
        #expect(parts.reading(1)?.sharePercent == 100)
        #expect(parts.deliveries.readings.allSatisfy { $0.outstanding == 0 })
    }

    @Test("whether a worker may have run what was refused at last")
    func mayHaveRun() async throws {
        let unreachable = FakeBackend.Manner.fails(.unreachable(cause: "refused"))
        for (manner, mayHaveRun) in [
            (FakeBackend.Manner.answers(status: 503), true), (.answers(status: 502), true),
            (.answers(status: 504), true),
            (.fails(.badAnswer(cause: "reset")), true), (.answers(status: 429), false), (unreachable, false),
        ] {
            let alone = DispatchUnderTest(ports: [1])
            alone.backend.behave(1, manner)
            #expect(await alone.refusal()?.mayHaveRun == mayHaveRun, "\(manner)")
        }
        // One breaks, and the other one cannot be reached: in either order the one that had it counts.
        let two = DispatchUnderTest(ports: [1, 2])
        two.backend.behave(1, .fails(.badAnswer(cause: "reset")))
        two.backend.behave(2, unreachable)
        for _ in 0..<4 { #expect(await two.refusal()?.mayHaveRun == true) }
    }

    @Test("a trial is one call, and its failure leaves the replica out for longer")
    func trial() async throws {
        let parts = DispatchUnderTest()
        parts.backend.behave(1, .answers(status: 500))
        // Who is asked is drawn by chance, so it may take a while until one is out.
        for _ in 0..<1_000 where parts.reading(1)?.condition != .ejected { _ = await parts.predict() }
        let before = parts.backend.callCount(1)
        parts.advance(milliseconds: 5_000)
        let gate = Gate()
        parts.backend.behave(1, .waits(gate))
        async let first = parts.predict()
        await gate.arrivals(1)
        for _ in 0..<20 { #expect(await parts.refusal() == nil) }
        #expect(parts.backend.callCount(1) == before + 1, "only one may try")
        gate.open()
        _ = await first
        #expect(parts.reading(1)?.condition == .healthy)
    }

    @Test("where all fail, at most half are left out, and somebody is always asked")
    func allFail() async throws {
        let parts = DispatchUnderTest()
        for port in 1...3 { parts.backend.behave(port, .fails(.unreachable(cause: "refused"))) }
        for _ in 0..<40 { #expect(await parts.refusal()?.code == .noHealthyWorker) }
        #expect(parts.deliveries.readings.count { $0.condition == .ejected } == 1)
        let one = DispatchUnderTest(ports: [1])
        one.backend.behave(1, .answers(status: 500))
        for _ in 0..<20 { #expect(await one.refusal()?.code == .badUpstream) }
        #expect(one.backend.callCount(1) == 20 && one.reading(1)?.condition == .healthy)
    }

    @Test("what another version's replicas are like does not keep a failing one from being left out")
    func deadCanary() async throws {
        let parts = DispatchUnderTest(ports: [])
        parts.route(
            to: [(1, "1.0.0"), (2, "1.0.0"), (3, "2.0.0")].map { Installation.replica($0.0, version: $0.1) })
        parts.backend.behave(3, .fails(.unreachable(cause: "refused")))
        for _ in 0..<10 { _ = await parts.predict(version: "2.0.0") }
        #expect(parts.reading(3)?.condition == .healthy, "nobody else has its version")
        let prober = ReplicaProber(deliveries: parts.deliveries, backend: Pages([1: 200, 2: 200]))
        for _ in 0..<2 {
            parts.advance(milliseconds: 6_001)
            await prober.round()
        }
        #expect(parts.reading(3)?.condition == .down)
        parts.backend.behave(1, .answers(status: 500))
        for _ in 0..<40 { #expect(await parts.refusal(version: "1.0.0") == nil) }
        #expect(parts.reading(1)?.condition == .ejected && parts.backend.callCount(1) == 5)
    }

    @Test("a worker under two versions is one replica, and the only one is not left out")
    func oneProcess() async throws {
        let parts = DispatchUnderTest(ports: [])
        parts.route(to: [Installation.replica(1, version: "1.0.0"), Installation.replica(1, version: "2.0.0")])
        parts.backend.behave(1, .answers(status: 500))
        for _ in 0..<10 { _ = await parts.predict(version: "1.0.0") }
        #expect(parts.deliveries.readings.allSatisfy { $0.condition == .healthy })
        #expect(parts.backend.callCount(1) == 10)
    }

    @Test("an error is tried once more, and no third time")
    func errors() async throws {
        let parts = DispatchUnderTest()
        for port in 1...3 { parts.backend.behave(port, .answers(status: 500)) }
        #expect(await parts.refusal()?.code == .badUpstream)
        #expect(parts.backend.calls.count == 2 && Set(parts.backend.calls.map(\.address.port)).count == 2)
    }

    @Test(
        "what a worker says against the request is told, not repeated, and not held against the worker",
        arguments: [
            (400, FailureCode.validationFailed), (422, .validationFailed), (404, .modelNotFound),
            (413, .requestTooLarge), (401, .badUpstream),
        ])
    func callersFault(status: Int, code: FailureCode) async throws {
        let parts = DispatchUnderTest()
        for port in 1...3 { parts.backend.behave(port, .answers(status: status)) }
        for _ in 0..<10 { #expect(await parts.refusal()?.code == code) }
        #expect(parts.backend.calls.count == 10)
        #expect(parts.deliveries.readings.allSatisfy { $0.condition == .healthy && $0.consecutiveFailures == 0 })
    }

    @Test("a model that may not be repeated is sent again only where nothing was sent")
    func notSafe() async throws {
        let parts = DispatchUnderTest(delivery: DeliverySettings(isSafeToRepeat: false))
        for port in 1...3 { parts.backend.behave(port, .fails(.badAnswer(cause: "reset"))) }
        #expect(await parts.refusal()?.code == .badUpstream && parts.backend.calls.count == 1)
        #expect(parts.backend.calls.allSatisfy { !$0.isSafeToRepeat })
        for port in 1...3 { parts.backend.behave(port, .fails(.unreachable(cause: "refused"))) }
        #expect(await parts.refusal()?.code == .noHealthyWorker)
        #expect(parts.backend.calls.count == 4)
    }

    @Test("attempts end with the budget, and with the time")
    func bounds() async throws {
        let none = DispatchUnderTest(delivery: DeliverySettings(numbers: [.retryPercent: 0]))
        for port in 1...3 { none.backend.behave(port, .fails(.unreachable(cause: "refused"))) }
        _ = await none.predict()
        #expect(none.backend.calls.count == 1)
        let few = DispatchUnderTest(delivery: DeliverySettings(numbers: [.breakerFailures: 0, .breakerPercent: 0]))
        for port in 1...3 { few.backend.behave(port, .fails(.unreachable(cause: "refused"))) }
        for _ in 0..<100 { _ = await few.predict() }
        #expect(few.backend.calls.count == 100 + Int(RetryBudget.floorSavings))
        let slow = DispatchUnderTest(delivery: DeliverySettings(numbers: [.totalMilliseconds: 100]))
        let gate = Gate()
        for port in 1...3 { slow.backend.behave(port, .stalls(gate, .badAnswer(cause: "reset"))) }
        async let late = slow.refusal()
        await gate.arrivals(1)
        for port in 1...3 { slow.backend.behave(port, nil) }
        slow.time.advance(milliseconds: 100)
        gate.open()
        #expect(await late?.code == .badUpstream)
        #expect(slow.backend.calls.map(\.totalMilliseconds) == [100])
        #expect(slow.backend.calls.map(\.firstByteMilliseconds) == [100])
    }

    @Test("the second attempt has what is left of the time")
    func timeLeft() async throws {
        let parts = DispatchUnderTest(ports: [1, 2], delivery: DeliverySettings(numbers: [.totalMilliseconds: 1_000]))
        let started = parts.time.monotonicNanoseconds
        parts.time.advance(milliseconds: 300)
        for port in 1...2 { parts.backend.behave(port, .fails(.badAnswer(cause: "reset"))) }
        let route = try #require(parts.route)
        let body = ByteBuffer(string: Installation.body)
        let call = InferenceCall(
            requestID: RequestID(high: 1, low: 2), receivedAt: parts.time.now, receivedNanoseconds: started,
            credentials: .none, body: body, trace: nil)
        await #expect(throws: Refusal.self) {
            try await Dispatch(backend: parts.backend, time: parts.time).call(
                .predict(try PredictRequest(body)), route: route, call: call, startedAt: started,
                on: MultiThreadedEventLoopGroup.singleton.any())
        }
        #expect(parts.backend.calls.map(\.totalMilliseconds) == [1_000, 700])
    }

    @Test("silence in the time that is left over is not held against a replica, silence in all of it is")
    func cutShort() async throws {
        let parts = DispatchUnderTest(ports: [1, 2], delivery: DeliverySettings(numbers: [.totalMilliseconds: 1_000]))
        let (first, second) = (Gate(), Gate())
        // Whichever replica is drawn first, each lets some time pass and then says that it was too long.
        for port in 1...2 { parts.backend.behave(port, .stalls(first, .timeout(cause: "slow"))) }
        async let call = parts.predict()
        await first.arrivals(1)
        for port in 1...2 { parts.backend.behave(port, .stalls(second, .timeout(cause: "slow"))) }
        parts.time.advance(milliseconds: 300)
        first.open()
        await second.arrivals(1)
        parts.time.advance(milliseconds: 700)
        second.open()
        _ = await call
        let ports = parts.backend.calls.map(\.address.port)
        try #require(ports.count == 2)
        #expect(parts.reading(ports[0])?.consecutiveFailures == 1, "a deadline of the model's own was over")
        #expect(parts.reading(ports[1])?.consecutiveFailures == 0)
        #expect(parts.deliveries.readings.allSatisfy { $0.outstanding == 0 })
    }

    // MARK: copies

    @Test("a copy finds no fault with a replica that may take longer, and a real failure is one")
    func copyIsSilent() async throws {
        let parts = DispatchUnderTest(ports: [1])
        for _ in 0..<10 {
            let gate = Gate()
            parts.backend.behave(1, .stalls(gate, .timeout(cause: "slow")))
            async let copy = parts.copy(limitMilliseconds: 5_000)
            await gate.arrivals(1)
            parts.time.advance(milliseconds: 5_000)
            gate.open()
            if case .failed(let failed)? = await copy { #expect(failed.failure == .silent) } else { Issue.record() }
        }
        #expect(parts.backend.calls.allSatisfy { $0.totalMilliseconds == 5_000 })
        #expect(parts.reading(1)?.consecutiveFailures == 0 && parts.reading(1)?.outstanding == 0)
        parts.backend.behave(1, .fails(.unreachable(cause: "refused")))
        _ = await parts.copy(limitMilliseconds: 5_000)
        #expect(parts.reading(1)?.consecutiveFailures == 1)
    }

    @Test("a copy is no trial, is not repeated, and is dropped where no place is free")
    func copyCostsNothing() async throws {
        let parts = DispatchUnderTest(ports: [1, 2], delivery: Self.narrow)
        parts.backend.behave(1, .answers(status: 500))
        for _ in 0..<40 { _ = await parts.predict() }
        parts.advance(milliseconds: 5_000)
        #expect(parts.reading(1)?.condition == .trial)
        let before = parts.backend.callCount(1)
        for _ in 0..<20 { #expect(await parts.copy() != nil) }
        #expect(parts.backend.callCount(1) == before && parts.reading(1)?.condition == .trial)
        parts.backend.behave(2, .answers(status: 500))
        let calls = parts.backend.calls.count
        _ = await parts.copy()
        #expect(parts.backend.calls.count == calls + 1)
        let gate = Gate()
        parts.backend.behave(2, .waits(gate))
        async let first = parts.copy()
        await gate.arrivals(1)
        #expect(await parts.copy() == nil && parts.model?.waiting == 0)
        gate.open()
        #expect(await first != nil)
    }
}
