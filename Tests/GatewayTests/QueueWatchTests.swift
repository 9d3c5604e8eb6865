import Domain
import NIOCore
import NIOPosix
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

    @Test("the greatest sum over the loops is noted once, when its bucket has ended")
    func greatest() async throws {
        let journal = Journal()
        let clock = Clock()
        let watch = QueueWatch(journal: journal, time: clock)
        let group = MultiThreadedEventLoopGroup.singleton
        let (first, second) = (group.next(), group.next())
        let one = try await first.submit { LoopContext(eventLoop: first) }.get()
        let two = try await second.submit { LoopContext(eventLoop: second) }.get()
        watch.watch([one, two])
        let slots = try await first.submit { (0..<3).map { _ in one.enter("iris") } }.get()
        _ = try await second.submit { (two.enter("iris"), two.enter("other")) }.get()
        try await watch.look()
        try await first.submit { for slot in slots { one.leave(slot) } }.get()
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

    @Test("a model beyond the bound is not counted, and its end takes nothing from others")
    func bound() {
        var work = WorkUnderWay()
        for number in 0..<WorkUnderWay.modelLimit { #expect(work.enter("m\(number)") == number) }
        let beyond = work.enter("one more")
        #expect(beyond == nil)
        work.leave(beyond)
        #expect(work.counts.allSatisfy { $0.count == 1 } && work.counts.count == WorkUnderWay.modelLimit)
        #expect(work.enter("m5") == 5)
        #expect(work.counts[5].count == 2)
    }
}
