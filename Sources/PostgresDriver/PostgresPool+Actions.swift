internal import Logging
internal import Synchronization

/// A connection that is lent.
struct PoolLease: Sendable {
    let id: PoolStateMachine.ConnectionID
    let connection: PostgresConnection
}

extension PostgresPool {
    static var now: UInt64 { Deadline.now / 1_000_000 }

    /// Waits for a connection of the caller's own.
    func lease() async throws(PostgresError) -> PoolLease {
        let waiter = state.withLock { state in
            state.lastWaiter += 1
            return state.lastWaiter
        }
        let result: Result<PoolLease, PostgresError> = await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                perform { state in
                    state.waiters[waiter] = continuation
                    return state.machine.lease(waiter, now: Self.now)
                }
                limitWait(of: waiter)
                // A cancellation before the waiter was known has passed unnoticed.
                if Task.isCancelled { cancel(waiter) }
            }
        } onCancel: {
            cancel(waiter)
        }
        return try result.get()
    }

    func release(_ lease: PoolLease, isReusable: Bool) {
        perform { $0.machine.released(lease.id, isReusable: isReusable, now: Self.now) }
    }

    private func cancel(_ waiter: PoolStateMachine.WaiterID) {
        perform { $0.machine.cancelled(waiter) }
    }

    /// Starts the clock of a waiter that was not served at once.
    private func limitWait(of waiter: PoolStateMachine.WaiterID) {
        let isWaiting = state.withLock { $0.waiters[waiter] != nil }
        guard isWaiting else { return }
        let token = clerk.schedule(afterMilliseconds: options.queueTimeoutMilliseconds) { [weak self] in
            self?.perform { state in
                state.timers[waiter] = nil
                return state.machine.timedOut(waiter)
            }
        }
        let isLate = state.withLock { state in
            guard state.waiters[waiter] != nil else { return true }
            state.timers[waiter] = token
            return false
        }
        if isLate { clerk.cancel(token) }
    }

    /// Lets the machine decide under the lock, and does what it says outside of it.
    func perform(_ event: (inout State) -> [PoolStateMachine.Action]) {
        let (effects, gauges) = state.withLock { state in
            let actions = event(&state)
            return (actions.compactMap { prepare($0, &state) }, PoolGauges(state.machine))
        }
        metrics.set(gauges)
        for effect in effects { carryOut(effect) }
    }

    /// An action together with the things it needs, taken from the state under the lock.
    private enum Effect {
        case open(PoolStateMachine.ConnectionID, afterMilliseconds: UInt64)
        case close(PoolStateMachine.ConnectionID, PostgresConnection)
        case resume(Waiter, timer: UInt64?, Result<PoolLease, PostgresError>)
        case finish([CheckedContinuation<Void, Never>])
    }

    private func prepare(_ action: PoolStateMachine.Action, _ state: inout State) -> Effect? {
        switch action {
        case .open(let id, let milliseconds):
            return .open(id, afterMilliseconds: milliseconds)
        case .close(let id):
            guard let connection = state.connections.removeValue(forKey: id) else { return nil }
            return .close(id, connection)
        case .grant(let id, to: let waiter):
            guard let continuation = state.waiters.removeValue(forKey: waiter), let connection = state.connections[id]
            else {
                return nil
            }
            let lease = PoolLease(id: id, connection: connection)
            return .resume(continuation, timer: state.timers.removeValue(forKey: waiter), .success(lease))
        case .refuse(let waiter, let refusal):
            guard let continuation = state.waiters.removeValue(forKey: waiter) else { return nil }
            let error = refusalError(refusal, state.lastConnectError)
            return .resume(continuation, timer: state.timers.removeValue(forKey: waiter), .failure(error))
        case .finish:
            state.isFinished = true
            defer { state.finishers.removeAll() }
            return .finish(state.finishers)
        }
    }

    private func carryOut(_ effect: Effect) {
        switch effect {
        case .open(let id, afterMilliseconds: 0):
            open(id)
        case .open(let id, let milliseconds):
            clerk.schedule(afterMilliseconds: Int(clamping: milliseconds)) { [weak self] in self?.open(id) }
        case .close(let id, let connection):
            connection.thread.submit { [self] in
                connection.assumeIsolated { $0.close() }
                perform { $0.machine.closed(id, now: Self.now) }
            }
        case .resume(let continuation, let timer, let result):
            if let timer { clerk.cancel(timer) }
            if case .failure(let error) = result { metrics.count(error) }
            continuation.resume(returning: result)
        case .finish(let finishers):
            for finisher in finishers { finisher.resume() }
        }
    }

    /// Connects on the new connection's own thread.
    private func open(_ id: PoolStateMachine.ConnectionID) {
        guard state.withLock({ $0.machine.openingDue(id) }) else { return }
        do throws(PostgresError) {
            let connection = try PostgresConnection(configuration: configuration)
            connection.thread.submit { [self] in
                let result: Result<Void, PostgresError> = connection.assumeIsolated { connection in
                    do throws(PostgresError) {
                        return .success(try connection.connect())
                    } catch {
                        return .failure(error)
                    }
                }
                switch result {
                case .success: opened(id, connection)
                case .failure(let error): failedToOpen(id, error)
                }
            }
        } catch {
            failedToOpen(id, error)
        }
    }

    private func opened(_ id: PoolStateMachine.ConnectionID, _ connection: PostgresConnection) {
        perform { state in
            state.lastConnectError = nil
            state.connections[id] = connection
            return state.machine.connected(id, now: Self.now)
        }
    }

    private func failedToOpen(_ id: PoolStateMachine.ConnectionID, _ error: PostgresError) {
        metrics.count(error)
        logger.debug(
            "database connection failed",
            metadata: ["pool": "\(options.name)", "error": "\(error)", "detail": "\(error.detail ?? "")"])
        perform { state in
            state.lastConnectError = error
            return state.machine.connectFailed(
                id, isPermanent: !error.isTransient, now: Self.now, using: &state.generator)
        }
    }

    private func refusalError(_ refusal: PoolStateMachine.Refusal, _ cause: PostgresError?) -> PostgresError {
        switch refusal {
        case .queueFull: PostgresError(.poolTimeout, "too many are waiting for a database connection")
        case .timedOut: PostgresError(.poolTimeout, "no database connection became free in time")
        case .cancelled: PostgresError(.cancelled, "the task was cancelled while waiting for a connection")
        case .shuttingDown: PostgresError(.closed, "the pool is shut down")
        case .unreachable: cause ?? PostgresError(.connectionFailed, "no connection: the server cannot be reached")
        }
    }
}
