public import Logging
public import NIOCore
import NIOPosix
import Synchronization

/// Redis, through one pipelined connection for each event loop.
///
/// Connections are made when first used and again after every loss. The very first commands wait for the first attempt
/// within their own deadline; from then on a command that finds no connection fails at once, so an outage costs a
/// caller no time. Nothing is ever sent twice by the client: whether to repeat is the caller's decision, and
/// `RedisError.mayHaveBeenExecuted` is what it needs for that.
///
/// A cancelled task still waits for its reply, which is no further away than the command timeout. Call `shutdown()`
/// before the event loops end.
public final class RedisClient: Sendable {
    private struct Slot: Sendable {
        let eventLoop: any EventLoop
        let keeper: NIOLoopBoundBox<ConnectionKeeper>

        func submit(_ request: RedisRequest) {
            if eventLoop.inEventLoop {
                keeper.value.submit(request)
            } else {
                eventLoop.execute { keeper.value.submit(request) }
            }
        }
    }

    private let slots: [Slot]
    private let slotsByLoop: [ObjectIdentifier: [Slot]]
    private let cursor = Atomic<Int>(0)
    private let availability = RedisAvailability()
    private let isShutDown = Atomic<Bool>(false)

    /// - Parameters:
    ///   - eventLoopGroup: its loops carry the connections; it has to outlive the client.
    ///   - jitter: a random number between zero and the given number of milliseconds, both included; for the backoff.
    /// - Throws: `.invalidConfiguration`, or `.tls` if the certificate authorities cannot be read.
    public init(
        configuration: RedisConfiguration, eventLoopGroup: any EventLoopGroup, logger: Logger,
        jitter: @escaping @Sendable (Int64) -> Int64 = { Int64.random(in: 0...$0) }
    ) throws(RedisError) {
        let endpoint = try RedisEndpoint(configuration: configuration)
        let loops = Array(eventLoopGroup.makeIterator())
        guard !loops.isEmpty else { throw .invalidConfiguration("the event loop group has no loop") }
        let availability = self.availability
        slots = (0..<(configuration.connections ?? loops.count)).map { index in
            let loop = loops[index % loops.count]
            let keeper = NIOLoopBoundBox.makeBoxSendingValue(
                ConnectionKeeper(endpoint: endpoint, eventLoop: loop, logger: logger, jitter: jitter) {
                    availability.record($0)
                },
                eventLoop: loop)
            return Slot(eventLoop: loop, keeper: keeper)
        }
        slotsByLoop = Dictionary(grouping: slots) { ObjectIdentifier($0.eventLoop) }
    }

    // MARK: Commands

    /// Sends a command and waits for its reply.
    /// - Throws: `.serverError` for an error reply; everything else that `RedisError` lists except `.unexpectedReply`.
    public func send(_ command: RedisCommand) async throws(RedisError) -> RedisValue {
        let bytes = try command.encoded()
        let slot = slot(on: MultiThreadedEventLoopGroup.currentEventLoop)
        let result = await withCheckedContinuation { continuation in
            slot.submit(RedisRequest(bytes: bytes, completion: .continuation(continuation)))
        }
        return try result.get()
    }

    /// Sends a command given as its parts, the name first.
    public func send(_ arguments: [String]) async throws(RedisError) -> RedisValue {
        try await send(RedisCommand(arguments: arguments))
    }

    /// Sends a command given as its parts, the name first.
    public func send(_ arguments: [[UInt8]]) async throws(RedisError) -> RedisValue {
        try await send(RedisCommand(arguments: arguments))
    }

    /// Sends a command over a connection of this event loop, if the loop has one, and completes the future on the loop.
    /// The future fails with a `RedisError`.
    public func send(_ command: RedisCommand, on eventLoop: any EventLoop) -> EventLoopFuture<RedisValue> {
        let promise = eventLoop.makePromise(of: RedisValue.self)
        do throws(RedisError) {
            let bytes = try command.encoded()
            slot(on: eventLoop).submit(RedisRequest(bytes: bytes, completion: .promise(promise)))
        } catch {
            promise.fail(error)
        }
        return promise.futureResult
    }

    /// For whoever is on none.
    var homeLoop: any EventLoop { slots[0].eventLoop }

    private func slot(on eventLoop: (any EventLoop)?) -> Slot {
        let own = eventLoop.flatMap { slotsByLoop[ObjectIdentifier($0)] } ?? slots
        guard own.count > 1 else { return own[0] }
        let turn = cursor.wrappingAdd(1, ordering: .relaxed).oldValue
        return own[Int(UInt(bitPattern: turn) % UInt(own.count))]
    }

    // MARK: State

    /// Whether at least one connection is logged in. `false` before the first use.
    public var isAvailable: Bool { availability.isAvailable }

    /// Why the last attempt or connection ended; `nil` once a connection is ready again.
    public var lastError: RedisError? { availability.lastError }

    /// `isAvailable` now and at every change, the newest only; ends at shutdown.
    public func availabilityChanges() -> AsyncStream<Bool> { availability.changes() }

    /// Begins to connect on every loop, without waiting for it.
    public func start() {
        for slot in slots { slot.eventLoop.execute { slot.keeper.value.start() } }
    }

    /// Connects on every loop and waits until all are ready, so that the first requests find them so.
    /// - Throws: why one of them is not.
    public func warmUp() async throws(RedisError) {
        for slot in slots {
            let bytes = try RedisCommand("PING").encoded()
            let result = await withCheckedContinuation { continuation in
                slot.submit(RedisRequest(bytes: bytes, completion: .continuation(continuation)))
            }
            _ = try result.get()
        }
    }

    /// Takes no more commands, lets the outstanding ones finish within their deadlines, and closes all connections.
    public func shutdown() async {
        guard !isShutDown.exchange(true, ordering: .relaxed) else { return }
        await withTaskGroup(of: Void.self) { group in
            for slot in slots {
                group.addTask {
                    // A close that fails has closed as well.
                    _ = try? await slot.eventLoop.flatSubmit { slot.keeper.value.stop() }.get()
                }
            }
        }
        availability.finish()
    }
}
