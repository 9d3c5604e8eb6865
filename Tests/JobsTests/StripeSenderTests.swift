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
}
