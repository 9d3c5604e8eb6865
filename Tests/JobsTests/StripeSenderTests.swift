import Domain
import Testing

@testable import Jobs

@Suite("Sending to Stripe")
struct StripeSenderTests {
    @Test("the pause doubles up to a quarter of an hour, and never falls below half of its ceiling")
    func pauses() {
        let configuration = StripeSender.Configuration()
        var ceiling: Int64 = 2_000
        for attempt in 1...40 as ClosedRange<Int32> {
            for jitter in [0, 1, .max / 2, .max] as [UInt64] {
                let pause = StripeSender.pause(after: attempt, configuration, jitter: jitter)
                #expect(pause >= ceiling / 2 && pause < ceiling)
            }
            ceiling = min(ceiling * 2, 900_000)
        }
    }

    @Test("where Stripe says when to come again, the pause is no shorter, up to an hour")
    func asked() {
        let configuration = StripeSender.Configuration()
        func pause(_ milliseconds: Int64?) -> Int64 {
            StripeSender.pause(
                after: 1, .failed(status: 429, reason: "x", afterMilliseconds: milliseconds), configuration, jitter: 0)
        }
        #expect(pause(nil) == 1_000)
        #expect(pause(10) == 1_000)
        #expect(pause(5_000) == 5_000)
        #expect(pause(86_400_000) == 3_600_000)
        #expect(StripeSender.pause(after: 1, .accepted(status: 200), configuration, jitter: 0) == 1_000)
    }
}
