import Domain
import TestSupport
import Testing

@Suite("Delivery") struct DeliveryTests {
    @Test("what a model does not say is the default, and a total deadline bounds the first byte")
    func policy() {
        let defaults = DeliveryPolicy()
        #expect(defaults.overridden(by: .none) == defaults)
        var settings = DeliverySettings(balancing: .weighted, isSafeToRepeat: false, probePath: "/up")
        for (index, number) in DeliverySettings.Number.allCases.enumerated() {
            settings.numbers[number] = Int64(index) + 1
        }
        let policy = defaults.overridden(by: settings)
        #expect(policy.balancing == .weighted && !policy.isSafeToRepeat && policy.probe.path == "/up")
        #expect(policy.replicaConcurrency == 1 && policy.queueDepth == 2 && policy.queueWaitMilliseconds == 3)
        #expect(policy.connectMilliseconds == 4 && policy.firstByteMilliseconds == 5 && policy.totalMilliseconds == 6)
        #expect(policy.attempts == 7 && policy.hedgeAfterMilliseconds == 8 && policy.retryPercent == 9)
        #expect(policy.breaker.consecutiveFailures == 10 && policy.breaker.failurePercent == 11)
        #expect(policy.breaker.openMilliseconds == 12 && policy.slowStartMilliseconds == 13)
        #expect(policy.probe.intervalMilliseconds == 14 && policy.probe.timeoutMilliseconds == 15)
        let short = defaults.overridden(by: DeliverySettings(numbers: [.totalMilliseconds: 200]))
        #expect(short.totalMilliseconds == 200 && short.firstByteMilliseconds == 200)
        let longer = defaults.overridden(by: DeliverySettings(numbers: [.totalMilliseconds: 90_000]))
        #expect(longer.firstByteMilliseconds == 90_000)
        let both = defaults.overridden(
            by: DeliverySettings(numbers: [.totalMilliseconds: 200, .firstByteMilliseconds: 900]))
        #expect(both.firstByteMilliseconds == 200)
    }

    @Test(
        "a path to probe cannot break out of its request",
        arguments: [
            ("/up", true), ("/", true), ("up", false), ("/a b", false), ("/a\r\nx: y", false), ("/a#b", false),
            ("", false),
        ])
    func probePaths(path: String, isValid: Bool) {
        #expect(DeliverySettings.isValid(probePath: path) == isValid)
    }

    @Test(
        "at most half of the replicas are left out, and never the last",
        arguments: [
            (0, 1, false), (0, 2, true), (1, 2, false), (0, 3, true), (1, 3, false), (1, 4, true), (2, 4, false),
            (0, 0, false),
        ])
    func ejection(unavailable: Int, total: Int, may: Bool) {
        #expect(EjectionRule.mayEject(unavailable: unavailable, of: total) == may)
    }

    @Test("two probes in a row take a replica down, one brings it back")
    func probes() {
        var tally = ProbeTally()
        #expect(tally.handle(.passed) == .none)
        #expect(tally.handle(.failed) == .none)
        #expect(tally.handle(.passed) == .none)
        #expect(tally.handle(.failed) == .none)
        #expect(!tally.isDown)
        #expect(tally.handle(.failed) == .wentDown)
        #expect(tally.isDown)
        #expect(tally.handle(.failed) == .none)
        #expect(tally.handle(.passed) == .cameUp)
        #expect(!tally.isDown)
        #expect(tally.handle(.failed) == .none)
    }

    @Test(
        "a worker without the page is there, one that says no is not",
        arguments: [
            (200, true, true), (204, true, true), (404, true, false), (503, false, false), (400, false, false),
            (500, false, false),
        ])
    func probeStatus(status: Int, isOtherwise: Bool, isOwn: Bool) {
        #expect(ProbeTally.isAlive(status: status, isOwnPath: false) == isOtherwise)
        #expect(ProbeTally.isAlive(status: status, isOwnPath: true) == isOwn)
    }

