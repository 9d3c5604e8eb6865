internal import NIOCore

/// How many connections to one replica a loop has, which of them are idle, and who waits for one: a pure value that
/// performs nothing.
///
/// Idle connections are a stack. The one used last is the one whose buffers are warm and whose peer is least likely to
/// have closed it, and the ones at the bottom grow old and are closed, so that the pool shrinks to what the load needs.
struct PoolState<Connection: AnyObject, Waiter: AnyObject> {
    struct Limits: Sendable {
        var connections: Int
        var idle: Int
        var waiting: Int
    }

    enum Acquisition {
        case reuse(Connection)
        /// Open a connection; it is counted already.
        case open
        case wait
        case refuse
    }

    enum Release {
        case serve(Waiter)
        case shelve
        /// Close it; it is not counted any more.
        case close
    }

    private let limits: Limits
    private(set) var openCount = 0
    private var idle: [(connection: Connection, expires: NIODeadline)] = []
    private var waiters = CircularBuffer<Waiter>()

    init(limits: Limits) {
        self.limits = limits
    }

    var idleCount: Int { idle.count }
    var waitingCount: Int { waiters.count }
    var isEmpty: Bool { openCount == 0 && waiters.isEmpty }

    /// A connection for a request, or a place in the queue.
    mutating func acquire(_ waiter: Waiter) -> Acquisition {
        if let top = idle.popLast() { return .reuse(top.connection) }
        if openCount < limits.connections {
            openCount += 1
            return .open
        }
        guard waiters.count < limits.waiting else { return .refuse }
        waiters.append(waiter)
        return .wait
    }

    /// A connection has answered and can be used again until `expires`.
    mutating func release(_ connection: Connection, expires: NIODeadline) -> Release {
        if let waiter = waiters.popFirst() { return .serve(waiter) }
        guard idle.count < limits.idle else {
            openCount -= 1
            return .close
        }
        idle.append((connection, expires))
        return .shelve
    }

    /// A connection in use, or being opened, is gone.
    ///
    /// - Returns: a waiter to open another one for; that one is counted already.
    mutating func closed() -> Waiter? {
        openCount -= 1
        guard openCount < limits.connections, let waiter = waiters.popFirst() else { return nil }
        openCount += 1
        return waiter
    }

    /// An idle connection is gone. Nobody waits while a connection is idle.
    mutating func idleClosed(_ connection: Connection) {
        guard let index = idle.lastIndex(where: { $0.connection === connection }) else { return }
        idle.remove(at: index)
        openCount -= 1
    }

    mutating func remove(_ waiter: Waiter) {
        guard let index = waiters.firstIndex(where: { $0 === waiter }) else { return }
        waiters.remove(at: index)
    }

    /// Takes out the idle connections whose time is over. They are not counted any more.
    mutating func takeExpired(at now: NIODeadline) -> [Connection] {
        let expired = idle.filter { $0.expires <= now }.map(\.connection)
        if !expired.isEmpty {
            idle.removeAll { $0.expires <= now }
            openCount -= expired.count
        }
        return expired
    }

    /// When the next idle connection expires.
    var nextExpiry: NIODeadline? { idle.lazy.map(\.expires).min() }
}
