internal import Glibc
public import Logging
public import ServiceLifecycle
internal import Synchronization

/// Follows channels of LISTEN/NOTIFY on a session and a thread of its own, and connects anew when the session is lost.
///
/// A notification is a hint, not a record: what was sent while nobody listened is gone. The consumer therefore reads
/// its snapshot anew on every `.connected`.
public final class PostgresListener: Service {
    public enum Event: Sendable, Equatable {
        /// Listening begins, for the first time or again, or events had to be dropped: read the snapshot anew.
        case connected
        case notification(channel: String, payload: String)
    }

    /// The events, for one consumer. When it falls behind, the oldest are dropped and a `.connected` is added. Ends
    /// with `run`.
    public let events: AsyncStream<Event>

    private let configuration: PostgresConfiguration
    private let channels: [String]
    private let pingMilliseconds: Int
    private let backoffMaximumMilliseconds: UInt64
    private let logger: Logger
    private let continuation: AsyncStream<Event>.Continuation
    private let thread: PostgresThread
    private let wake: WakePipe
    private let generator: Mutex<any RandomNumberGenerator & Sendable>

    /// - Parameters:
    ///   - channels: plain lower-case identifiers.
    ///   - bufferLimit: how many events wait for the consumer at most.
    ///   - pingMilliseconds: after so much silence the server is asked for a sign of life.
    /// - Throws: `.configuration` for a channel's name; `.connectionFailed` when no thread or descriptor can be had.
    public init(
        configuration: PostgresConfiguration, channels: [String], bufferLimit: Int = 1_024,
        pingMilliseconds: Int = 10_000,
        backoffMaximumMilliseconds: Int = 5_000, logger: Logger,
        generator: any RandomNumberGenerator & Sendable = SystemRandomNumberGenerator()
    ) throws(PostgresError) {
        guard channels.allSatisfy(isPlainIdentifier) else {
            throw PostgresError(.configuration, "a channel must match ^[a-z_][a-z0-9_]*$")
        }
        self.configuration = configuration
        self.channels = channels
        self.pingMilliseconds = max(pingMilliseconds, 1)
        self.backoffMaximumMilliseconds = UInt64(max(backoffMaximumMilliseconds, 1))
        self.logger = logger
        self.generator = Mutex(generator)
        thread = try PostgresThread(name: "postgres-listen")
        wake = try WakePipe()
        (events, continuation) = AsyncStream.makeStream(bufferingPolicy: .bufferingNewest(max(bufferLimit, 2)))
    }

    /// Listens until graceful shutdown or cancellation.
    public func run() async throws {
        await withTaskCancellationOrGracefulShutdownHandler {
            await thread.run { [self] in listen() }
        } onCancelOrGracefulShutdown: {
            self.wake.raise()
        }
    }

    /// Everything from here on runs on the thread.
    private func listen() {
        let session = PostgresSession(configuration: configuration)
        var failureCount = 0
        while !wake.isRaised {
            do throws(PostgresError) {
                try session.connect()
                try session.listen(to: channels)
                failureCount = 0
                yield(.connected)
                try follow(session)
            } catch {
                failureCount += 1
                logger.debug("database listener lost its connection", metadata: ["error": "\(error)"])
            }
            session.close()
            if failureCount > 0 { wake.wait(milliseconds: delay(after: failureCount)) }
        }
        continuation.finish()
    }

    private func follow(_ session: PostgresSession) throws(PostgresError) {
        while !wake.isRaised {
            let hasInput = try session.awaitNotification(orWake: wake.reader, timeoutMilliseconds: pingMilliseconds)
            if !hasInput, !wake.isRaised { _ = try session.execute(Ping()) }
            for notification in session.takeNotifications() {
                yield(.notification(channel: notification.channel, payload: notification.payload))
            }
        }
    }

    private func yield(_ event: Event) {
        // A dropped hint must not stay unnoticed: the consumer is told to read everything anew.
        if case .dropped = continuation.yield(event), event != .connected {
            continuation.yield(.connected)
        }
    }

    /// Full jitter, as in the pool.
    private func delay(after failureCount: Int) -> Int {
        let ceiling = min(UInt64(50) << UInt64(min(failureCount - 1, 20)), backoffMaximumMilliseconds)
        return generator.withLock { Int(UInt64.random(in: 0...ceiling, using: &$0)) }
    }
}

private struct Ping: PostgresStatement {
    static let name = "PostgresListener.Ping"
    static let sql = "SELECT"
}

/// A pipe that is readable once it was raised, so that a thread in `poll` can be woken from outside.
private final class WakePipe: Sendable {
    let reader: Int32
    private let writer: Int32

    init() throws(PostgresError) {
        var ends: [Int32] = [-1, -1]
        guard pipe(&ends) == 0 else { throw PostgresError(.connectionFailed, "no descriptor is left for the listener") }
        (reader, writer) = (ends[0], ends[1])
        for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
    }

    deinit {
        close(reader)
        close(writer)
    }

    func raise() {
        // Raising twice would do no harm, but a full pipe would block.
        if !isRaised { _ = write(writer, [1] as [UInt8], 1) }
    }

    var isRaised: Bool { wait(milliseconds: 0) }

    /// - Returns: whether it was raised.
    @discardableResult
    func wait(milliseconds: Int) -> Bool {
        var entry = pollfd(fd: reader, events: Int16(POLLIN), revents: 0)
        return poll(&entry, 1, Int32(clamping: milliseconds)) > 0
    }
}
