public import Domain
internal import NIOCore
internal import Synchronization

/// Looks at the queues of this gateway again and again and notes the greatest depth of each model, once for each bucket of usage.
///
/// The depth is that of an instant, summed over the event loops: how many requests wait for a worker or are with one.
public final class QueueWatch: Sendable {
    fileprivate struct State {
        var loops: [LoopContext] = []
        var bucket: Timestamp?
        var peaks: [String: Int64] = [:]
    }

    private let journal: any QueueJournal
    private let time: any TimeSource
    private let state = Mutex(State())

    public init(journal: any QueueJournal, time: any TimeSource) {
        self.journal = journal
        self.time = time
    }

    func watch(_ loops: [LoopContext]) { state.withLock { $0.loops = loops } }

    /// Looks once, and writes down a bucket that has ended.
    /// - Throws: where it cannot be written; the depths are lost then, which a gauge may be.
    public func look() async throws(StoreUnavailable) {
        var depths: [String: Int64] = [:]
        for loop in state.withLock({ $0.loops }) {
            // A loop that has ended has no queue.
            guard let counts = try? await loop.eventLoop.submit({ loop.underWay }).get() else { continue }
            for (model, count) in counts where count > 0 { depths[model, default: 0] += Int64(count) }
        }
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
