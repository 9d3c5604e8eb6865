import Domain
import Logging
import NIOCore
import NIOPosix
import Synchronization
import TestSupport
import Testing

@testable import Gateway

private final class Table: Sendable {
    private let table = Mutex(RouteTable.empty)
    var value: RouteTable { table.withLock { $0 } }
    func set(_ fresh: RouteTable) { table.withLock { $0 = fresh } }
}

/// A model with replicas on made-up ports, called past the pipeline.
struct DispatchUnderTest: Sendable {
    let time = ManualTime(Installation.noon)
    let backend = FakeBackend()
    let deliveries: DeliveryDirectory
    private let table = Table()

    init(ports: [Int] = [1, 2, 3], delivery: DeliverySettings = .none) {
        deliveries = DeliveryDirectory(defaults: DeliveryPolicy(), time: time, logger: Installation.logger)
        route(to: ports, delivery: delivery)
    }

    var route: ResolvedRoute? { route(version: nil) }

    func route(version: String?) -> ResolvedRoute? {
        table.value.resolve(model: "iris", version: version, stickiness: { _, _ in false }, draw: { 0 })
    }

    /// Swaps the route table.
    func route(to ports: [Int], delivery: DeliverySettings = .none) {
        route(to: ports.map { Installation.replica($0) }, delivery: delivery)
    }

    func route(to replicas: [Replica], delivery: DeliverySettings = .none) {
        let route = Installation.route(replicas: replicas, delivery: delivery)
        let bound = deliveries.bind(RouteTable([route], source: .registry))
        table.set(bound)
    }

    func predict(version: String? = nil) async -> Result<WorkerReading, Refusal> {
        await predict(on: route(version: version))
    }

    func predict(on route: ResolvedRoute?) async -> Result<WorkerReading, Refusal> {
        let eventLoop = MultiThreadedEventLoopGroup.singleton.any()
        guard let route else { return .failure(Refusal(.modelNotFound, "There is no route.")) }
        do throws(Refusal) {
            let body = ByteBuffer(string: Installation.body)
            let call = InferenceCall(
                requestID: RequestID(high: 1, low: 2), receivedAt: time.now,
                receivedNanoseconds: time.monotonicNanoseconds, credentials: .none, body: body, trace: nil)
            return .success(
                try await Dispatch(backend: backend, time: time).call(
                    .predict(try PredictRequest(body)), route: route, call: call, startedAt: time.monotonicNanoseconds,
                    on: eventLoop))
        } catch {
            return .failure(error)
        }
    }

    func refusal(version: String? = nil) async -> Refusal? {
        if case .failure(let refusal) = await predict(version: version) { refusal } else { nil }
    }

    /// Sends what a mirror would.
    func copy(limitMilliseconds: Int64 = 5_000) async -> Dispatch.AttemptResult<WorkerReading>? {
        let body = ByteBuffer(string: Installation.body)
        guard let route, let request = try? PredictRequest(body) else { return nil }
        let call = InferenceCall(
            requestID: RequestID(high: 1, low: 2), receivedAt: time.now,
            receivedNanoseconds: time.monotonicNanoseconds, credentials: .none, body: body, trace: nil)
        return await Dispatch(backend: backend, time: time).copy(
            .predict(request), route: route, call: call, limitMilliseconds: limitMilliseconds,
            on: MultiThreadedEventLoopGroup.singleton.any())
    }

    func advance(milliseconds: Int64) {
        time.advance(milliseconds: milliseconds)
        deliveries.keep()
    }

    func reading(_ port: Int) -> ReplicaReading? { deliveries.readings.first { $0.replica.address.port == port } }

    /// The one model's delivery.
    var model: ModelDelivery? { (route?.candidates.first?.runtime as? ReplicaState)?.model }

