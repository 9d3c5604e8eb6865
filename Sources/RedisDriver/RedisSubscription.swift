public import Logging
public import NIOCore
import Synchronization

/// Listens to channels and patterns over a connection of its own, for as long as it lives.
///
/// Redis keeps nothing for a subscriber that is away. So after every `.connected`, also the first, and after every
/// `.missed` the consumer has to read the whole state that the messages are about; between them messages tell of all
/// changes. For keyspace notifications the server needs `notify-keyspace-events`.
public final class RedisSubscription: Sendable {
    public enum Event: Hashable, Sendable {
        /// Subscribed to everything. Messages from before are lost.
        case connected
        case message(RedisMessage)
        /// The consumer was too slow and the oldest events were thrown away.
        case missed
    }

    /// The events, for one consumer. Ends at `shutdown()`.
    public let events: AsyncStream<Event>

    private let eventLoop: any EventLoop
    private let keeper: NIOLoopBoundBox<ConnectionKeeper>
    private let buffer: SubscriptionBuffer
    private let availability = RedisAvailability()

    /// Begins to connect at once.
    /// - Parameters:
    ///   - channels: names for SUBSCRIBE, for example `__keyspace@0__:model_routes`.
    ///   - patterns: glob patterns for PSUBSCRIBE.
    ///   - jitter: a random number between zero and the given number of milliseconds, both included; for the backoff.
    /// - Throws: `.invalidConfiguration`, or `.tls` if the certificate authorities cannot be read.
    public init(
        configuration: RedisConfiguration, channels: [String], patterns: [String] = [], eventLoop: any EventLoop,
        logger: Logger, jitter: @escaping @Sendable (Int64) -> Int64 = { Int64.random(in: 0...$0) }
    ) throws(RedisError) {
        guard !channels.isEmpty || !patterns.isEmpty else {
            throw .invalidConfiguration("a subscription has neither channels nor patterns")
        }
        let commands = channels.map { RedisCommand("SUBSCRIBE", $0) } + patterns.map { RedisCommand("PSUBSCRIBE", $0) }
        let endpoint = try RedisEndpoint(configuration: configuration)
        // They leave together with the log-in; with too small a bound it would be refused at every attempt.
        guard endpoint.loginSteps().count + commands.count <= configuration.maximumPendingCommands else {
            throw .invalidConfiguration("a subscription has more channels than commands may be outstanding")
        }
        let buffer = SubscriptionBuffer(count: configuration.subscriptionBufferCount)
        let availability = self.availability
        let plan = SubscriptionPlan(commands: commands) { buffer.add(.message($0)) }
        self.buffer = buffer
        events = buffer.stream
        self.eventLoop = eventLoop
        keeper = NIOLoopBoundBox.makeBoxSendingValue(
            ConnectionKeeper(
                endpoint: endpoint, eventLoop: eventLoop, logger: logger, subscription: plan, jitter: jitter
            ) {
                availability.record($0)
                if case .ready = $0 { buffer.add(.connected) }
            },
            eventLoop: eventLoop)
        let keeper = self.keeper
        eventLoop.execute { keeper.value.start() }
    }

    /// Whether it is subscribed at this moment.
    public var isConnected: Bool { availability.isAvailable }

    /// Why the last attempt or connection ended; `nil` once it is subscribed again.
    public var lastError: RedisError? { availability.lastError }

    /// Closes the connection and ends the events.
    public func shutdown() async {
        let keeper = self.keeper
        // A close that fails has closed as well.
        _ = try? await eventLoop.flatSubmit { keeper.value.stop() }.get()
        buffer.finish()
        availability.finish()
    }
}

/// A bounded buffer of events that keeps the newest and owns up to what it threw away.
final class SubscriptionBuffer: Sendable {
    private struct Position {
        /// Number of the newest event.
        var newest = 0
        /// Number of the newest `.missed`.
        var missed = 0
    }

    let stream: AsyncStream<RedisSubscription.Event>
    private let continuation: AsyncStream<RedisSubscription.Event>.Continuation
    private let count: Int
    private let position = Mutex(Position())

    init(count: Int) {
        self.count = count
        (stream, continuation) = AsyncStream.makeStream(bufferingPolicy: .bufferingNewest(count))
    }

    func add(_ event: RedisSubscription.Event) {
        position.withLock { position in
            position.newest += 1
            guard case .dropped = continuation.yield(event) else { return }
            // A full buffer holds the `count` newest events, so the one thrown away is number `newest - count`. If a
            // `.missed` after it is still in the buffer, that one covers it; another would only push out more messages.
            guard position.missed <= position.newest - count else { return }
            position.newest += 1
            position.missed = position.newest
            continuation.yield(.missed)
        }
    }

    func finish() { continuation.finish() }
}
