import Domain
import Testing

@testable import Storage

@Suite("What those are told who wait too long") struct BatchUnderWayTests {
    private func pending(_ count: Int) -> [PendingSettlement] {
        (0..<count).map { number in
            PendingSettlement(
                settlement: Seed.settlement(), lane: CountingLane(), completion: { _ in },
                queuedAtNanoseconds: UInt64(number))
        }
    }

    @Test(
        "before the sending and after a failure that is known, that nothing was written; in between, that nobody knows")
    func outcome() {
        let batch = pending(3)
        var underWay = BatchUnderWay()
        underWay.begin(batch)
        #expect(underWay.outcomeOfWaiting == .unavailable)
        _ = underWay.startSending(batch[...])
        #expect(underWay.outcomeOfWaiting == .unknown)
        underWay.mayBeWritten = false
        #expect(underWay.outcomeOfWaiting == .unavailable)
    }

    @Test("only who has waited long enough, once, and is not sent again")
    func older() {
        let batch = pending(3)
        var underWay = BatchUnderWay()
        underWay.begin(batch)
        #expect(underWay.takeOlder(than: 2).map(\.queuedAtNanoseconds) == [0, 1])
        #expect(underWay.takeOlder(than: 2).isEmpty)
        #expect(underWay.startSending(batch[...]).map(\.queuedAtNanoseconds) == [2])
        #expect(underWay.isWaited(for: batch[...]))
        #expect(underWay.take(batch[...]).map(\.queuedAtNanoseconds) == [2])
        #expect(!underWay.isWaited(for: batch[...]))
    }
}
