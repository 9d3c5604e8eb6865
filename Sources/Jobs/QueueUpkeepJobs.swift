public import Domain
public import Logging
internal import Metrics
public import ServiceLifecycle

/// What keeps the queue of jobs in order, and shows how full it is.
public enum QueueUpkeepJobs {
    public static func all(_ store: any QueueUpkeep, time: any TimeSource, logger: Logger) -> [any Service] {
        [removal(store, logger), depth(store, time, logger)]
    }

    private static func removal(_ store: any QueueUpkeep, _ logger: Logger) -> Recurring {
        let removed = Counter(label: "weir_jobs_removed_total")
        return Recurring("expired_jobs", everyMilliseconds: 30_000, logger: logger) {
            for _ in 0..<1_000 {
                let count = try await store.removeExpiredJobs(limit: 1_000)
                removed.increment(by: Int64(count))
                guard count == 1_000, !Task.isCancelled else { return }
            }
        }
    }

    /// All tenants together: a label for each would have no bound.
    private static func depth(_ store: any QueueUpkeep, _ time: any TimeSource, _ logger: Logger) -> Recurring {
        let ready = Gauge(label: "weir_jobs_queued", dimensions: [("state", "ready")])
        let waiting = Gauge(label: "weir_jobs_queued", dimensions: [("state", "waiting")])
        let processing = Gauge(label: "weir_jobs_processing")
        let dead = Gauge(label: "weir_jobs_dead")
        let oldest = Gauge(label: "weir_jobs_oldest_seconds")
        return Recurring("job_queue_depth", everyMilliseconds: 10_000, logger: logger) {
            let depths = try await store.depths()
            ready.record(depths.reduce(0) { $0 + $1.ready })
            waiting.record(depths.reduce(0) { $0 + $1.waiting })
            processing.record(depths.reduce(0) { $0 + $1.processing })
            let first = depths.compactMap(\.oldestReadyAt).min()
            oldest.record(first.map { max(0, time.now.milliseconds(since: $0) / 1_000) } ?? 0)
            dead.record(try await store.deadCount())
        }
    }
}
