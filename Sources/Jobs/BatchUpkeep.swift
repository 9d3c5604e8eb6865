public import Domain
public import Logging
internal import Metrics

/// Removes files that are past their end, and uploads that nobody finished.
public enum BatchUpkeep {
    public static func job(_ queue: any BatchQueue, logger: Logger) -> Recurring {
        let removed = Counter(label: "weir_files_removed_total")
        return Recurring("files", everyMilliseconds: 60_000, logger: logger) {
            // A file has many pieces, so a few at once.
            for _ in 0..<20 where !Task.isCancelled {
                let count = try await queue.removeExpiredFiles(limit: 10)
                removed.increment(by: Int64(count))
                guard count == 10 else { return }
            }
        }
    }
}
