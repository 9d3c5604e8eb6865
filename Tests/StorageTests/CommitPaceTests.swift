import Testing

@testable import Storage

@Suite("How long settlements wait for company") struct CommitPaceTests {
    private func pace(after rows: [Int], microseconds: UInt64, limit: UInt64 = 500) -> CommitPace {
        var pace = CommitPace(limitMicroseconds: limit)
        for count in rows { pace.committed(rows: count, microseconds: microseconds) }
        return pace
    }

    @Test("nothing is known at first, and nothing waited for") func first() {
        #expect(CommitPace(limitMicroseconds: 500).lingerMicroseconds == 0)
    }

    @Test("a lone request does not wait") func lone() {
        #expect(pace(after: [8, 8, 8, 1], microseconds: 600).lingerMicroseconds == 0)
    }

    @Test("among others, half of what commits take") func among() {
        let pace = pace(after: Array(repeating: 5, count: 100), microseconds: 600)
        #expect((290...300).contains(pace.lingerMicroseconds))
    }

    @Test("never more than the limit, and nothing with a limit of nothing", arguments: [0, 1, 500] as [UInt64])
    func limited(limit: UInt64) {
        let pace = pace(after: Array(repeating: 5, count: 100), microseconds: 50_000, limit: limit)
        #expect(pace.lingerMicroseconds == limit)
    }

    @Test("one slow commit does not decide") func oneSlow() {
        var pace = pace(after: Array(repeating: 5, count: 100), microseconds: 160, limit: .max)
        pace.committed(rows: 5, microseconds: 1_600)
        #expect(pace.lingerMicroseconds < 200)
    }
}
