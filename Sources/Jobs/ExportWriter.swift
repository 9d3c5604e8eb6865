public import Domain
public import Logging
internal import Metrics

/// Writes exports to parts, one after the other, and removes them when their time is over. Any number of processes may do so on one database.
public enum ExportWriter {
    public struct Configuration: Sendable {
        /// After which another process takes an export for abandoned; renewed with each piece.
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
            switch try await queue.writePart(of: export, leaseMilliseconds: configuration.leaseMilliseconds) {
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
}
