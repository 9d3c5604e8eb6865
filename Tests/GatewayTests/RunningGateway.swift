import Domain
import Hummingbird
import NIOPosix
import ServiceLifecycle
import Synchronization
import TestSupport

@testable import Gateway

/// A gateway on a free loopback port, with fakes behind it, for the time of one test.
struct RunningGateway: Sendable {
    let port: Int
    let parts: Installation
    private let stop: @Sendable () async -> Void

    var key: String { parts.key.revealed }

    func connect() throws -> RawConnection { try RawConnection(port: port) }

    /// Begins the ordered stop; returns at once.
    func beginStop() async { await stop() }

    /// A metered request as a client would send it.
    func predict(_ body: String = Installation.body, fields: [String] = [], key: String? = nil) -> String {
        let all =
            [
                "host: weir.test", "authorization: Bearer \(key ?? self.key)", "content-type: application/json",
                "content-length: \(body.utf8.count)",
            ] + fields
        return "POST /predict HTTP/1.1\r\n" + all.joined(separator: "\r\n") + "\r\n\r\n" + body
    }

    func get(_ path: String, method: String = "GET", fields: [String] = []) -> String {
        let all = ["host: weir.test", "authorization: Bearer \(key)"] + fields
        return "\(method) \(path) HTTP/1.1\r\n" + all.joined(separator: "\r\n") + "\r\n\r\n"
    }

    /// Runs a gateway for `body`, and stops it however that ends.
    static func with<Value: Sendable>(
        _ parts: Installation, configure: (inout GatewayServer.Configuration) -> Void = { _ in },
        _ body: @Sendable (RunningGateway) async throws -> Value
    ) async throws -> Value {
        var configuration = GatewayServer.Configuration()
        configuration.port = 0
        configuration.contract = "openapi: 3.1.0\n"
        configure(&configuration)
        let eventLoops = MultiThreadedEventLoopGroup(numberOfThreads: 1)
        let server = GatewayServer(
            configuration: configuration, parts: parts.parts, eventLoops: eventLoops, logger: Installation.logger)
        let listening = AsyncStream<Int>.makeStream()
        let application = try await server.makeApplication { port in listening.continuation.yield(port) }
        let services = ServiceGroup(configuration: .init(services: [application], logger: Installation.logger))
        let value = try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { try await services.run() }
            var port = 0
            for await found in listening.stream {
                port = found
                break
            }
            let running = RunningGateway(port: port, parts: parts, stop: { await services.triggerGracefulShutdown() })
            let result: Result<Value, any Error>
            do { result = .success(try await body(running)) } catch { result = .failure(error) }
            await services.triggerGracefulShutdown()
            try await group.waitForAll()
            return try result.get()
        }
        try await eventLoops.shutdownGracefully()
        return value
    }
}
