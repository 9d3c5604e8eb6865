public import Domain
public import Logging
internal import Metrics

/// Writes exports to parts, one after the other, and removes them when their time is over. Any number of processes may do so on one database.
public enum ExportWriter {
    public struct Configuration: Sendable {
        /// After which another process takes an export for abandoned; renewed three times as often while a part is written.
        public var leaseMilliseconds: Int64 = 60_000
        /// How long parts are kept.
        public var keepHours = 72
        public init() {}
    }

    public static func jobs(
        _ queue: any ExportQueue, configuration: Configuration, logger: Logger
    ) -> [Recurring] {
        let rows = Counter(label: "weir_export_rows_total")
        let completed = Counter(label: "weir_exports_total", dimensions: [("outcome", "completed")])
        let failed = Counter(label: "weir_exports_total", dimensions: [("outcome", "failed")])
        let removed = Counter(label: "weir_exports_removed_total")
        return [
            Recurring("exports", everyMilliseconds: 500, logger: logger) {
                while !Task.isCancelled,
                    let export = try await queue.claim(leaseMilliseconds: configuration.leaseMilliseconds)
                {
                    switch try await write(export, queue, configuration, rows) {
                    case .completed: completed.increment()
                    case .failed(let reason):
                        failed.increment()
                        logger.error(
                            "an export failed",
                            metadata: ["export_id": "\(export.id.publicText)", "cause": "\(reason)"])
                    case .lost: break
                    }
                }
            },
            Recurring("expired_exports", everyMilliseconds: 60_000, logger: logger) {
                for _ in 0..<20 where !Task.isCancelled {
                    let count = try await queue.removeExpired(limit: 1)
                    removed.increment(by: Int64(count))
                    guard count == 1 else { return }
                }
            },
        ]
    }

    private enum End {
        case completed
        case failed(String)
        case lost
    }

    private static func write(
        _ claimed: ClaimedExport, _ queue: any ExportQueue, _ configuration: Configuration, _ counter: Counter
    ) async throws(StoreUnavailable) -> End {
        var export = claimed
        while !Task.isCancelled {
            switch try await writePart(of: export, queue, configuration.leaseMilliseconds) {
            case .written(let next, let rows):
                counter.increment(by: rows)
                export = next
            case .noMore:
                return try await queue.complete(export, keepHours: configuration.keepHours) ? .completed : .lost
            case .lost: return .lost
            case .impossible(let reason):
                try await queue.fail(export, reason: reason)
                return .failed(reason)
            }
        }
        return .lost
    }

    /// Keeps the claim also while nothing comes: the rows of a part may wait for a lock, or for sums.
    private static func writePart(
        of export: ClaimedExport, _ queue: any ExportQueue, _ leaseMilliseconds: Int64
    ) async throws(StoreUnavailable) -> ExportPartOutcome {
        let end = await withTaskGroup(of: Result<ExportPartOutcome, StoreUnavailable>?.self) { group in
            group.addTask {
                do throws(StoreUnavailable) {
                    return .success(try await queue.writePart(of: export, leaseMilliseconds: leaseMilliseconds))
                } catch {
                    return .failure(error)
                }
            }
            group.addTask {
                await keep(export, queue, leaseMilliseconds) ? nil : .success(.lost)
            }
            var end: Result<ExportPartOutcome, StoreUnavailable>?
            for await one in group where end == nil {
                end = one
                group.cancelAll()
            }
            return end
        }
        return try end?.get() ?? .lost
    }

    /// - Returns: `false` where the claim is another process's; `true` when it is cancelled.
    private static func keep(_ export: ClaimedExport, _ queue: any ExportQueue, _ leaseMilliseconds: Int64) async
        -> Bool
    {
        while true {
            try? await Task.sleep(nanoseconds: UInt64(max(leaseMilliseconds / 3, 1)) * 1_000_000)
            guard !Task.isCancelled else { return true }
            // Where the database does not answer, the next turn may come in time.
            guard (try? await queue.renew(export, leaseMilliseconds: leaseMilliseconds)) ?? true else { return false }
        }
    }
}
