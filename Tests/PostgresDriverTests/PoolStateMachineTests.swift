import Testing

@testable import PostgresDriver

/// Always the same number, so that a delay is what the table says.
struct FixedGenerator: RandomNumberGenerator {
    var value: UInt64
    mutating func next() -> UInt64 { value }
}

/// A small generator with a seed (Knuth's 64-bit linear congruence, MMIX constants, upper half used).
struct SeededGenerator: RandomNumberGenerator {
    var state: UInt64
    mutating func next() -> UInt64 {
        var word: UInt64 = 0
        for _ in 0..<2 {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            word = word << 32 | state >> 32
        }
        return word
    }
}

@Suite("the decisions of the pool")
struct PoolStateMachineTests {
    typealias Machine = PoolStateMachine
    typealias Action = PoolStateMachine.Action

    enum Event {
        case start
        case lease(UInt64)
        case due(UInt64)
        case connected(UInt64)
        /// With a generator that always gives the ceiling of the backoff.
        case failed(UInt64, permanent: Bool = false)
        case released(UInt64, reusable: Bool = true)
        case closed(UInt64)
        case timedOut(UInt64)
        case cancelled(UInt64)
        case shutDown
        /// Moves the clock to this millisecond.
        case clock(UInt64)
    }

    struct Scenario: CustomTestStringConvertible, Sendable {
        let testDescription: String
        var limits = Machine.Limits(maximumConnections: 2, maximumWaiters: 1)
        let steps: [(Event, [Action])]
    }

