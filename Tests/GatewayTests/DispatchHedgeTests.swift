import Domain
import Logging
import NIOCore
import NIOPosix
import Synchronization
import TestSupport
import Testing

@testable import Gateway

extension DispatchTests {
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
