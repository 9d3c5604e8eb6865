/// Decides everything about a pool and does nothing: events go in, actions come out. No lock, no socket, no clock.
///
/// Times are milliseconds of the monotonic clock.
struct PoolStateMachine: Sendable {
    typealias ConnectionID = UInt64
    typealias WaiterID = UInt64

    struct Limits: Sendable {
        var maximumConnections = 4
        var minimumConnections = 0
        /// Waiters beyond those for whom a connection is being opened.
        var maximumWaiters = 64
        var maximumAgeMilliseconds: UInt64?
        var backoffBaseMilliseconds: UInt64 = 50
        var backoffMaximumMilliseconds: UInt64 = 5_000
    }

    enum Refusal: Sendable, Equatable {
        case queueFull, timedOut, cancelled, shuttingDown
        /// Nobody could connect.
        case unreachable
    }

    enum Action: Sendable, Equatable {
        /// Make a connection, after a delay, then report `openingDue`, and `connected` or `connectFailed`.
        case open(ConnectionID, afterMilliseconds: UInt64)
        case close(ConnectionID)
        case grant(ConnectionID, to: WaiterID)
        case refuse(WaiterID, Refusal)
        /// The shut-down is complete. Comes once.
        case finish
    }

    private enum State: Sendable, Equatable {
        case delayed, opening, idle, leased, closing
    }

    private struct Connection: Sendable {
        var state: State
        var openedAt: UInt64 = 0
    }

    let limits: Limits
    private var connections: [ConnectionID: Connection] = [:]
    /// The most recently used last: it is lent first, so that the others can grow old.
    private var idle: [ConnectionID] = []
    private var waiters: [WaiterID] = []
    private var lastID: ConnectionID = 0
    /// Failed attempts since the last success.
    private var failureCount = 0
    private var retryAt: UInt64 = 0
    private var isShuttingDown = false
    private var isFinished = false

    init(limits: Limits) {
        self.limits = limits
    }

    var openCount: Int { connections.count - pendingCount }
    var leasedCount: Int { connections.values.count { $0.state == .leased } }
    var idleCount: Int { idle.count }
    var waitingCount: Int { waiters.count }
    var connectionCount: Int { connections.count }

    private var pendingCount: Int {
        connections.values.count { $0.state == .opening || $0.state == .delayed }
    }

    // MARK: Events

    /// The pool begins; opens the minimum.
    mutating func start(now: UInt64) -> [Action] {
        openWanted(now: now)
    }

    /// Somebody wants a connection.
    mutating func lease(_ waiter: WaiterID, now: UInt64) -> [Action] {
        guard !isShuttingDown else { return [.refuse(waiter, .shuttingDown)] }
        var actions: [Action] = []
        while let id = idle.popLast() {
            guard isFresh(id, now: now) else {
                actions.append(close(id))
                continue
            }
            connections[id]?.state = .leased
            return actions + [.grant(id, to: waiter)]
        }
        waiters.append(waiter)
        actions += openWanted(now: now)
        if waiters.count > limits.maximumWaiters + pendingCount {
            waiters.removeLast()
            actions.append(.refuse(waiter, .queueFull))
        }
        return actions
    }

    /// A delayed opening has come due.
    /// - Returns: whether to go ahead; the pool may have been shut down meanwhile.
    mutating func openingDue(_ id: ConnectionID) -> Bool {
        guard connections[id]?.state == .delayed else { return false }
        connections[id]?.state = .opening
        return true
    }

    mutating func connected(_ id: ConnectionID, now: UInt64) -> [Action] {
        guard connections[id]?.state == .opening else { return [] }
        connections[id]?.openedAt = now
        failureCount = 0
        retryAt = 0
        return handOver(id) + openWanted(now: now)
    }

    /// - Parameter isPermanent: waiting will not help, for example with a wrong password.
    mutating func connectFailed(
        _ id: ConnectionID, isPermanent: Bool, now: UInt64, using generator: inout some RandomNumberGenerator
    ) -> [Action] {
        guard connections[id]?.state == .opening else { return [] }
        connections[id] = nil
        noteFailure(now: now, using: &generator)
        var actions: [Action] = []
        if isPermanent {
            actions = waiters.map { .refuse($0, .unreachable) }
            waiters.removeAll()
        }
        return actions + openWanted(now: now) + finishIfDone()
    }

