public import Domain
public import Logging
internal import Metrics
public import ServiceLifecycle

/// The jobs that keep the store in order. Any number of processes may run them at once: each step is one transaction that excludes itself.
public enum StoreJobs {
    /// - Parameters:
    ///   - keepHours: how long closed leases and refusals are kept for explanations.
    ///   - cacheRowsPerTenant: how many predictions of one tenant the table keeps.
    public static func all(
        _ store: any Housekeeping, keepHours: Int, cacheRowsPerTenant: Int = 100_000, time: any TimeSource,
        logger: Logger
    ) -> [any Service] {
        [
            rollUp(store, logger), reaper(store, logger), partitions(store, logger),
            QuotaWatch.job(store, logger: logger),
            removal("idempotency_keys", "weir_idempotency_keys_removed_total", everyMilliseconds: 60_000, time, logger)
            { limit throws(StoreUnavailable) in
                try await store.removeExpiredKeys(limit: limit)
            },
            removal("closed_leases", "weir_closed_leases_removed_total", everyMilliseconds: 300_000, time, logger) {
                limit throws(StoreUnavailable) in
                try await store.removeClosedLeases(keepHours: keepHours, limit: limit)
            },
            removal("refusals", "weir_refusals_removed_total", everyMilliseconds: 300_000, time, logger) {
                limit throws(StoreUnavailable) in
                try await store.removeRefusals(keepHours: keepHours, limit: limit)
            },
            removal(
                "cached_predictions", "weir_cached_predictions_removed_total", everyMilliseconds: 60_000, time, logger
            ) {
                limit throws(StoreUnavailable) in
                try await store.removeExpiredPredictions(limit: limit)
            },
            removal(
                "excess_predictions", "weir_cached_predictions_excess_total", everyMilliseconds: 60_000, time, logger
            ) {
                limit throws(StoreUnavailable) in
                try await store.removeExcessPredictions(rowsPerTenant: cacheRowsPerTenant, limit: limit)
            },
            removal("results", "weir_results_removed_total", everyMilliseconds: 60_000, time, logger) {
                limit throws(StoreUnavailable) in
                try await store.removeExpiredResults(limit: limit)
            },
            // Goes on until nothing is due: a batch can be small before the end is reached.
            removal(
                "retention", "weir_retention_rows_looked_at_total", everyMilliseconds: 2_000, endsAtShortBatch: false,
                time, logger
            ) { limit throws(StoreUnavailable) in
                try await store.eraseKept(limit: limit)
            },
        ]
    }

    /// Usage follows from the ledger within about a second.
    private static func rollUp(_ store: any Housekeeping, _ logger: Logger) -> Recurring {
        let entries = Counter(label: "weir_rollup_entries_total")
        return Recurring("roll_up", everyMilliseconds: 1_000, logger: logger) {
            // One call is one bounded step; what was missed for an hour takes several.
            for _ in 0..<100 {
                let added = try await store.rollUpUsage()
                entries.increment(by: added)
                guard added >= 50_000, !Task.isCancelled else { break }
            }
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

    /// Removes what has been kept long enough, in small transactions, so that neither the customers' statements nor the stop of the process
    /// wait. Goes on while there is more: as much has to go as comes. A pass is bounded in time, not in rows.
    private static func removal(
        _ name: String, _ metric: String, everyMilliseconds: Int64, endsAtShortBatch: Bool = true,
        _ time: any TimeSource, _ logger: Logger,
        remove: @escaping @Sendable (_ limit: Int) async throws(StoreUnavailable) -> Int
    ) -> Recurring {
        let removed = Counter(label: metric)
        return Recurring(name, everyMilliseconds: everyMilliseconds, logger: logger) {
            let start = time.monotonicNanoseconds
            while !Task.isCancelled, time.monotonicNanoseconds &- start < passNanoseconds {
                let count = try await remove(batchLimit)
                removed.increment(by: Int64(count))
                guard count == batchLimit || !endsAtShortBatch && count > 0 else { return }
            }
        }
    }

    private static let batchLimit = 1_000
    private static let passNanoseconds: UInt64 = 45_000_000_000
}
