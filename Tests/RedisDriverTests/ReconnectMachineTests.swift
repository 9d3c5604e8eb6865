import Testing

@testable import RedisDriver

@Suite struct ReconnectMachineTests {
    private let backoff = RedisBackoff(baseMilliseconds: 50, maximumMilliseconds: 400)

    @Test("the first commands wait for the first attempt; after a failure they are refused until it is ready")
    func admission() {
        var machine = ReconnectMachine(backoff: backoff)
        #expect(machine.admission == .hold)
        #expect(machine.demand() == .connect)
        #expect(machine.demand() == .none)
        #expect(machine.admission == .hold)
        #expect(machine.ended { $0 } == .wait(milliseconds: 50))
        #expect(machine.admission == .refuse)
        #expect(machine.waited() == .connect)
        #expect(machine.admission == .refuse)
        machine.connected()
        #expect(machine.admission == .send)
    }

    @Test("the ceiling of the wait doubles up to the maximum and starts again once it was ready")
    func growth() {
        var machine = ReconnectMachine(backoff: backoff)
        _ = machine.demand()
        var waits: [ReconnectMachine.Action] = []
        for _ in 0..<6 {
            waits.append(machine.ended { $0 })
            _ = machine.waited()
        }
        #expect(waits == [50, 100, 200, 400, 400, 400].map { .wait(milliseconds: $0) })
        machine.connected()
        #expect(machine.ended { $0 } == .wait(milliseconds: 50))
    }

    @Test("the wait is what the generator draws below the ceiling")
    func jitter() {
        var machine = ReconnectMachine(backoff: backoff)
        _ = machine.demand()
        #expect(machine.ended { _ in 7 } == .wait(milliseconds: 7))
    }

    @Test("an end that comes twice counts once")
    func doubleEnd() {
        var machine = ReconnectMachine(backoff: backoff)
        _ = machine.demand()
        _ = machine.ended { $0 }
        #expect(machine.ended { $0 } == .none)
        #expect(machine.failureCount == 1)
    }

    @Test("once stopped nothing starts again")
    func stopped() {
        var machine = ReconnectMachine(backoff: backoff)
        _ = machine.demand()
        machine.stop()
        #expect(machine.demand() == .none)
        #expect(machine.waited() == .none)
        #expect(machine.ended { $0 } == .none)
        machine.connected()
        #expect(machine.admission == .refuse)
    }

    @Test("a large number of failures does not overflow the wait")
    func ceiling() {
        let wide = RedisBackoff(baseMilliseconds: 1, maximumMilliseconds: 600_000)
        #expect(wide.ceilingMilliseconds(failureCount: 1_000) == 600_000)
        #expect(wide.ceilingMilliseconds(failureCount: 0) == 1)
    }
}