    /// A lent connection comes back.
    /// - Parameter isReusable: it is open and outside any transaction.
    mutating func released(_ id: ConnectionID, isReusable: Bool, now: UInt64) -> [Action] {
        guard connections[id]?.state == .leased else { return [] }
        guard isReusable, !isShuttingDown, isFresh(id, now: now) else { return [close(id)] }
        return handOver(id)
    }

    mutating func closed(_ id: ConnectionID, now: UInt64) -> [Action] {
        guard connections[id]?.state == .closing else { return [] }
        connections[id] = nil
        return openWanted(now: now) + finishIfDone()
    }

    /// A waiter has waited long enough.
    mutating func timedOut(_ waiter: WaiterID) -> [Action] {
        remove(waiter, as: failureCount > 0 && connections.count == pendingCount ? .unreachable : .timedOut)
    }

    mutating func cancelled(_ waiter: WaiterID) -> [Action] {
        remove(waiter, as: .cancelled)
    }

    mutating func shutDown() -> [Action] {
        guard !isShuttingDown else { return [] }
        isShuttingDown = true
        var actions: [Action] = waiters.map { .refuse($0, .shuttingDown) }
        waiters.removeAll()
        connections = connections.filter { $0.value.state != .delayed }
        while let id = idle.popLast() { actions.append(close(id)) }
        return actions + finishIfDone()
    }

    // MARK: Steps

    private mutating func handOver(_ id: ConnectionID) -> [Action] {
        guard !isShuttingDown else { return [close(id)] }
        guard !waiters.isEmpty else {
            connections[id]?.state = .idle
            idle.append(id)
            return []
        }
        connections[id]?.state = .leased
        return [.grant(id, to: waiters.removeFirst())]
    }

    /// Opens what the waiters and the minimum need. While the server is unreachable there is one attempt at a time, so
    /// that its return is not met by a stampede.
    private mutating func openWanted(now: UInt64) -> [Action] {
        guard !isShuttingDown else { return [] }
        let pending = pendingCount
        let wanted = max(waiters.count - pending, limits.minimumConnections - connections.count)
        var count = min(wanted, limits.maximumConnections - connections.count)
        if failureCount > 0 { count = min(count, pending > 0 ? 0 : 1) }
        guard count > 0 else { return [] }
        return (0..<count).map { _ in
            lastID += 1
            connections[lastID] = Connection(state: .delayed)
            return .open(lastID, afterMilliseconds: retryAt > now ? retryAt - now : 0)
        }
    }

    /// Exponential backoff with full jitter: anywhere between nothing and the current ceiling
    /// (M. Brooker, "Exponential Backoff And Jitter").
    private mutating func noteFailure(now: UInt64, using generator: inout some RandomNumberGenerator) {
        failureCount += 1
        let doublings = UInt64(min(failureCount - 1, 20))
        let ceiling = min(limits.backoffBaseMilliseconds << doublings, limits.backoffMaximumMilliseconds)
        retryAt = now + UInt64.random(in: 0...ceiling, using: &generator)
    }

    private mutating func close(_ id: ConnectionID) -> Action {
        connections[id]?.state = .closing
        return .close(id)
    }

    private mutating func remove(_ waiter: WaiterID, as refusal: Refusal) -> [Action] {
        guard let index = waiters.firstIndex(of: waiter) else { return [] }
        waiters.remove(at: index)
        return [.refuse(waiter, refusal)]
    }

    private func isFresh(_ id: ConnectionID, now: UInt64) -> Bool {
        guard let limit = limits.maximumAgeMilliseconds, let connection = connections[id] else { return true }
        return now < connection.openedAt + limit
    }

    private mutating func finishIfDone() -> [Action] {
        guard isShuttingDown, !isFinished, connections.isEmpty else { return [] }
        isFinished = true
        return [.finish]
    }
}
