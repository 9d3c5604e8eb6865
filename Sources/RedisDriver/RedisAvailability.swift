import Synchronization

/// Whether Redis can be reached, for whoever wants to show it or to wait for it.
final class RedisAvailability: Sendable {
    private struct State {
        var readyCount = 0
        var lastError: RedisError?
        var nextWatcher = 0
        var watchers: [Int: AsyncStream<Bool>.Continuation] = [:]
        var isFinished = false
    }

    private let state = Mutex(State())

    var isAvailable: Bool { state.withLock { $0.readyCount > 0 } }
    var lastError: RedisError? { state.withLock { $0.lastError } }

    func record(_ event: ConnectionKeeper.Event) {
        state.withLock { state in
            let wasAvailable = state.readyCount > 0
            switch event {
            case .ready:
                state.readyCount += 1
                state.lastError = nil
            case .ended(let error, let wasReady):
                if wasReady { state.readyCount -= 1 }
                state.lastError = error
            }
            let isAvailable = state.readyCount > 0
            guard isAvailable != wasAvailable else { return }
            // Under the lock: two loops that report at once would otherwise leave a watcher with the older state for good.
            for watcher in state.watchers.values { watcher.yield(isAvailable) }
        }
    }

    /// The state now and at every change. A slow watcher sees the newest only.
    func changes() -> AsyncStream<Bool> {
        let (stream, continuation) = AsyncStream.makeStream(of: Bool.self, bufferingPolicy: .bufferingNewest(1))
        let number: Int? = state.withLock { state in
            guard !state.isFinished else { return nil }
            state.nextWatcher += 1
            state.watchers[state.nextWatcher] = continuation
            continuation.yield(state.readyCount > 0)
            return state.nextWatcher
        }
        guard let number else {
            continuation.finish()
            return stream
        }
        continuation.onTermination = { [weak self] _ in
            _ = self?.state.withLock { $0.watchers.removeValue(forKey: number) }
        }
        return stream
    }

    /// Ends every stream; after a shutdown nothing changes any more.
    func finish() {
        let watchers = state.withLock { state in
            state.isFinished = true
            state.readyCount = 0
            defer { state.watchers = [:] }
            return Array(state.watchers.values)
        }
        for watcher in watchers { watcher.finish() }
    }
}
