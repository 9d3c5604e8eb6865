import Domain
import Logging
import NIOCore
import NIOPosix
import ServiceLifecycle
import TestSupport

@testable import Admin

/// The admin listener on a free loopback port, with fakes behind it, for the time of one test.
struct RunningAdmin: Sendable {
    let port: Int

    func connect() throws -> RawConnection { try RawConnection(port: port) }

    /// A request with these lines below the first, and an empty line.
    func head(_ first: String, _ fields: [String] = ["host: weir.test", "authorization: Bearer admin"]) -> String {
        ([first + " HTTP/1.1"] + fields + ["", ""]).joined(separator: "\r\n")
    }

    /// A good request.
    var good: String { head("GET /admin/v1/tenants") }

    static func with<Value: Sendable>(
        _ admin: AdminUnderTest = AdminUnderTest(), configure: (inout AdminServer.Configuration) -> Void = { _ in },
        _ body: @Sendable (RunningAdmin) async throws -> Value
    ) async throws -> Value {
        var configuration = AdminServer.Configuration()
        configuration.port = 0
        configure(&configuration)
        let eventLoops = MultiThreadedEventLoopGroup(numberOfThreads: 1)
        let logger = Logger(label: "admin.tests") { _ in SwiftLogNoOpLogHandler() }
        let server = AdminServer(
            configuration: configuration, parts: admin.parts(time: RunningTime()), eventLoops: eventLoops,
            logger: logger)
        let listening = AsyncStream<Int>.makeStream()
        let application = server.makeApplication { port in listening.continuation.yield(port) }
        let services = ServiceGroup(configuration: .init(services: [application], logger: logger))
        let value = try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { try await services.run() }
            var port = 0
            for await found in listening.stream {
                port = found
                break
            }
            let result: Result<Value, any Error>
            do { result = .success(try await body(RunningAdmin(port: port))) } catch { result = .failure(error) }
            await services.triggerGracefulShutdown()
            try await group.waitForAll()
            return try result.get()
        }
        try await eventLoops.shutdownGracefully()
        return value
    }
}

/// A fixed date and a clock that runs, for what the listener waits for.
private struct RunningTime: TimeSource {
    private let start = ContinuousClock.now

    var now: Timestamp { FixedTime().now }
    var monotonicNanoseconds: UInt64 {
        let passed = start.duration(to: .now).components
        return UInt64(passed.seconds) * 1_000_000_000 + UInt64(passed.attoseconds / 1_000_000_000)
    }
}