    @Test("repetitions are a share of the requests, and a few a second in any case")
    func budget() {
        var budget = RetryBudget(percent: 20)
        var taken = 0
        while budget.withdraw() { taken += 1 }
        #expect(Int64(taken) == RetryBudget.floorSavings)
        budget.refill(requests: 10, elapsedMilliseconds: 0)
        let granted = (0..<3).map { _ in budget.withdraw() }
        #expect(granted == [true, true, false])
        budget.refill(requests: 0, elapsedMilliseconds: 1_000)
        for _ in 0..<RetryBudget.floorPerSecond { #expect(budget.withdraw() == true) }
        #expect(budget.withdraw() == false)
        var none = RetryBudget(percent: 0)
        none.refill(requests: 1_000, elapsedMilliseconds: 1_000)
        #expect(none.withdraw() == false)
    }

    @Test(
        "no sequence of requests and repetitions gets more than the share, the floor and the savings", arguments: 0..<30
    )
    func budgetProperty(seed: UInt64) {
        var random = SeededRandom(seed: seed)
        let percent = Int64.random(in: 1...100, using: &random)
        var budget = RetryBudget(percent: percent)
        var (requests, elapsed, taken): (Int64, Int64, Int64) = (0, 0, 0)
        for _ in 0..<400 {
            let more = Int64.random(in: 0...50, using: &random)
            let milliseconds = Int64.random(in: 0...200, using: &random)
            budget.refill(requests: more, elapsedMilliseconds: milliseconds)
            (requests, elapsed) = (requests + more, elapsed + milliseconds)
            for _ in 0..<Int.random(in: 0...40, using: &random) where budget.withdraw() { taken += 1 }
            let most = requests * percent * 10 + elapsed * RetryBudget.floorPerSecond + RetryBudget.floorSavings * 1_000
            #expect(taken * 1_000 <= most)
        }
    }

    @Test("a share rises along a line, from a tenth to the whole")
    func slowStart() {
        #expect(SlowStart.share(elapsedMilliseconds: 0, of: 10_000) == 100)
        #expect(SlowStart.share(elapsedMilliseconds: 5_000, of: 10_000) == 500)
        #expect(SlowStart.share(elapsedMilliseconds: 10_000, of: 10_000) == 1_000)
        #expect(SlowStart.share(elapsedMilliseconds: 0, of: 0) == 1_000)
        #expect(SlowStart.share(elapsedMilliseconds: -5, of: 10) == 100)
    }

    private static func load(_ weight: Int64, _ outstanding: Int64, _ latency: Int64 = 0) -> ReplicaLoad {
        ReplicaLoad(weight: weight, outstanding: outstanding, latencyMicroseconds: latency)
    }

    @Test("of two draws the one with less to do for its weight is preferred, and equal ones leave it at the draw")
    func powerOfTwo() {
        let balancing = Balancing.powerOfTwo
        #expect(balancing.prefers(Self.load(1_000, 1), to: Self.load(1_000, 2)))
        #expect(!balancing.prefers(Self.load(1_000, 2), to: Self.load(1_000, 2)))
        #expect(balancing.prefers(Self.load(3_000, 5), to: Self.load(1_000, 2)))
        #expect(!balancing.prefers(Self.load(1_000, 2), to: Self.load(3_000, 5)))
        #expect(
            !Balancing.weighted.prefers(Self.load(1_000, 0), to: Self.load(1_000, 9)) && !Balancing.weighted.compares)
    }

    @Test(
        "the sooner answer is preferred, one that was never measured is not believed to be fast, and nothing overflows")
    func leastLatency() {
        let balancing = Balancing.leastLatency
        #expect(balancing.prefers(Self.load(1_000, 1, 10_000), to: Self.load(1_000, 0, 30_000)))
        #expect(!balancing.prefers(Self.load(1_000, 3, 10_000), to: Self.load(1_000, 0, 30_000)))
        #expect(!balancing.prefers(Self.load(1_000, 4, 0), to: Self.load(1_000, 1, 30_000)))
        #expect(balancing.prefers(Self.load(1_000, 0, 0), to: Self.load(1_000, 1, 30_000)))
        let huge = Self.load(1_000_000, .max >> 20, .max)
        #expect(!balancing.prefers(huge, to: huge))
    }

    @Test("the mean follows, arrives and fades")
    func latency() {
        #expect(LatencyAverage.adding(8_000, to: 0) == 8_000)
        #expect(LatencyAverage.adding(16_000, to: 8_000) == 9_000)
        var average: Int64 = 1
        for _ in 0..<200 { average = LatencyAverage.adding(30_000, to: average) }
        #expect(average == 30_000)
        #expect(LatencyAverage.faded(8_000) == 7_000)
        #expect(LatencyAverage.adding(-4, to: 1) == 1)
    }

