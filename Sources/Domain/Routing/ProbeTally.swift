/// Decides by what probes of a replica found whether it is there. A pure value.
///
/// Two in a row have to fail, because one can be lost by chance; one that succeeds is enough, because it proves what it asks.
public struct ProbeTally: Sendable, Hashable {
    public enum Event: Sendable, Hashable {
        case passed
        case failed
    }

    public enum Action: Sendable, Hashable {
        case none
        case wentDown
        case cameUp
    }

    public static let failuresToGoDown = 2

    public private(set) var isDown = false
    private var failures = 0

    public init() {}

    public mutating func handle(_ event: Event) -> Action {
        switch event {
        case .passed:
            failures = 0
            guard isDown else { return .none }
            isDown = false
            return .cameUp
        case .failed:
            failures = min(failures + 1, Self.failuresToGoDown)
            guard !isDown, failures >= Self.failuresToGoDown else { return .none }
            isDown = true
            return .wentDown
        }
    }

    /// Whether an answer to a probe says that the worker is there.
    ///
    /// - Parameter isOwnPath: the operator named the path, so that only success is one. Otherwise a worker that does not have the page is
    ///   there: it answered.
    public static func isAlive(status: Int, isOwnPath: Bool) -> Bool {
        (200..<300).contains(status) || !isOwnPath && [404, 405, 501].contains(status)
    }
}