    static let scenarios: [Scenario] = [
        Scenario(
            testDescription: "the first lease opens a connection and gets it; the second use finds it idle",
            steps: [
                (.lease(1), [.open(1, afterMilliseconds: 0)]), (.due(1), []), (.connected(1), [.grant(1, to: 1)]),
                (.released(1), []), (.lease(2), [.grant(1, to: 2)]),
            ]),
        Scenario(
            testDescription: "waiters are served in their order, by whichever connection comes first",
            limits: Machine.Limits(maximumConnections: 1, maximumWaiters: 3),
            steps: [
                (.lease(1), [.open(1, afterMilliseconds: 0)]), (.lease(2), []), (.lease(3), []), (.due(1), []),
                (.connected(1), [.grant(1, to: 1)]), (.released(1), [.grant(1, to: 2)]),
                (.released(1), [.grant(1, to: 3)]),
                (.released(1), []),
            ]),
        Scenario(
            testDescription: "a waiter beyond the bound is refused at once",
            limits: Machine.Limits(maximumConnections: 1, maximumWaiters: 1),
            steps: [
                (.lease(1), [.open(1, afterMilliseconds: 0)]), (.lease(2), []), (.lease(3), [.refuse(3, .queueFull)]),
                (.due(1), []),
                (.connected(1), [.grant(1, to: 1)]), (.lease(4), [.refuse(4, .queueFull)]),
            ]),
        Scenario(
            testDescription: "a waiter that times out or is cancelled is refused once and skipped",
            limits: Machine.Limits(maximumConnections: 1, maximumWaiters: 5),
            steps: [
                (.lease(1), [.open(1, afterMilliseconds: 0)]), (.lease(2), []), (.lease(3), []), (.lease(4), []),
                (.due(1), []),
                (.connected(1), [.grant(1, to: 1)]), (.timedOut(2), [.refuse(2, .timedOut)]), (.timedOut(2), []),
                (.cancelled(3), [.refuse(3, .cancelled)]), (.released(1), [.grant(1, to: 4)]), (.timedOut(4), []),
            ]),
        Scenario(
            testDescription: "the most recently used connection is lent first",
            steps: [
                (.lease(1), [.open(1, afterMilliseconds: 0)]), (.lease(2), [.open(2, afterMilliseconds: 0)]),
                (.due(1), []),
                (.due(2), []), (.connected(1), [.grant(1, to: 1)]), (.connected(2), [.grant(2, to: 2)]),
                (.released(2), []),
                (.released(1), []), (.lease(3), [.grant(1, to: 3)]), (.lease(4), [.grant(2, to: 4)]),
            ]),
        Scenario(
            testDescription: "a broken connection is closed and replaced only when somebody waits",
            limits: Machine.Limits(maximumConnections: 1, maximumWaiters: 1),
            steps: [
                (.lease(1), [.open(1, afterMilliseconds: 0)]), (.due(1), []), (.connected(1), [.grant(1, to: 1)]),
                (.released(1, reusable: false), [.close(1)]), (.closed(1), []),
                (.lease(2), [.open(2, afterMilliseconds: 0)]),
                (.due(2), []), (.connected(2), [.grant(2, to: 2)]), (.lease(3), []),
                (.released(2, reusable: false), [.close(2)]), (.closed(2), [.open(3, afterMilliseconds: 0)]),
            ]),
        Scenario(
            testDescription: "a connection beyond its age is replaced when it is touched",
            limits: Machine.Limits(maximumConnections: 2, maximumWaiters: 1, maximumAgeMilliseconds: 100),
            steps: [
                (.lease(1), [.open(1, afterMilliseconds: 0)]), (.due(1), []), (.connected(1), [.grant(1, to: 1)]),
                (.clock(99), []),
                (.released(1), []), (.clock(100), []), (.lease(2), [.close(1), .open(2, afterMilliseconds: 0)]),
                (.closed(1), []),
                (.due(2), []), (.connected(2), [.grant(2, to: 2)]), (.clock(200), []), (.released(2), [.close(2)]),
            ]),
        Scenario(
            testDescription:
                "an unreachable server is tried by one connection at a time, with doubling delays up to the maximum",
            limits: Machine.Limits(
                maximumConnections: 3, maximumWaiters: 9, backoffBaseMilliseconds: 10, backoffMaximumMilliseconds: 35),
            steps: [
                (.lease(1), [.open(1, afterMilliseconds: 0)]), (.lease(2), [.open(2, afterMilliseconds: 0)]),
                (.due(1), []),
                (.due(2), []), (.failed(1), []), (.failed(2), [.open(3, afterMilliseconds: 20)]), (.lease(3), []),
                (.clock(20), []),
                (.due(3), []), (.failed(3), [.open(4, afterMilliseconds: 35)]),
                (.timedOut(1), [.refuse(1, .unreachable)]),
                (.due(4), []), (.connected(4), [.grant(4, to: 2), .open(5, afterMilliseconds: 0)]),
                (.timedOut(3), [.refuse(3, .timedOut)]),
            ]),
        Scenario(
            testDescription: "without waiters nobody tries; the next one waits out the delay",
            limits: Machine.Limits(maximumConnections: 2, maximumWaiters: 9, backoffBaseMilliseconds: 10),
            steps: [
                (.lease(1), [.open(1, afterMilliseconds: 0)]), (.due(1), []), (.cancelled(1), [.refuse(1, .cancelled)]),
                (.failed(1), []), (.clock(4), []), (.lease(2), [.open(2, afterMilliseconds: 6)]),
            ]),
        Scenario(
            testDescription: "a failure that waiting cannot mend refuses the waiters at once",
            limits: Machine.Limits(maximumConnections: 1, maximumWaiters: 9),
            steps: [
                (.lease(1), [.open(1, afterMilliseconds: 0)]), (.lease(2), []), (.due(1), []),
                (.failed(1, permanent: true), [.refuse(1, .unreachable), .refuse(2, .unreachable)]),
            ]),
        Scenario(
            testDescription: "the minimum is opened at the start and kept",
            limits: Machine.Limits(maximumConnections: 3, minimumConnections: 2, maximumWaiters: 1),
            steps: [
                (.start, [.open(1, afterMilliseconds: 0), .open(2, afterMilliseconds: 0)]), (.due(1), []),
                (.due(2), []),
                (.connected(1), []), (.connected(2), []), (.lease(1), [.grant(2, to: 1)]),
                (.released(2, reusable: false), [.close(2)]), (.closed(2), [.open(3, afterMilliseconds: 0)]),
            ]),
        Scenario(
            testDescription:
                "shutting down refuses waiters, closes idle connections, waits for lent and opening ones, finishes once",
            limits: Machine.Limits(maximumConnections: 3, maximumWaiters: 9),
            steps: [
                (.lease(1), [.open(1, afterMilliseconds: 0)]), (.due(1), []), (.connected(1), [.grant(1, to: 1)]),
                (.lease(2), [.open(2, afterMilliseconds: 0)]), (.due(2), []), (.connected(2), [.grant(2, to: 2)]),
                (.released(2), []), (.lease(3), [.grant(2, to: 3)]), (.lease(4), [.open(3, afterMilliseconds: 0)]),
                (.due(3), []),
                (.released(2), [.grant(2, to: 4)]), (.released(2), []), (.shutDown, [.close(2)]), (.closed(2), []),
                (.lease(5), [.refuse(5, .shuttingDown)]), (.connected(3), [.close(3)]), (.closed(3), []),
                (.released(1), [.close(1)]), (.closed(1), [.finish]), (.shutDown, []),
            ]),
        Scenario(
            testDescription: "shutting down drops a delayed opening, and an empty pool finishes at once",
            limits: Machine.Limits(maximumConnections: 1, maximumWaiters: 9, backoffBaseMilliseconds: 10),
            steps: [
                (.lease(1), [.open(1, afterMilliseconds: 0)]), (.due(1), []),
                (.failed(1), [.open(2, afterMilliseconds: 10)]),
                (.shutDown, [.refuse(1, .shuttingDown), .finish]), (.due(2), []),
            ]),
    ]

