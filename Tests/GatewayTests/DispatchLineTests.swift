import Domain
import Logging
import NIOCore
import NIOPosix
import Synchronization
import TestSupport
import Testing

@testable import Gateway

extension DispatchTests {
    // MARK: the line

    static let narrow = DeliverySettings(numbers: [
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
}