    /// Waits until so many requests wait for a replica.
    func waiting(_ count: Int) async throws {
        let limit = ContinuousClock.now + .seconds(20)
        while model?.waiting != count {
            try #require(ContinuousClock.now < limit, "\(String(describing: model?.waiting)) wait")
            try await Task.sleep(for: .milliseconds(1))
        }
    }
}

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
        for _ in 0..<40 { _ = await parts.predict() }
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

    // MARK: the line

    private static let narrow = DeliverySettings(numbers: [
        .replicaConcurrency: 1, .queueDepth: 2, .queueWaitMilliseconds: 200,
    ])

    @Test("beyond the places there is a line, beyond the line a refusal, and a place that comes free goes to the first")
    func line() async throws {
        let parts = DispatchUnderTest(ports: [1], delivery: Self.narrow)
        let gate = Gate()
        parts.backend.behave(1, .waits(gate))
        async let first = parts.predict()
        await gate.arrivals(1)
        async let second = parts.predict()
        try await parts.waiting(1)
        async let third = parts.predict()
        try await parts.waiting(2)
        let refusal = await parts.refusal()
        #expect(refusal?.code == .overloaded && refusal?.retryAfterSeconds == 1)
        #expect(parts.backend.callCount(1) == 1)
        gate.open()
        for result in await [first, second, third] { #expect((try? result.get()) != nil) }
        #expect(parts.backend.callCount(1) == 3 && parts.backend.mostAtOnce(1) == 1)
        #expect(parts.model?.waiting == 0 && parts.reading(1)?.outstanding == 0)
    }

    @Test(
        "a version whose replicas are full keeps nobody from another one, be its line full or not",
        .timeLimit(.minutes(1)))
    func linesOfVersions() async throws {
        let parts = DispatchUnderTest(ports: [])
        parts.route(
            to: [Installation.replica(1, version: "1.0.0"), Installation.replica(2, version: "2.0.0")],
            delivery: Self.narrow)
        let gate = Gate()
        parts.backend.behave(1, .waits(gate))
        async let first = parts.predict(version: "1.0.0")
        await gate.arrivals(1)
        async let second = parts.predict(version: "1.0.0")
        try await parts.waiting(1)
        #expect(await parts.refusal(version: "2.0.0") == nil)
        async let third = parts.predict(version: "1.0.0")
        try await parts.waiting(2)
        #expect(await parts.refusal(version: "1.0.0")?.code == .overloaded)
        let other = Gate()
        parts.backend.behave(2, .waits(other))
        async let fourth = parts.predict(version: "2.0.0")
        await other.arrivals(1)
        async let fifth = parts.predict(version: "2.0.0")
        try await parts.waiting(3)
        // The place that comes free is of no use to those who came first.
        other.open()
        for result in await [fourth, fifth] { #expect((try? result.get()) != nil) }
        #expect(parts.model?.waiting == 2)
        gate.open()
        for result in await [first, second, third] { #expect((try? result.get()) != nil) }
        #expect(parts.model?.waiting == 0 && parts.backend.mostAtOnce(1) == 1)
    }

    @Test("who has waited long enough is told so")
    func waitedOut() async throws {
        let parts = DispatchUnderTest(ports: [1], delivery: Self.narrow)
        let gate = Gate()
        parts.backend.behave(1, .waits(gate))
        async let first = parts.predict()
        await gate.arrivals(1)
        async let second = parts.refusal()
        try await parts.waiting(1)
        parts.advance(milliseconds: 199)
        #expect(parts.model?.waiting == 1)
        parts.advance(milliseconds: 1)
        #expect(await second?.code == .overloaded)
        gate.open()
        _ = await first
        #expect(parts.reading(1)?.outstanding == 0)
    }

    @Test("whoever is gone leaves the line")
    func cancelled() async throws {
        let parts = DispatchUnderTest(ports: [1], delivery: Self.narrow)
        let gate = Gate()
        parts.backend.behave(1, .waits(gate))
        async let first = parts.predict()
        await gate.arrivals(1)
        let gone = Task { await parts.predict() }
        try await parts.waiting(1)
        gone.cancel()
        _ = await gone.value
        #expect(parts.model?.waiting == 0)
        gate.open()
        _ = await first
        #expect(parts.backend.callCount(1) == 1 && parts.reading(1)?.outstanding == 0)
    }

    @Test("requests that wait while the model's settings change are served or told in time")
    func waitingWhileChanged() async throws {
        let parts = DispatchUnderTest(ports: [1], delivery: Self.narrow)
        let gate = Gate()
        parts.backend.behave(1, .waits(gate))
        async let first = parts.predict()
        await gate.arrivals(1)
        async let second = parts.refusal()
        try await parts.waiting(1)
        parts.route(to: [1])
        parts.advance(milliseconds: 200)
        #expect(await second?.code == .overloaded)
        gate.open()
        _ = await first
    }

    @Test("a request that comes to wait after the model's settings changed is told in time")
    func waitingAfterChange() async throws {
        let parts = DispatchUnderTest(ports: [1], delivery: Self.narrow)
        let old = try #require(parts.route)
        let model = try #require(parts.model)
        let gate = Gate()
        parts.backend.behave(1, .waits(gate))
        async let first = parts.predict()
        await gate.arrivals(1)
        parts.route(to: [1])
        parts.advance(milliseconds: 1_000)
        async let second = parts.predict(on: old)
        let limit = ContinuousClock.now + .seconds(20)
        while model.waiting == 0 {
            try #require(ContinuousClock.now < limit)
            try await Task.sleep(for: .milliseconds(1))
        }
        parts.advance(milliseconds: 200)
        #expect(model.waiting == 0)
        gate.open()
        _ = await first
        if case .failure(let refusal) = await second { #expect(refusal.code == .overloaded) } else { Issue.record() }
    }

    @Test("no replica has more calls than it may, however many come at once, and none is lost")
    func concurrency() async throws {
        let parts = DispatchUnderTest(
            delivery: DeliverySettings(numbers: [
                .replicaConcurrency: 4, .queueDepth: 1_000, .queueWaitMilliseconds: 60_000,
            ]))
        let answered = await withTaskGroup(of: Bool.self) { group in
            for _ in 0..<400 { group.addTask { await parts.refusal() == nil } }
            return await group.reduce(into: 0) { $0 += $1 ? 1 : 0 }
        }
        #expect(answered == 400 && parts.backend.calls.count == 400)
        #expect((1...3).allSatisfy { parts.backend.mostAtOnce($0) <= 4 })
        #expect(parts.model?.waiting == 0 && parts.deliveries.readings.allSatisfy { $0.outstanding == 0 })
    }

    // MARK: hedging

    @Test("a second replica is asked after the delay, the first answer is taken, and the other call is given up")
    func hedged() async throws {
        let parts = DispatchUnderTest(
            ports: [1, 2], delivery: DeliverySettings(numbers: [.hedgeAfterMilliseconds: 20]))
        parts.backend.behave(1, .hangs)
        for _ in 0..<60 { #expect(await parts.refusal() == nil) }
        #expect(parts.backend.callCount(2) == 60)
        #expect(parts.deliveries.readings.allSatisfy { $0.outstanding == 0 })
        // Two overtakings may be chance; five more are five failures in a row.
        #expect(parts.reading(1)?.condition == .ejected && parts.backend.callCount(1) >= 7)
        parts.advance(milliseconds: 5_000)
        let calls = parts.backend.callCount(1)
        while parts.backend.callCount(1) == calls { #expect(await parts.refusal() == nil) }
        #expect(parts.reading(1)?.condition == .ejected, "a trial that is overtaken has failed")
        #expect(parts.reading(2)?.condition == .healthy)
        parts.backend.behave(1, nil)
        parts.advance(milliseconds: 10_000)
        #expect(await parts.refusal() == nil)
        #expect(parts.reading(1)?.condition == .healthy && parts.reading(1)?.consecutiveFailures == 0)
    }

    @Test("a replica that answers now and then is not left out for being overtaken")
    func overtakenNowAndThen() async throws {
        let parts = DispatchUnderTest(ports: [1, 2])
        let replica = try #require(parts.route?.candidates.first)
        let model = try #require(parts.model)
        for end in [ModelDelivery.CallEnd.overtaken, .overtaken, .good, .overtaken, .neutral, .overtaken, .good] {
            let turn = try #require(model.choose(among: [replica], excluding: [], mayForce: true))
            model.end(turn, end)
            #expect(parts.reading(replica.address.port)?.consecutiveFailures == 0)
        }
        for failures in [0, 0, 1, 2] {
            let turn = try #require(model.choose(among: [replica], excluding: [], mayForce: true))
            model.end(turn, .overtaken)
            #expect(parts.reading(replica.address.port)?.consecutiveFailures == Int64(failures))
        }
    }

    @Test("a call that was given up is no success")
    func neutral() async throws {
        let parts = DispatchUnderTest(
            ports: [1, 2], delivery: DeliverySettings(numbers: [.breakerFailures: 0, .retryPercent: 0]))
        let replica = try #require(parts.route?.candidates.first)
        let model = try #require(parts.model)
        for _ in 0..<100 {
            let turn = try #require(model.choose(among: [replica], excluding: [], mayForce: true))
            model.end(turn, .neutral)
        }
        parts.advance(milliseconds: 50)
        for _ in 0..<20 {
            let turn = try #require(model.choose(among: [replica], excluding: [], mayForce: true))
            model.end(turn, .replicasFault)
        }
        #expect(parts.reading(replica.address.port)?.condition == .ejected, "all calls that say anything have failed")
    }

    @Test("a call that fails before the delay is tried elsewhere as ever")
    func failsBeforeDelay() async throws {
        let parts = DispatchUnderTest(
            ports: [1, 2], delivery: DeliverySettings(numbers: [.hedgeAfterMilliseconds: 60_000]))
        parts.backend.behave(1, .answers(status: 500))
        for _ in 0..<10 { #expect(await parts.refusal() == nil) }
    }

    @Test("hedging takes from the budget")
    func hedgeBudget() async throws {
        let parts = DispatchUnderTest(
            ports: [1, 2], delivery: DeliverySettings(numbers: [.hedgeAfterMilliseconds: 1, .retryPercent: 0]))
        let gate = Gate()
        for port in 1...2 { parts.backend.behave(port, .waits(gate)) }
        async let only = parts.predict()
        await gate.arrivals(1)
        try await Task.sleep(for: .milliseconds(20))
        gate.open()
        #expect((try? await only.get()) != nil && parts.backend.calls.count == 1)
    }

    // MARK: tables

    @Test("what is known of a replica survives a new table, and a newcomer starts slowly")
    func swap() async throws {
        let parts = DispatchUnderTest(ports: [1, 2])
        parts.backend.behave(1, .answers(status: 500))
        for _ in 0..<40 { _ = await parts.predict() }
        #expect(parts.reading(1)?.condition == .ejected)
        #expect(parts.reading(2)?.sharePercent == 100, "nobody is cold where all are new")
        parts.route(to: [1, 2, 3])
        #expect(parts.reading(1)?.condition == .ejected && parts.reading(3)?.sharePercent == 10)
        parts.route(to: [2])
        #expect(parts.deliveries.readings.count == 1)
        parts.route(to: [1, 2], delivery: DeliverySettings(numbers: [.attempts: 2]))
        #expect(parts.reading(1)?.condition == .healthy, "new settings begin anew")
    }

    @Test("requests go to replicas by weight and share", arguments: Balancing.allCases)
    func shares(balancing: Balancing) async throws {
        let parts = DispatchUnderTest(ports: [1, 2], delivery: DeliverySettings(balancing: balancing))
        parts.route(to: [1, 2, 3], delivery: DeliverySettings(balancing: balancing))
        for _ in 0..<420 { _ = await parts.predict() }
        // Weights 10, 10 and 1.
        #expect((150...250).contains(parts.backend.callCount(1)))
        #expect((5...45).contains(parts.backend.callCount(3)))
    }

    @Test("a worker under two versions has a weight in each")
    func weightsOfVersions() async throws {
        let parts = DispatchUnderTest(ports: [])
        func replica(_ port: Int, _ version: String, _ weight: Int) -> Replica {
            Replica(
                address: WorkerAddress(host: "127.0.0.1", port: port), workerProtocol: .predict, weight: weight,
                version: version)
        }
        parts.route(
            to: [replica(1, "1.0.0", 100), replica(2, "1.0.0", 1), replica(1, "2.0.0", 1), replica(2, "2.0.0", 100)],
            delivery: DeliverySettings(balancing: .weighted))
        for _ in 0..<100 { _ = await parts.predict(version: "1.0.0") }
        #expect(parts.backend.callCount(1) >= 85)
        for _ in 0..<100 { _ = await parts.predict(version: "2.0.0") }
        #expect(parts.backend.callCount(2) >= 85)
    }

    // MARK: probes

    final class Pages: Sendable, ProbeBackend {
        private let statuses: Mutex<[Int: Int]>
        private let list = Mutex<[String]>([])

        init(_ statuses: [Int: Int]) { self.statuses = Mutex(statuses) }

        var asked: [String] { list.withLock { $0 } }
        func set(_ port: Int, _ status: Int?) { statuses.withLock { $0[port] = status } }

        func probe(_ address: WorkerAddress, path: String, timeoutMilliseconds: Int64) async -> Int? {
            list.withLock { $0.append("\(address.port)\(path)") }
            return statuses.withLock { $0[address.port] }
        }
    }

    @Test("a replica that does not answer probes gets no requests until it does, and all down is still asked")
    func probes() async throws {
        let parts = DispatchUnderTest(ports: [1, 2])
        let pages = Pages([1: 200, 2: 404])
        let prober = ReplicaProber(deliveries: parts.deliveries, backend: pages)
        func round() async {
            parts.advance(milliseconds: 6_001)
            await prober.round()
        }
        await round()
        #expect(pages.asked.sorted() == ["1/healthz", "2/healthz"])
        await prober.round()
        #expect(pages.asked.count == 2, "not due yet")
        pages.set(1, nil)
        await round()
        #expect(parts.reading(1)?.condition == .healthy, "one probe can be lost")
        await round()
        #expect(parts.reading(1)?.condition == .down && parts.deliveries.strandedModels == [])
        for _ in 0..<20 { _ = await parts.predict() }
        #expect(parts.backend.callCount(1) == 0)
        pages.set(2, 503)
        await round()
        await round()
        #expect(parts.deliveries.strandedModels == ["iris"])
        #expect(await parts.refusal() == nil, "the least bad one is tried")
        pages.set(1, 200)
        await round()
        #expect(parts.reading(1)?.condition == .healthy && parts.deliveries.strandedModels == [])
    }

    @Test("a model can be without probes")
    func noProbes() async throws {
        let parts = DispatchUnderTest(delivery: DeliverySettings(numbers: [.probeIntervalMilliseconds: 0]))
        parts.advance(milliseconds: 60_000)
        #expect(parts.deliveries.dueProbes().isEmpty)
    }
}
