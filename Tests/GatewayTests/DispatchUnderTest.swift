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
