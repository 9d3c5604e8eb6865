public import Logging
import NIOCore
import NIOHTTP1
import NIOPosix
import Synchronization

/// A small inference worker over HTTP/1.1: Open Inference Protocol v2 and plain predict, for models whose answers are
/// known.
///
/// It serves development, the end-to-end tests and the benchmarks, and so is built to cost little beside what it is
/// measured against: channel handlers only, no task and no hop per request.
///
/// | method and path | what |
/// |---|---|
/// | POST `/predict`, `/predict/` | `{"model", "version"?, "features" or "inputs"}` |
/// | POST `/v2/models/{m}[/versions/{v}]/infer` | inference by the protocol |
/// | GET `/v2`, `/v2/models/{m}[/versions/{v}]` | metadata |
/// | GET `/v2/health/live`, `/v2/health/ready`, `/v2/models/{m}[/versions/{v}]/ready`, `/health` | health |
/// | GET `/metrics` | counters in Prometheus' text format |
public final class ReferenceWorkerServer: Sendable {
    private struct Running: Sendable {
        let group: MultiThreadedEventLoopGroup
        let listener: any Channel
        let connections: ConnectionRegistry
    }

    private enum State {
        case idle
        case starting
        case running(Running)
        case stopped
    }

    private let models: LoadedModels
    private let configuration: Configuration
    private let logger: Logger
    private let state = Mutex(State.idle)

    public init(models: LoadedModels, configuration: Configuration, logger: Logger) {
        self.models = models
        self.configuration = configuration
        self.logger = logger
    }

    /// Listens, once.
    /// - Returns: the port, which matters where the configuration left it open.
    public func start() async throws(ReferenceWorkerError) -> Int {
        try configuration.check()
        let mayStart = state.withLock { state in
            guard case .idle = state else { return false }
            state = .starting
            return true
        }
        guard mayStart else { throw .notStartable }
        let running: Running
        do throws(ReferenceWorkerError) {
            running = try await listen()
        } catch {
            state.withLock { $0 = .stopped }
            throw error
        }
        let isWanted = state.withLock { state in
            guard case .starting = state else { return false }
            state = .running(running)
            return true
        }
        guard isWanted else {
            await stop(running)
            throw .notStartable
        }
        let port = running.listener.localAddress?.port ?? configuration.port
        logger.debug("reference worker listens", metadata: ["host": "\(configuration.host)", "port": "\(port)"])
        return port
    }

    /// Stops listening, lets answers that are due leave within `drainTimeoutMilliseconds`, and closes. Does nothing
    /// when not running.
    public func shutdown() async {
        let running = state.withLock { state -> Running? in
            let previous = state
            state = .stopped
            guard case .running(let running) = previous else { return nil }
            return running
        }
        guard let running else { return }
        await stop(running)
        logger.debug("reference worker stopped")
    }

    private func stop(_ running: Running) async {
        // An error here says that the listener is closed already, which is what is wanted.
        try? await running.listener.close().get()
        await running.connections.drain(
            on: running.listener.eventLoop, timeout: .milliseconds(configuration.drainTimeoutMilliseconds))
        try? await running.group.shutdownGracefully()
    }

    private func listen() async throws(ReferenceWorkerError) -> Running {
        let service = InferenceService(
            models: models, allowsFaults: configuration.allowsFaults,
            delayMilliseconds: configuration.delayMilliseconds,
            slowFaultMilliseconds: configuration.slowFaultMilliseconds, journal: try openJournal(),
            counters: WorkerCounters())
        let connections = ConnectionRegistry(maximumConnections: configuration.maximumConnections)
        let group = MultiThreadedEventLoopGroup(numberOfThreads: configuration.eventLoops)
        let bootstrap = ServerBootstrap(group: group)
            .serverChannelOption(.backlog, value: 512)
            .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
            .childChannelInitializer { [configuration] channel in
                guard connections.admit(channel) else { return channel.close() }
                return channel.eventLoop.makeCompletedFuture {
                    try Self.configure(channel, configuration, service)
                }
            }
        do {
            let listener = try await bootstrap.bind(host: configuration.host, port: configuration.port).get()
            return Running(group: group, listener: listener, connections: connections)
        } catch {
            try? await group.shutdownGracefully()
            throw .cannotListen(host: configuration.host, port: configuration.port, reason: "\(error)")
        }
    }

    private func openJournal() throws(ReferenceWorkerError) -> InferenceJournal? {
        guard let path = configuration.journalPath else { return nil }
        return try InferenceJournal(path: path)
    }

    private static func configure(
        _ channel: any Channel, _ configuration: Configuration, _ service: InferenceService
    ) throws {
        var limits = NIOHTTPDecoderLimitConfiguration()
        limits.maxHeaderFieldSize = 16 * 1024
        limits.maxHeaderListSize = 32 * 1024
        limits.maxHeaderFieldCount = 100
        let pipeline = channel.pipeline.syncOperations
        try pipeline.addHandler(IdleStateHandler(allTimeout: .milliseconds(configuration.idleTimeoutMilliseconds)))
        // The pipelining assistance holds a second request back until the first one is answered, so the handler knows
        // one at a time. All headers that it writes are constants, so checking them again would find nothing.
        try pipeline.configureHTTPServerPipeline(
            withPipeliningAssistance: true, withErrorHandling: true, withOutboundHeaderValidation: false,
            withEncoderConfiguration: .init(), withDecoderLimitConfiguration: limits)
        try pipeline.addHandler(
            WorkerConnectionHandler(service: service, maximumBodyBytes: configuration.maximumBodyBytes))
    }
}
