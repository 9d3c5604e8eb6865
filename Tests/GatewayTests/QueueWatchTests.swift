import Domain
import Synchronization
import TestSupport
import Testing

@testable import Gateway

@Suite("The watch over queues") struct QueueWatchTests {
    private final class Journal: QueueJournal {
        let notes = Mutex<[(bucket: Timestamp, depths: [String: Int64])]>([])

        func note(_ depths: [String: Int64], inBucketAt start: Timestamp) async throws(StoreUnavailable) {
            notes.withLock { $0.append((start, depths)) }
        }

        var depths: [[String: Int64]] { notes.withLock { $0.map(\.depths) } }
    }

    private final class Clock: TimeSource {
        let held = Mutex(Timestamp(microsecondsSince1970: 1_773_576_000_000_000))
        var now: Timestamp { held.withLock { $0 } }
        var monotonicNanoseconds: UInt64 { 0 }
        func advance(milliseconds: Int64) { held.withLock { $0 = $0.advanced(byMilliseconds: milliseconds) } }
    }

    @Test("the greatest depth is noted once, when its bucket has ended")
    func greatest() async throws {
        let journal = Journal()
        let clock = Clock()
        let depths = Mutex<[String: Int64]>(["iris": 4, "other": 1, "idle": 0])
        let watch = QueueWatch(journal: journal, time: clock) { depths.withLock { $0 } }
        try await watch.look()
        depths.withLock { $0["iris"] = 1 }
        clock.advance(milliseconds: 800_000)
        try await watch.look()
        #expect(journal.depths.isEmpty)
        clock.advance(milliseconds: 100_000)
        try await watch.look()
        #expect(journal.depths == [["iris": 4, "other": 1]])
        #expect(journal.notes.withLock { $0[0].bucket } == Timestamp(microsecondsSince1970: 1_773_576_000_000_000))
        try await watch.drain()
        try await watch.drain()
        #expect(journal.depths == [["iris": 4, "other": 1], ["iris": 1, "other": 1]])
    }
}