    @Test("follow the table", arguments: scenarios)
    func scenario(_ scenario: Scenario) {
        var machine = Machine(limits: scenario.limits)
        var now: UInt64 = 0
        for (index, (event, expected)) in scenario.steps.enumerated() {
            let actions = Self.apply(event, to: &machine, now: &now)
            #expect(actions == expected, "step \(index): \(event)")
        }
    }

    private static func apply(_ event: Event, to machine: inout Machine, now: inout UInt64) -> [Action] {
        // Only the uppermost value makes `random(in:)` give the ceiling.
        var ceiling = FixedGenerator(value: .max)
        switch event {
        case .start: return machine.start(now: now)
        case .lease(let waiter): return machine.lease(waiter, now: now)
        case .due(let id):
            _ = machine.openingDue(id)
            return []
        case .connected(let id): return machine.connected(id, now: now)
        case .failed(let id, let permanent):
            return machine.connectFailed(id, isPermanent: permanent, now: now, using: &ceiling)
        case .released(let id, let reusable): return machine.released(id, isReusable: reusable, now: now)
        case .closed(let id): return machine.closed(id, now: now)
        case .timedOut(let waiter): return machine.timedOut(waiter)
        case .cancelled(let waiter): return machine.cancelled(waiter)
        case .shutDown: return machine.shutDown()
        case .clock(let time):
            now = time
            return []
        }
    }

    @Test("the delay is anywhere between nothing and the ceiling")
    func fullJitter() {
        var delays: Set<UInt64> = []
        var generator = SeededGenerator(state: 7)
        for _ in 0..<200 {
            var machine = Machine(limits: Machine.Limits(maximumConnections: 1, backoffBaseMilliseconds: 8))
            _ = machine.lease(1, now: 0)
            _ = machine.openingDue(1)
            guard
                case .open(_, let delay)? = machine.connectFailed(1, isPermanent: false, now: 0, using: &generator)
                    .first
            else {
                Issue.record("no second attempt")
                return
            }
            delays.insert(delay)
        }
        #expect(delays == Set(0...8))
    }

    @Test(
        "whatever happens, bounds hold, every waiter is answered once, and nobody waits beside an idle connection",
        arguments: 0..<40)
    func randomWalk(seed: UInt64) {
        var walk = PoolWalk(seed: seed)
        for _ in 0..<400 { walk.step() }
        walk.finish()
    }
}

