public import Domain
public import Logging
internal import Metrics
public import ServiceLifecycle

/// The jobs that keep the store in order. Any number of processes may run them at once: each step is one transaction that excludes itself.
public enum StoreJobs {
    public static func all(_ store: any Housekeeping, logger: Logger) -> [any Service] {
        [
            rollUp(store, logger), reaper(store, logger), partitions(store, logger), idempotencyKeys(store, logger),
            predictions(store, logger),
        ]
    }

    /// Usage follows from the ledger within about a second.
    private static func rollUp(_ store: any Housekeeping, _ logger: Logger) -> Recurring {
        let entries = Counter(label: "weir_rollup_entries_total")
        return Recurring("roll_up", everyMilliseconds: 1_000, logger: logger) {
            entries.increment(by: try await store.rollUpUsage())
        }
    }

    /// Closes what dead gateways held.
    private static func reaper(_ store: any Housekeeping, _ logger: Logger) -> Recurring {
        let reaped = Counter(label: "weir_leases_reaped_total")
        let failed = Counter(label: "weir_lease_reaping_failures_total")
        return Recurring("reap_leases", everyMilliseconds: 1_000, logger: logger) {
            // Bounded, so that one pass cannot keep the others from their turn.
            for _ in 0..<1_000 {
                guard let reaping = try await store.reapLease() else { return }
                switch reaping.outcome {
                case .closed:
                    reaped.increment()
                    logger.notice("a lost lease was closed", metadata: ["lease_id": "\(reaping.leaseID)"])
                case .alreadyClosed: break
                case .failed(let cause):
                    failed.increment()
                    logger.error(
                        "a lost lease cannot be booked and is tried again later",
                        metadata: ["lease_id": "\(reaping.leaseID)", "cause": "\(cause)"])
                }
            }
        }
    }

    private static func partitions(_ store: any Housekeeping, _ logger: Logger) -> Recurring {
        let stray = Gauge(label: "weir_stray_partition_rows")
        return Recurring("partitions", everyMilliseconds: 3_600_000, logger: logger) {
            // First, because stray rows can be the reason why a partition cannot be made.
            let hasStrayRows = try await store.hasStrayRows()
            stray.record(hasStrayRows ? 1 : 0)
            if hasStrayRows { logger.error("rows lie in a default partition: a month's partition was missing") }
            let made = try await store.ensurePartitions()
            if made > 0 { logger.notice("partitions were made", metadata: ["count": "\(made)"]) }
        }
    }

    /// Forgets cached predictions that have ended.
    private static func predictions(_ store: any Housekeeping, _ logger: Logger) -> Recurring {
        let removed = Counter(label: "weir_cached_predictions_removed_total")
        return Recurring("cached_predictions", everyMilliseconds: 60_000, logger: logger) {
            for _ in 0..<100 {
                let count = try await store.removeExpiredPredictions(limit: 1_000)
                removed.increment(by: Int64(count))
                guard count == 1_000 else { return }
            }
        }
    }

    /// Forgets answers that were kept for repeated requests.
    private static func idempotencyKeys(_ store: any Housekeeping, _ logger: Logger) -> Recurring {
        let removed = Counter(label: "weir_idempotency_keys_removed_total")
        return Recurring("idempotency_keys", everyMilliseconds: 60_000, logger: logger) {
            // Small transactions, and a bounded number of them, so that neither the customers' claims nor the stop of the process wait.
            for _ in 0..<100 {
                let count = try await store.removeExpiredKeys(limit: 1_000)
                removed.increment(by: Int64(count))
                guard count == 1_000 else { return }
            }
        }
    }
}