    @Test(
        "what a status means",
        arguments: [
            (429, AttemptFailure.busy), (502, .busy), (503, .busy), (504, .busy), (500, .serverError),
            (501, .serverError),
            (400, .callersFault), (404, .callersFault), (413, .callersFault), (422, .callersFault), (304, .nonsense),
            (700, .nonsense),
        ])
    func statuses(status: Int, failure: AttemptFailure) {
        #expect(AttemptFailure(status: status) == failure)
    }

    @Test("a request that is the matter speaks against nobody")
    func faults() {
        let innocent = AttemptFailure.allCases.filter { !$0.isReplicasFault }
        #expect(Set(innocent) == [.crowded, .callersFault, .cancelled])
    }

    @Test("what was not sent may always be sent again, the rest only where it is safe, and errors once")
    func retries() {
        let safe = RetryRule(attempts: 3, isSafeToRepeat: true)
        let unsafe = RetryRule(attempts: 3, isSafeToRepeat: false)
        for failure in AttemptFailure.allCases {
            let isNeverSent = failure == .notSent || failure == .crowded
            let isFinal = failure == .callersFault || failure == .cancelled
            #expect(safe.allowsAnother(after: [failure]) == !isFinal)
            #expect(unsafe.allowsAnother(after: [failure]) == isNeverSent)
        }
        #expect(
            safe.allowsAnother(after: [.notSent, .notSent])
                && !safe.allowsAnother(after: [.notSent, .notSent, .notSent]))
        #expect(
            !safe.allowsAnother(after: [.serverError, .nonsense])
                && safe.allowsAnother(after: [.notSent, .serverError]))
        #expect(
            !safe.allowsAnother(after: [])
                && !RetryRule(attempts: 1, isSafeToRepeat: true).allowsAnother(after: [.notSent]))
    }
}

@Suite("Waiting line") struct WaitingLineTests {
    final class Waiter: Sendable {}

    @Test("first in, first served, and no more than fit")
    func order() {
        let waiters = (0..<4).map { _ in Waiter() }
        var line = WaitingLine<String, Waiter>(limit: 3)
        let entered = waiters.map { line.enter($0, for: "1.0.0") }
        #expect(entered == [true, true, true, false])
        let first = line.takeFirst { _ in true }
        #expect(first?.waiter === waiters[0])
        let last = line.enter(waiters[3], for: "1.0.0")
        #expect(last && line.count == 3)
        let left = [line.leave(waiters[1], for: "1.0.0"), line.leave(waiters[1], for: "1.0.0")]
        #expect(left == [true, false])
        let second = line.takeFirst { _ in true }
        #expect(second?.waiter === waiters[2])
        let rest = line.takeAll { _ in true }
        #expect(rest.count == 1 && line.count == 0 && line.isEmpty(for: "1.0.0"))
    }

    @Test("who waits for other replicas has a line and a bound of its own, and only heads are looked at")
    func lines() {
        let waiters = (0..<6).map { _ in Waiter() }
        var line = WaitingLine<String, Waiter>(limit: 3)
        for waiter in waiters[..<3] { _ = line.enter(waiter, for: "1.0.0") }
        let entered = waiters[3...].map { line.enter($0, for: "2.0.0") }
        #expect(entered == [true, true, true] && line.count == 6)
        var asked: [Int] = []
        let served = line.takeFirst { waiter in
            asked.append(waiters.firstIndex { $0 === waiter } ?? -1)
            return waiter === waiters[3] ? true : nil
        }
        #expect(served?.waiter === waiters[3] && asked == [0, 3])
        let oldest = line.takeFirst { _ in true }
        #expect(oldest?.waiter === waiters[0], "of two who can be served, the one who has waited longer")
    }

    @Test("a long line keeps its order while it is served and joined")
    func long() {
        let waiters = (0..<1_000).map { _ in Waiter() }
        var line = WaitingLine<Int, Waiter>(limit: 1_000)
        for waiter in waiters { _ = line.enter(waiter, for: 0) }
        for waiter in waiters[..<700] {
            let taken = line.takeFirst { _ in true }
            #expect(taken?.waiter === waiter)
            _ = line.enter(waiter, for: 0)
        }
        for waiter in waiters[700...] + waiters[..<700] {
            let taken = line.takeFirst { _ in true }
            #expect(taken?.waiter === waiter)
        }
        #expect(line.count == 0)
    }

    @Test("a line of no length lets nobody wait", arguments: [0, -1])
    func none(limit: Int) {
        var line = WaitingLine<Int, Waiter>(limit: limit)
        let entered = line.enter(Waiter(), for: 0)
        #expect(!entered)
    }
}
