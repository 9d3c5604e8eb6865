/// Decides by what calls of a replica came to whether it is left out. A pure value: time comes with each event.
///
///     closed --failures--> open --time--> half-open --success--> closed
///                            ^--------------failure--'
///
/// A success on its own only ends a row of failures; successes are counted in bulk with ``Event/tick(successes:)``, because the path of
/// a call that went well has no time for more.
public struct CircuitBreaker: Sendable, Hashable {
    public struct Thresholds: Sendable, Hashable {
        /// Failures in a row that open; 0 never does.
        public var consecutiveFailures: Int64 = 5
        /// Of the calls in the window, from ``minimumCalls`` on; 0 never opens.
        public var failurePercent: Int64 = 50
        public var minimumCalls: Int64 = 20
        public var windowMilliseconds: Int64 = 10_000
        /// How long it stays open the first time; twice as long each time after that.
        public var openMilliseconds: Int64 = 5_000
        public var longestOpenMilliseconds: Int64 = 60_000

        public init() {}
    }

    public enum Phase: Sendable, Hashable {
        case closed
        case open(untilMilliseconds: Int64)
        /// One call is let through to see.
        case halfOpen
    }

    public enum Event: Sendable, Hashable {
        case success
        /// - Parameter mayOpen: whether the replica may be left out at all; others may be out already.
        case failure(mayOpen: Bool)
        /// Time has passed, and so many calls went well meanwhile.
        case tick(successes: Int64)
    }

    public enum Action: Sendable, Hashable {
        case none
        case opened(untilMilliseconds: Int64)
        case halfOpened
        case closed
    }

    public let thresholds: Thresholds
    public private(set) var phase = Phase.closed
    /// Failures in a row.
    public private(set) var consecutiveFailures: Int64 = 0
    private var window: FailureWindow
    /// How often it opened without a long rest between.
    private var openings: Int64 = 0
    private var restsAtMilliseconds: Int64 = 0

    public init(_ thresholds: Thresholds) {
        self.thresholds = thresholds
        window = FailureWindow(milliseconds: thresholds.windowMilliseconds)
    }

    /// - Parameter now: milliseconds of a monotonic clock.
    public mutating func handle(_ event: Event, at now: Int64) -> Action {
        switch (phase, event) {
        case (.closed, .success):
            consecutiveFailures = 0
            return .none
        case (.closed, .failure(let mayOpen)):
            consecutiveFailures += 1
            window.add(successes: 0, failures: 1, at: now)
            return mayOpen && isTooMuch(at: now) ? open(at: now) : .none
        case (.closed, .tick(let successes)):
            window.add(successes: successes, failures: 0, at: now)
            rest(at: now)
            return .none
        case (.open(let until), .tick):
            guard now >= until else { return .none }
            phase = .halfOpen
            return .halfOpened
        // The end of calls that began before it opened says nothing new.
        case (.open, .success), (.open, .failure), (.halfOpen, .tick): return .none
        case (.halfOpen, .success):
            phase = .closed
            consecutiveFailures = 0
            window = FailureWindow(milliseconds: thresholds.windowMilliseconds)
            restsAtMilliseconds = now + thresholds.longestOpenMilliseconds
            return .closed
        case (.halfOpen, .failure):
            consecutiveFailures += 1
            return open(at: now)
        }
    }

    private func isTooMuch(at now: Int64) -> Bool {
        if thresholds.consecutiveFailures > 0, consecutiveFailures >= thresholds.consecutiveFailures { return true }
        guard thresholds.failurePercent > 0 else { return false }
        let (successes, failures) = window.counts(at: now)
        let calls = successes + failures
        return calls >= thresholds.minimumCalls && failures * 100 >= calls * thresholds.failurePercent
    }

    private mutating func open(at now: Int64) -> Action {
        // Eight doublings are beyond any longest time that makes sense.
        let doubled = thresholds.openMilliseconds << min(openings, 8)
        let until = now + min(doubled, max(thresholds.longestOpenMilliseconds, thresholds.openMilliseconds))
        openings += 1
        phase = .open(untilMilliseconds: until)
        return .opened(untilMilliseconds: until)
    }

    /// One opening is forgotten for each long time without another.
    private mutating func rest(at now: Int64) {
        guard openings > 0, now >= restsAtMilliseconds else { return }
        openings -= 1
        restsAtMilliseconds = now + thresholds.longestOpenMilliseconds
    }
}

/// Successes and failures of the recent past, in ten parts that fall out one by one.
struct FailureWindow: Sendable, Hashable {
    private static let partCount = 10

    private struct Part: Sendable, Hashable {
        var number: Int64 = .min
        var successes: Int64 = 0
        var failures: Int64 = 0
    }

    private let partMilliseconds: Int64
    private var parts = [Part](repeating: Part(), count: partCount)

    init(milliseconds: Int64) {
        partMilliseconds = max(1, milliseconds / Int64(Self.partCount))
    }

    mutating func add(successes: Int64, failures: Int64, at now: Int64) {
        guard successes > 0 || failures > 0 else { return }
        let number = now / partMilliseconds
        let index = Int(number.magnitude % UInt64(Self.partCount))
        if parts[index].number != number { parts[index] = Part(number: number) }
        parts[index].successes += successes
        parts[index].failures += failures
    }

    func counts(at now: Int64) -> (successes: Int64, failures: Int64) {
        let number = now / partMilliseconds
        var counts: (successes: Int64, failures: Int64) = (0, 0)
        for part in parts where part.number > number - Int64(Self.partCount) && part.number <= number {
            counts.successes += part.successes
            counts.failures += part.failures
        }
        return counts
    }
}
