import Logging
import NIOCore
import NIOPosix
import RedisDriver
import Synchronization
import TestSupport

/// Runs a test with a client and shuts that down however the test ends.
func withClient<Value>(
    _ url: String, on group: any EventLoopGroup = MultiThreadedEventLoopGroup.singleton,
    configure: (inout RedisConfiguration) -> Void = { _ in }, _ body: (RedisClient) async throws -> Value
) async throws -> Value {
    var configuration = try RedisConfiguration(url: url)
    // The tests share two processors with much else; those about time choose their own.
    configuration.commandTimeoutMilliseconds = 10_000
    configuration.connectTimeoutMilliseconds = 10_000
    configuration.backoff = RedisBackoff(baseMilliseconds: 5, maximumMilliseconds: 50)
    configure(&configuration)
    let client = try RedisClient(
        configuration: configuration, eventLoopGroup: group,
        logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
    do {
        let value = try await body(client)
        await client.shutdown()
        return value
    } catch {
        await client.shutdown()
        throw error
    }
}

/// The error of a command that has to fail.
func failure(_ body: () async throws -> some Any) async -> RedisError? {
    do {
        _ = try await body()
        return nil
    } catch {
        return error as? RedisError
    }
}

/// Waits until the client says that Redis is reachable, or is not.
func wait(for client: RedisClient, toBe expected: Bool) async {
    for await isAvailable in client.availabilityChanges() where isAvailable == expected { return }
}

/// A listener that answers the log-in and after that sends whatever it was told to.
final class FakeServer: Sendable {
    let port: Int
    private let channel: any Channel
    private let log = LoggedCommands()

    /// - Parameter answer: what to send for a command after the log-in; `nil` closes the connection.
    init(answer: @escaping @Sendable () -> [UInt8]?) async throws {
        let log = self.log
        channel = try await ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.addHandler(AnswerHandler(log: log, answer: answer))
                }
            }
            .bind(host: "127.0.0.1", port: 0).get()
        port = channel.localAddress?.port ?? 0
    }

    var url: String { "redis://127.0.0.1:\(port)" }
    /// What came after the log-in, over all connections.
    var commands: [String] { log.all }

    func stop() async { _ = try? await channel.close() }
}

private final class LoggedCommands: Sendable {
    private let list = Mutex<[String]>([])
    var all: [String] { list.withLock { $0 } }
    func add(_ text: String) { list.withLock { $0.append(text) } }
}

private final class AnswerHandler: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    private var isLoggedIn = false
    private let log: LoggedCommands
    private let answer: @Sendable () -> [UInt8]?

    init(log: LoggedCommands, answer: @escaping @Sendable () -> [UInt8]?) {
        self.log = log
        self.answer = answer
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        guard isLoggedIn else {
            isLoggedIn = true
            context.writeAndFlush(wrapOutboundOut(ByteBuffer(string: "+OK\r\n")), promise: nil)
            return
        }
        log.add(String(buffer: unwrapInboundIn(data)))
        if let bytes = answer() {
            context.writeAndFlush(wrapOutboundOut(ByteBuffer(bytes: bytes)), promise: nil)
        } else {
            context.close(promise: nil)
        }
    }
}
