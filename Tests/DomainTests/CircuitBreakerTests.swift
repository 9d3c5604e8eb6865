import Domain
import TestSupport
import Testing

@Suite("Circuit breaker") struct CircuitBreakerTests {
    private static func thresholds(failures: Int64 = 3, percent: Int64 = 0, minimum: Int64 = 10)
        -> CircuitBreaker.Thresholds
    {
        var thresholds = CircuitBreaker.Thresholds()
        thresholds.consecutiveFailures = failures
        thresholds.failurePercent = percent
        thresholds.minimumCalls = minimum
        thresholds.windowMilliseconds = 10_000
        thresholds.openMilliseconds = 1_000
        thresholds.longestOpenMilliseconds = 4_000
        return thresholds
    }

    /// A breaker that three failures at `now` have opened.
    private static func opened(at now: Int64 = 0) -> CircuitBreaker {
        var breaker = CircuitBreaker(thresholds())
        for _ in 0..<3 { _ = breaker.handle(.failure(mayOpen: true), at: now) }
        return breaker
    }

    @Test("failures in a row open it, and a success between them does not let it come to that")
    func consecutive() {
        var breaker = CircuitBreaker(Self.thresholds())
        #expect(breaker.handle(.failure(mayOpen: true), at: 1) == .none)
        #expect(breaker.handle(.failure(mayOpen: true), at: 2) == .none)
        #expect(breaker.handle(.success, at: 3) == .none)
        #expect(breaker.consecutiveFailures == 0)
        #expect(breaker.handle(.failure(mayOpen: true), at: 4) == .none)
        #expect(breaker.handle(.failure(mayOpen: true), at: 5) == .none)
        #expect(breaker.handle(.failure(mayOpen: true), at: 6) == .opened(untilMilliseconds: 1_006))
        #expect(breaker.phase == .open(untilMilliseconds: 1_006))
    }

    @Test("one that may not open stays closed, and opens with the next failure when it may")
    func capped() {
        var breaker = CircuitBreaker(Self.thresholds())
        for now in 0..<20 { #expect(breaker.handle(.failure(mayOpen: false), at: Int64(now)) == .none) }
        #expect(breaker.phase == .closed)
        #expect(breaker.handle(.failure(mayOpen: true), at: 20) == .opened(untilMilliseconds: 1_020))
    }

    @Test("a share of the calls opens it, from the least number of calls on")
    func ratio() {
        var breaker = CircuitBreaker(Self.thresholds(failures: 0, percent: 50))
        _ = breaker.handle(.tick(successes: 5), at: 0)
        for _ in 0..<4 { #expect(breaker.handle(.failure(mayOpen: true), at: 0) == .none) }
        // Nine calls so far; the tenth makes half of them failures.
        #expect(breaker.handle(.failure(mayOpen: true), at: 0) == .opened(untilMilliseconds: 1_000))
    }

    @Test("what is older than the window does not count")
    func window() {
        var breaker = CircuitBreaker(Self.thresholds(failures: 0, percent: 50))
        for _ in 0..<9 { _ = breaker.handle(.failure(mayOpen: true), at: 0) }
        #expect(breaker.handle(.failure(mayOpen: true), at: 10_000) == .none)
        _ = breaker.handle(.tick(successes: 1), at: 10_000)
        for _ in 0..<7 { #expect(breaker.handle(.failure(mayOpen: true), at: 10_500) == .none) }
        #expect(breaker.handle(.failure(mayOpen: true), at: 10_500) != .none)
    }

    @Test("while open, nothing but time counts")
    func open() {
        var breaker = Self.opened()
        #expect(breaker.handle(.success, at: 500) == .none)
        #expect(breaker.handle(.failure(mayOpen: true), at: 500) == .none)
        #expect(breaker.handle(.tick(successes: 9), at: 999) == .none)
        #expect(breaker.handle(.tick(successes: 0), at: 1_000) == .halfOpened)
        #expect(breaker.phase == .halfOpen)
    }

    @Test("a success closes it half-open, and old failures are forgotten")
    func closes() {
        var breaker = Self.opened()
        _ = breaker.handle(.tick(successes: 0), at: 1_000)
        #expect(breaker.handle(.tick(successes: 3), at: 1_100) == .none)
        #expect(breaker.handle(.success, at: 1_200) == .closed)
        #expect(breaker.phase == .closed && breaker.consecutiveFailures == 0)
        #expect(breaker.handle(.failure(mayOpen: true), at: 1_300) == .none)
    }

    @Test("a failure half-open opens it for twice as long, up to the longest time")
    func backsOff() {
        var breaker = Self.opened()
        var now: Int64 = 0
        for length: Int64 in [1_000, 2_000, 4_000, 4_000] {
            #expect(breaker.phase == .open(untilMilliseconds: now + length))
            now += length
            #expect(breaker.handle(.tick(successes: 0), at: now) == .halfOpened)
            // Whether it may open was decided when it did.
            #expect(breaker.handle(.failure(mayOpen: false), at: now) != .none)
        }
    }

    @Test("after a long rest the first opening is short again")
    func rests() {
        var breaker = Self.opened()
        _ = breaker.handle(.tick(successes: 0), at: 1_000)
        _ = breaker.handle(.success, at: 1_000)
        _ = breaker.handle(.tick(successes: 1), at: 5_000)
        for _ in 0..<2 { _ = breaker.handle(.failure(mayOpen: true), at: 5_100) }
        #expect(breaker.handle(.failure(mayOpen: true), at: 5_100) == .opened(untilMilliseconds: 6_100))
    }

    @Test(
        "whatever happens, it opens only when allowed, closes only by a success, and never opens beyond the longest time",
        arguments: 0..<50)
    func property(seed: UInt64) {
        var random = SeededRandom(seed: seed)
        let thresholds = Self.thresholds(
            failures: Int64.random(in: 0...4, using: &random), percent: Int64.random(in: 0...100, using: &random))
        var breaker = CircuitBreaker(thresholds)
        var now: Int64 = 0
        for _ in 0..<500 {
            now += Int64.random(in: 0...700, using: &random)
            let mayOpen = Bool.random(using: &random)
            let event: CircuitBreaker.Event =
                switch Int.random(in: 0...2, using: &random) {
                case 0: .success
                case 1: .failure(mayOpen: mayOpen)
                default: .tick(successes: Int64.random(in: 0...3, using: &random))
                }
            let before = breaker.phase
            let action = breaker.handle(event, at: now)
            switch (before, breaker.phase) {
            case (.closed, .open(let until)):
                #expect(event == .failure(mayOpen: true) && action == .opened(untilMilliseconds: until))
                #expect(until > now && until - now <= thresholds.longestOpenMilliseconds)
            case (.halfOpen, .open(let until)):
                #expect(event == .failure(mayOpen: mayOpen) && action == .opened(untilMilliseconds: until))
                #expect(until > now && until - now <= thresholds.longestOpenMilliseconds)
            case (.open(let until), .halfOpen): #expect(now >= until && action == .halfOpened)
            case (.halfOpen, .closed): #expect(event == .success && action == .closed)
            case (.closed, .closed), (.halfOpen, .halfOpen): #expect(action == .none)
            case (.open(let one), .open(let other)): #expect(one == other && action == .none)
            default: Issue.record("\(before) became \(breaker.phase) by \(event)")
            }
        }
    }
}
