import Domain
import Glibc
import NIOCore
import NIOPosix
import Synchronization
import TestSupport
import Testing

@testable import Gateway

@Suite("Requests on their way to a version") struct RoutedRequestTests {
    private func run(
        _ parts: Installation, _ body: String, key: APIKey? = nil, mirrors: MirrorTraffic? = nil
    ) async throws -> InferenceOutcome {
        let eventLoop = MultiThreadedEventLoopGroup.singleton.next()
        let loop = try await eventLoop.submit { LoopContext(eventLoop: eventLoop) }.get()
        let id = try await eventLoop.submit { loop.makeRequestID(at: parts.time.now) }.get()
        let call = InferenceCall(
            requestID: id, receivedAt: parts.time.now, receivedNanoseconds: parts.time.monotonicNanoseconds,
            credentials: .one((key ?? parts.key).text), body: ByteBuffer(string: body), trace: nil)
        let pipeline = parts.pipeline(mirrors: mirrors ?? MirrorTraffic())
        return await Task(executorPreference: loop.executor) { await pipeline.run(call, on: loop) }.value
    }

    private func refusal(_ outcome: InferenceOutcome) -> Refusal? {
        if case .refused(let refusal, _) = outcome { refusal } else { nil }
    }

    private func prediction(_ outcome: InferenceOutcome) -> Prediction? {
        if case .answered(let prediction) = outcome { prediction } else { nil }
    }

    private static func parts(
        _ rules: RoutingRules = RoutingRules(), protocol workerProtocol: WorkerProtocol = .predict,
        weights: (Int?, Int?) = (nil, nil)
    ) async -> Installation {
        let plain = Installation.route()
        var wide = ProfileOverrides()
        wide.featureCount = 2
        let parts = await Installation()
        parts.routeSource.set(
            RouteSnapshot(
                table: RouteTable(
                    [
                        ModelRoute(
                            profile: plain.profile,
                            replicas: [
                                Installation.replica(1, workerProtocol, version: "1.0.0"),
                                Installation.replica(2, workerProtocol, version: "2.0.0"),
                            ],
                            versions: [
                                ModelVersion(name: "1.0.0", weight: weights.0, overrides: wide),
                                ModelVersion(name: "2.0.0", weight: weights.1),
                            ], rules: rules)
                    ],
                    aliases: [
                        ModelAlias(name: "flowers", model: "iris"),
                        ModelAlias(name: "old", model: "iris", version: "1.0.0"),
                    ], source: .registry), redis: .notConfigured, isRegistryFresh: true))
        await parts.routes.refresh()
        return parts
    }

