/// What one connection's keeper does next: a pure value, events in and actions out.
///
/// ```
/// idle -demand-> connecting -connected-> ready -ended-> waiting -waited-> connecting -> …
///                    +------ended------------------------->+
/// ```
struct ReconnectMachine {
    enum State: Equatable {
        /// Nobody has asked for the connection yet.
        case idle
        case connecting
        case ready
        /// Between two attempts.
        case waiting
        case stopped
    }

    enum Action: Equatable {
        case none
        case connect
        case wait(milliseconds: Int64)
    }

    /// What becomes of a command that arrives now.
    enum Admission: Equatable {
        case send
        /// The very first attempt is under way; the command may wait for it within its own deadline.
        case hold
        /// Fail at once. This is the circuit: while Redis is away no command waits for an attempt to connect.
        case refuse
    }

    private(set) var state = State.idle
    /// Attempts and connections that ended since the last time it was ready, that one included.
    private(set) var failureCount = 0
    private let backoff: RedisBackoff

    init(backoff: RedisBackoff) { self.backoff = backoff }

    var admission: Admission {
        switch state {
        case .idle: .hold
        case .connecting: failureCount == 0 ? .hold : .refuse
        case .ready: .send
        case .waiting, .stopped: .refuse
        }
    }

    /// Somebody needs the connection.
    mutating func demand() -> Action {
        guard state == .idle else { return .none }
        state = .connecting
        return .connect
    }

    /// The connection is logged in.
    mutating func connected() {
        guard state == .connecting else { return }
        state = .ready
        failureCount = 0
    }

    /// An attempt failed or a ready connection ended.
    /// - Parameter jitter: a number between zero and the given bound, both included.
    mutating func ended(jitter: (Int64) -> Int64) -> Action {
        guard state == .connecting || state == .ready else { return .none }
        state = .waiting
        failureCount += 1
        return .wait(milliseconds: jitter(backoff.ceilingMilliseconds(failureCount: failureCount)))
    }

    /// The wait is over.
    mutating func waited() -> Action {
        guard state == .waiting else { return .none }
        state = .connecting
        return .connect
    }

    mutating func stop() { state = .stopped }
}
