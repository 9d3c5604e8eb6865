public import Domain
public import Logging
internal import Metrics
internal import Synchronization

/// Requests that wait for their jobs to end, wherever these run: one query for all of them, a few times a second while there are any, and
/// at once for jobs of this process.
public final class JobWaiters: Sendable {
    private struct Waiter {
        let deadlineNanoseconds: UInt64
        let continuation: CheckedContinuation<Void, Never>
    }

    private struct State {
        var byJob: [RequestID: [Waiter]] = [:]
        var count = 0
        var isOver = false
    }

    private let records: any JobRecords
    private let limit: Int
    private let time: any TimeSource
    private let logger: Logger
    private let state = Mutex(State())
    private let gauge = Gauge(label: "weir_job_waiters")

    /// - Parameter limit: how many may wait; whoever comes then is answered at once.
    public init(records: any JobRecords, limit: Int = 1_000, time: any TimeSource, logger: Logger) {
        self.records = records
        self.limit = limit
        self.time = time
        self.logger = logger
    }

    /// How many wait now.
    var count: Int { state.withLock { $0.count } }

    /// Returns when the job may have ended, when the time is over, or at once when too many wait.
    func wait(for id: RequestID, milliseconds: Int64) async {
        let deadline = time.monotonicNanoseconds + UInt64(max(0, milliseconds)) * 1_000_000
        await withCheckedContinuation { continuation in
            let mayWait = state.withLock { state -> Bool in
                guard !state.isOver, state.count < limit else { return false }
                state.count += 1
                state.byJob[id, default: []].append(
                    Waiter(deadlineNanoseconds: deadline, continuation: continuation))
                return true
            }
            if !mayWait { continuation.resume() }
        }
    }

    /// Tells those who wait for these jobs.
    func ended(_ ids: some Sequence<RequestID>) {
        let waiters = state.withLock { state -> [Waiter] in
            guard state.count > 0 else { return [] }
            var taken: [Waiter] = []
            for id in ids { taken += state.byJob.removeValue(forKey: id) ?? [] }
            state.count -= taken.count
            return taken
        }
        for waiter in waiters { waiter.continuation.resume() }
    }

    /// Looks until the task is cancelled; then nobody waits any more.
    public func run() async {
        while !Task.isCancelled {
            try? await Task.sleep(nanoseconds: 200_000_000)
            await look()
        }
        let rest = state.withLock { state -> [RequestID] in
            state.isOver = true
            return Array(state.byJob.keys)
        }
        ended(rest)
    }

    private func look() async {
        let now = time.monotonicNanoseconds
        let (ids, late) = state.withLock { state -> ([RequestID], [Waiter]) in
            var late: [Waiter] = []
            for (id, waiters) in state.byJob where waiters.contains(where: { $0.deadlineNanoseconds <= now }) {
                late += waiters.filter { $0.deadlineNanoseconds <= now }
                let rest = waiters.filter { $0.deadlineNanoseconds > now }
                state.byJob[id] = rest.isEmpty ? nil : rest
            }
            state.count -= late.count
            return (Array(state.byJob.keys), late)
        }
        for waiter in late { waiter.continuation.resume() }
        gauge.record(ids.count)
        guard !ids.isEmpty else { return }
        do throws(StoreUnavailable) {
            ended(try await records.ended(among: ids))
        } catch {
            logger.debug("waiting requests could not be looked after", metadata: ["cause": "\(error.cause)"])
        }
    }
}