    @Test("under an alias the worker is asked for the model, and the record has the model; the answer has the alias")
    func alias() async throws {
        let parts = await Self.parts()
        let answer = try #require(
            prediction(try await run(parts, #"{"model":"flowers","features":[5.1,3.5,1.40,0.2]}"#)))
        #expect(answer.model == "flowers" && answer.version == "2.0.0")
        let call = try #require(parts.backend.calls.first)
        #expect(call.address.port == 2)
        #expect(String(buffer: call.body) == #"{"model":"iris","version":"2.0.0","features":[5.1,3.5,1.40,0.2]}"#)
        let row = try #require(parts.settler.settlements.first)
        #expect(row.model == "iris" && row.modelVersion == "2.0.0")
    }

    @Test("each version has its own profile, and the worker's path has the version")
    func profiles() async throws {
        let parts = await Self.parts(protocol: .oip)
        let narrow = #"{"model":"old","features":[1,2]}"#
        parts.backend.answer(#"{"outputs":[{"name":"label","data":["a"]}]}"#)
        #expect(prediction(try await run(parts, narrow))?.version == "1.0.0")
        #expect(parts.backend.calls.map(\.path) == ["/v2/models/iris/versions/1.0.0/infer"])
        let wrong = refusal(try await run(parts, #"{"model":"iris","version":"latest","features":[1,2]}"#))
        #expect(wrong?.code == .validationFailed)
        let unknown = refusal(try await run(parts, #"{"model":"iris","version":"3.0.0","features":[1,2,3,4]}"#))
        #expect(unknown?.code == .modelNotFound && unknown?.detail.contains("3.0.0") == true)
    }

    @Test("several rows go on whole, with the model's name")
    func batch() async throws {
        let parts = await Self.parts()
        _ = try await run(parts, #"{"inputs":[[1,2],[3,4.0]],"model":"old","version":"latest"}"#)
        #expect(
            parts.backend.calls.map { String(buffer: $0.body) } == [
                #"{"model":"iris","version":"1.0.0","inputs":[[1,2],[3,4.0]]}"#
            ])
    }

    @Test(
        "a key for the model may use its names; a key for a name may use that name alone",
        arguments: [
            (Set(["iris"]), "flowers", true), (["iris"], "iris", true), (["flowers"], "flowers", true),
            (["flowers"], "iris", false), (["flowers"], "old", false), (["other"], "flowers", false),
        ] as [(Set<String>, String, Bool)])
    func keys(allowed: Set<String>, name: String, isServed: Bool) async throws {
        let parts = await Self.parts()
        let key = parts.addKey(Installation.principal(models: allowed))
        let features = name == "old" ? "[1,2]" : "[1,2,3,4]"
        let outcome = try await run(parts, #"{"model":"\#(name)","features":\#(features)}"#, key: key)
        #expect((prediction(outcome) != nil) == isServed)
        if !isServed { #expect(refusal(outcome)?.code == .modelNotAllowed) }
    }

    @Test("a field by which callers stay is taken, stays here, and leads them to one version however it is written")
    func sticky() async throws {
        let parts = await Self.parts(
            RoutingRules(stickiness: .field("session_id")), weights: (5_000, 5_000))
        // The versions differ in the number of features; rows of both kinds tell which version was chosen.
        var seen: Set<Int> = []
        for session in 0..<40 {
            var ports: Set<Int> = []
            for text in ["\"a\(session)\"", "\"\\u0061\(session)\""] {
                for features in ["[1,2]", "[1,2,3,4]"] {
                    let before = parts.backend.calls.count
                    _ = try await run(parts, #"{"model":"iris","session_id":\#(text),"features":\#(features)}"#)
                    ports.formUnion(parts.backend.calls.dropFirst(before).map(\.address.port))
                }
            }
            #expect(ports.count == 1)
            seen.formUnion(ports)
        }
        #expect(seen == [1, 2])
        #expect(parts.backend.calls.allSatisfy { !String(buffer: $0.body).contains("session_id") })
        for (body, location) in [
            (#"{"model":"iris","session_id":{},"features":[1,2]}"#, "/session_id"),
            (#"{"model":"iris","session_id":1.5,"features":[1,2]}"#, "/session_id"),
            (#"{"model":"iris","session":"a","features":[1,2]}"#, "/session"),
        ] {
            // Which version is drawn does not matter: the field is looked at first.
            let refusal = refusal(try await run(parts, body))
            #expect(refusal?.code == .validationFailed && refusal?.errors.first?.location == location)
        }
    }

    // MARK: Mirrors

    /// Waits until a condition holds, and fails after some seconds.
    private func eventually(_ what: Comment, _ condition: () -> Bool) async throws {
        for _ in 0..<1_000 where !condition() { try await Task.sleep(nanoseconds: 5_000_000) }
        #expect(condition(), what)
    }

    private static let mirror = RoutingRules(
        defaultVersion: "2.0.0", mirror: MirrorRule(model: nil, version: "1.0.0", share: 10_000))

    /// Runs a body beside the task that sends copies.
    private func mirroring(_ mirrors: MirrorTraffic, _ body: () async throws -> Void) async throws {
        let sending = Task { await mirrors.run() }
        defer { sending.cancel() }
        try await body()
    }

    @Test("a copy is sent beside the request under an id of its own, and nothing is recorded of it")
    func mirrored() async throws {
        // The mirror's version takes two features, so that both versions have to agree here.
        let parts = await Self.parts(
            RoutingRules(defaultVersion: "1.0.0", mirror: MirrorRule(model: nil, version: "2.0.0", share: 10_000)))
        parts.routeSource.set(
            RouteSnapshot(
                table: RouteTable(
                    [
                        ModelRoute(
                            profile: Installation.route().profile,
                            replicas: [
                                Installation.replica(1, version: "1.0.0"), Installation.replica(2, version: "2.0.0"),
                            ], versions: [ModelVersion(name: "1.0.0"), ModelVersion(name: "2.0.0")],
                            rules: Self.mirror)
                    ], source: .registry), redis: .notConfigured, isRegistryFresh: true))
        await parts.routes.refresh()
        let mirrors = MirrorTraffic()
        try await mirroring(mirrors) {
            #expect(prediction(try await run(parts, Installation.body, mirrors: mirrors)) != nil)
            try await eventually("the copy is sent") { parts.backend.calls.count == 2 }
        }
        #expect(parts.backend.calls.map(\.address.port) == [2, 1])
        #expect(Set(parts.backend.calls.map(\.requestID)).count == 2)
        #expect(parts.backend.calls[1].totalMilliseconds == 5_000)
        #expect(parts.settler.settlements.count == 1)
        #expect(parts.ledger.openLeases.count == 1)
    }

    @Test("where no place is free the copy is dropped, and the request is answered all the same")
    func full() async throws {
        let parts = await Self.parts(Self.mirror)
        // Nobody sends: the first copy keeps the one place.
        let mirrors = MirrorTraffic(limit: 1)
        for _ in 0..<3 {
            #expect(prediction(try await run(parts, Installation.body, mirrors: mirrors)) != nil)
        }
        try await mirroring(mirrors) {
            // The mirror's version takes two features, so that this copy fails before it is sent and its place is free again.
            try await eventually("the place is free") { mirrors.isIdle }
        }
        #expect(parts.backend.calls.allSatisfy { $0.address.port == 2 })
        #expect(parts.settler.settlements.allSatisfy { $0.isBilled })
    }
}

@Suite("Reading routes") struct RouteRefreshTests {
    /// A clock whose first reading, once it is armed, lets another reader of the routes go ahead.
    private final class MeddlingTime: TimeSource {
        let inner = ManualTime(Installation.noon)
        private let meddle = Mutex<(@Sendable () -> Void)?>(nil)

        func arm(_ meddle: @escaping @Sendable () -> Void) { self.meddle.withLock { $0 = meddle } }

        var now: Timestamp { inner.now }
        var monotonicNanoseconds: UInt64 {
            let due = meddle.withLock { meddle in
                defer { meddle = nil }
                return meddle
            }
            due?()
            return inner.monotonicNanoseconds
        }
    }

    private final class CountingSource: RouteSource {
        let inner: FakeRouteSource
        private let count = Mutex(0)

        init(_ inner: FakeRouteSource) { self.inner = inner }

        var loads: Int { count.withLock { $0 } }
        func load() async -> RouteSnapshot {
            count.withLock { $0 += 1 }
            return await inner.load()
        }
    }

    private final class Meddling: Sendable {
        let isDone = Mutex(false)
        let task = Mutex<Task<Void, Never>?>(nil)
    }

    @Test("of two readers at once, the one that read later has the last word")
    func newest() async throws {
        let time = MeddlingTime()
        let source = FakeRouteSource([Installation.route(replicas: [Installation.replica(1)])])
        let deliveries = DeliveryDirectory(defaults: DeliveryPolicy(), time: time, logger: Installation.logger)
        let counting = CountingSource(source)
        let routes = RouteDirectory(source: counting, deliveries: deliveries, logger: Installation.logger)
        let other = Meddling()
        // The clock is read while the first reader binds its table.
        time.arm {
            source.set(
                RouteSnapshot(
                    table: RouteTable([Installation.route(replicas: [Installation.replica(2)])], source: .registry),
                    redis: .notConfigured, isRegistryFresh: true))
            let task = Task.detached {
                await routes.refresh()
                other.isDone.withLock { $0 = true }
            }
            other.task.withLock { $0 = task }
            let patience = ContinuousClock.now + .seconds(20)
            while counting.loads < 2, ContinuousClock.now < patience { sched_yield() }
            // The later one comes to its end here, or has to wait for this one.
            let limit = ContinuousClock.now + .milliseconds(500)
            while !other.isDone.withLock({ $0 }), ContinuousClock.now < limit { sched_yield() }
        }
        await routes.refresh()
        await other.task.withLock { $0 }?.value
        #expect(routes.current.table["iris"]?.replicas.map(\.address.port) == [2])
        #expect(deliveries.readings.map(\.replica.address.port) == [2])
    }
}
