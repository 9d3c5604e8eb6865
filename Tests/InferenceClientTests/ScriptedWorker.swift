import Domain
import NIOCore
import NIOPosix
import NIOSSL
import Synchronization

#if canImport(Darwin)
    import Darwin
#else
    import Glibc
#endif

/// A worker that answers with exactly the bytes that a test wants, on 127.0.0.1.
final class ScriptedWorker: Sendable {
    struct Received: Sendable {
        /// Which connection, counted from 0 in the order of acceptance.
        let connection: Int
        /// Which request of that connection, counted from 0.
        let number: Int
        let head: String
        let body: String
    }

    enum Action: Sendable {
        case send(String)
        case close
        /// Closes so that the peer sees a reset and not an orderly end.
        case reset
    }

    struct Record: Sendable {
        var received: [Received] = []
        var connectionCount = 0
        var closedCount = 0
        var byteCount = 0
    }

    typealias Script = @Sendable (Received) -> [Action]

    private struct State {
        var record = Record()
        var channels: [any Channel] = []
        var waiters: [(condition: @Sendable (Record) -> Bool, continuation: CheckedContinuation<Void, Never>)] = []
    }

    private let state = Mutex(State())
    private let script: Script
    private let listener = Mutex<(any Channel)?>(nil)

    init(_ script: @escaping Script) {
        self.script = script
    }

    static let group = MultiThreadedEventLoopGroup.singleton

    func start(tls: NIOSSLContext? = nil, on group: any EventLoopGroup = group) async throws {
        let channel = try await ServerBootstrap(group: group)
            .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
            .childChannelOption(.tcpOption(.tcp_nodelay), value: 1)
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    if let tls { try channel.pipeline.syncOperations.addHandler(NIOSSLServerHandler(context: tls)) }
                    try channel.pipeline.syncOperations.addHandler(ScriptHandler(worker: self))
                }
            }
            .bind(host: "127.0.0.1", port: 0).get()
        listener.withLock { $0 = channel }
    }

    var port: Int { listener.withLock { $0?.localAddress?.port } ?? 0 }
    var address: WorkerAddress { WorkerAddress(host: "127.0.0.1", port: port) }
    var record: Record { state.withLock { $0.record } }

    func stop() async {
        let (listening, channels) = (listener.withLock { $0 }, state.withLock { $0.channels })
        for channel in channels { try? await channel.close().get() }
        try? await listening?.close().get()
    }

    func send(_ text: String, on connection: Int) {
        let channel = state.withLock { $0.channels[connection] }
        channel.writeAndFlush(ByteBuffer(string: text), promise: nil)
    }

    func close(connection: Int) {
        state.withLock { $0.channels[connection] }.close(promise: nil)
    }

    /// Ends the TCP connection under a TLS session without ending the session.
    func cut(connection: Int) {
        let channel = state.withLock { $0.channels[connection] }
        channel.eventLoop.execute {
            let context = try? channel.pipeline.syncOperations.context(handlerType: NIOSSLServerHandler.self)
            context?.close(promise: nil)
        }
    }

    /// Closes so that the peer sees a reset.
    func reset(connection: Int) {
        let channel = state.withLock { $0.channels[connection] }
        channel.eventLoop.execute { Self.reset(channel) }
    }

    /// Closing with a linger time of zero sends a reset. On the loop the option is set at once.
    fileprivate static func reset(_ channel: any Channel) {
        _ = (channel as? any SocketOptionProvider)?.setSoLinger(linger(l_onoff: 1, l_linger: 0))
        channel.close(promise: nil)
    }

    /// Returns when what the worker has seen satisfies the condition; the test's time limit is the bound.
    func wait(until condition: @escaping @Sendable (Record) -> Bool) async {
        await withCheckedContinuation { continuation in
            let isMet = state.withLock { state in
                if condition(state.record) { return true }
                state.waiters.append((condition, continuation))
                return false
            }
            if isMet { continuation.resume() }
        }
    }

    private func change<Value: Sendable>(_ body: (inout Record) -> Value) -> Value {
        let (value, ready) = state.withLock { state in
            let value = body(&state.record)
            let ready = state.waiters.filter { $0.condition(state.record) }
            state.waiters.removeAll { $0.condition(state.record) }
            return (value, ready.map(\.continuation))
        }
        for continuation in ready { continuation.resume() }
        return value
    }

    fileprivate func accepted(_ channel: any Channel) -> Int {
        state.withLock { $0.channels.append(channel) }
        return change { record in
            record.connectionCount += 1
            return record.connectionCount - 1
        }
    }

    fileprivate func took(byteCount: Int) {
        change { $0.byteCount += byteCount }
    }

    fileprivate func closed() {
        change { $0.closedCount += 1 }
    }

    fileprivate func actions(for received: Received) -> [Action] {
        change { $0.received.append(received) }
        return script(received)
    }
}

/// Cuts the stream into requests and plays the script.
private final class ScriptHandler: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    private let worker: ScriptedWorker
    private var connection = 0
    private var number = 0
    private var bytes = ""

    init(worker: ScriptedWorker) {
        self.worker = worker
    }

    func channelActive(context: ChannelHandlerContext) {
        connection = worker.accepted(context.channel)
        context.fireChannelActive()
    }

    func channelInactive(context: ChannelHandlerContext) {
        worker.closed()
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        context.close(promise: nil)
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        let buffer = unwrapInboundIn(data)
        worker.took(byteCount: buffer.readableBytes)
        bytes += String(buffer: buffer)
        while let received = nextRequest() {
            for action in worker.actions(for: received) {
                switch action {
                case .send(let text): context.writeAndFlush(wrapOutboundOut(ByteBuffer(string: text)), promise: nil)
                case .close: context.close(promise: nil)
                case .reset: ScriptedWorker.reset(context.channel)
                }
            }
        }
    }

    private func nextRequest() -> ScriptedWorker.Received? {
        guard let end = bytes.utf8.firstRange(of: "\r\n\r\n".utf8) else { return nil }
        let head = String(bytes[..<end.lowerBound])
        let length = head.split(separator: "\r\n").first { $0.hasPrefix("content-length: ") }.flatMap {
            Int($0.dropFirst(16))
        }
        let rest = bytes.utf8[end.upperBound...]
        guard rest.count >= length ?? 0 else { return nil }
        let body = String(Substring(rest.prefix(length ?? 0)))
        bytes = String(Substring(rest.dropFirst(length ?? 0)))
        defer { number += 1 }
        return .init(connection: connection, number: number, head: head, body: body)
    }
}