/// Plays a pool and its users at random and checks what must always hold.
struct PoolWalk {
    private var machine: PoolStateMachine
    private let limits: PoolStateMachine.Limits
    private var generator: SeededGenerator
    private var now: UInt64 = 0
    private var lastWaiter: UInt64 = 0
    private var waiting: Set<UInt64> = []
    private var delayed: Set<UInt64> = []
    private var opening: Set<UInt64> = []
    private var lent: Set<UInt64> = []
    private var closing: Set<UInt64> = []
    private var finishCount = 0
    private var isShuttingDown = false

    init(seed: UInt64) {
        generator = SeededGenerator(state: seed)
        limits = PoolStateMachine.Limits(
            maximumConnections: Int.random(in: 1...5, using: &generator),
            minimumConnections: Int.random(in: 0...2, using: &generator),
            maximumWaiters: Int.random(in: 0...6, using: &generator),
            maximumAgeMilliseconds: Bool.random(using: &generator) ? 300 : nil)
        machine = PoolStateMachine(limits: limits)
        handle(machine.start(now: 0))
    }

    mutating func step() {
        now += UInt64.random(in: 0...20, using: &generator)
        switch Int.random(in: 0..<100, using: &generator) {
        case 0..<35:
            lastWaiter += 1
            waiting.insert(lastWaiter)
            handle(machine.lease(lastWaiter, now: now))
        case 35..<50:
            guard let id = delayed.randomElement(using: &generator) else { return }
            delayed.remove(id)
            if machine.openingDue(id) { opening.insert(id) }
        case 50..<62: open(succeeds: true)
        case 62..<67: open(succeeds: false)
        case 67..<88:
            guard let id = lent.randomElement(using: &generator) else { return }
            lent.remove(id)
            handle(machine.released(id, isReusable: Int.random(in: 0..<5, using: &generator) > 0, now: now))
        case 88..<96:
            guard let id = closing.randomElement(using: &generator) else { return }
            closing.remove(id)
            handle(machine.closed(id, now: now))
        default:
            guard let waiter = waiting.randomElement(using: &generator) else { return }
            handle(Bool.random(using: &generator) ? machine.timedOut(waiter) : machine.cancelled(waiter))
        }
    }

    /// Shuts down and plays on until everything has ended.
    mutating func finish() {
        isShuttingDown = true
        handle(machine.shutDown())
        #expect(waiting.isEmpty)
        delayed.removeAll()
        while !opening.isEmpty { open(succeeds: Bool.random(using: &generator)) }
        for id in lent {
            lent.remove(id)
            handle(machine.released(id, isReusable: true, now: now))
        }
        for id in closing {
            closing.remove(id)
            handle(machine.closed(id, now: now))
        }
        #expect(finishCount == 1)
        #expect(machine.connectionCount == 0)
    }

    private mutating func open(succeeds: Bool) {
        guard let id = opening.randomElement(using: &generator) else { return }
        opening.remove(id)
        handle(
            succeeds
                ? machine.connected(id, now: now)
                : machine.connectFailed(
                    id, isPermanent: Int.random(in: 0..<5, using: &generator) == 0, now: now, using: &generator))
    }

    private mutating func handle(_ actions: [PoolStateMachine.Action]) {
        for action in actions {
            switch action {
            case .open(let id, _): delayed.insert(id)
            case .close(let id): closing.insert(id)
            case .grant(let id, let waiter):
                #expect(waiting.remove(waiter) != nil)
                #expect(lent.insert(id).inserted)
            case .refuse(let waiter, _): #expect(waiting.remove(waiter) != nil)
            case .finish: finishCount += 1
            }
        }
        #expect(machine.connectionCount <= limits.maximumConnections)
        #expect(machine.leasedCount == lent.count)
        #expect(machine.waitingCount == waiting.count)
        #expect(waiting.isEmpty || machine.idleCount == 0)
        #expect(waiting.count <= limits.maximumWaiters + limits.maximumConnections)
        // Nobody may wait for something that will never come.
        #expect(waiting.isEmpty || !(lent.isEmpty && opening.isEmpty && delayed.isEmpty && closing.isEmpty))
    }
}
