public import Domain
internal import Synchronization

/// Looks at the queues of this gateway again and again and notes the greatest depth of each model, once for each bucket of usage.
///
/// The depth is how many requests wait for a replica or are with one, looked at some twenty times a second.
public final class QueueWatch: Sendable {
    fileprivate struct State {
        var bucket: Timestamp?
        var peaks: [String: Int64] = [:]
    }

    private let journal: any QueueJournal
    private let depths: @Sendable () -> [String: Int64]
    private let time: any TimeSource
    private let state = Mutex(State())

    /// - Parameter depths: the greatest since it was last called, by model.
    public init(journal: any QueueJournal, time: any TimeSource, depths: @escaping @Sendable () -> [String: Int64]) {
        self.journal = journal
        self.time = time
        self.depths = depths
    }

    /// Looks once, and writes down a bucket that has ended.
    /// - Throws: where it cannot be written; the depths are lost then, which a gauge may be.
    public func look() async throws(StoreUnavailable) {
        let depths = depths().filter { $0.value > 0 }
        let bucket = time.now.usageBucketStart
        let ended = state.withLock { state in
            let ended = state.bucket == bucket ? nil : state.take()
            state.bucket = bucket
            state.peaks.merge(depths) { max($0, $1) }
            return ended
        }
        if let ended { try await journal.note(ended.peaks, inBucketAt: ended.bucket) }
    }

    /// Writes down the bucket that has begun, at the end of the process.
    public func drain() async throws(StoreUnavailable) {
        guard let rest = state.withLock({ $0.take() }) else { return }
        try await journal.note(rest.peaks, inBucketAt: rest.bucket)
    }
}

extension QueueWatch.State {
    /// What was seen in the bucket, if anything, which begins anew.
    fileprivate mutating func take() -> (bucket: Timestamp, peaks: [String: Int64])? {
        defer { peaks = [:] }
        guard let bucket, !peaks.isEmpty else { return nil }
        return (bucket, peaks)
    }
}
