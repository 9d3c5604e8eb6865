internal import Domain

/// Questions that are being asked, and who waits for their answers: one request leads, the others wait. A value; its owner locks it and tells
/// the waiters after that.
struct CacheFlights {
    /// What a waiter is told.
    enum End: Sendable {
        case served(CachedPrediction)
        /// The leader came to nothing; the one who is told this leads now.
        case lead
        case failed(Refusal)
        /// The answer is not one to share: ask the worker.
        case alone
        /// The waiter's own time is over; the question goes on without it.
        case overdue
    }

    struct Waiter {
        private let continuation: CheckedContinuation<End, Never>
        let endNanoseconds: UInt64

        /// - Parameter endNanoseconds: by the monotonic clock, until when it waits.
        init(_ continuation: CheckedContinuation<End, Never>, endNanoseconds: UInt64) {
            self.continuation = continuation
            self.endNanoseconds = endNanoseconds
        }

        func resume(returning end: End) { continuation.resume(returning: end) }
    }

    enum Joining {
        case leads
        case waits
        /// As many wait as may.
        case full
    }

    private struct Flight {
        var waiters: [Waiter] = []
        var failures = 0
    }

    /// Waiters of one question; who comes later asks for itself.
    static let waiterLimit = 10_000
    /// Leaders that may fail one after the other before all who wait are told: enough for one bad replica, and no queue of time-outs.
    static let failureLimit = 2

    private var flights: [CacheKey: Flight] = [:]

    var waiterCount: Int { flights.values.reduce(0) { $0 + $1.waiters.count } }

    /// Whether somebody asks already. If not, the caller leads.
    mutating func lead(_ key: CacheKey) -> Bool {
        guard flights[key] == nil else { return false }
        flights[key] = Flight()
        return true
    }

    mutating func join(_ key: CacheKey, _ waiter: Waiter) -> Joining {
        guard let count = flights[key]?.waiters.count else {
            flights[key] = Flight()
            return .leads
        }
        guard count < Self.waiterLimit else { return .full }
        flights[key]?.waiters.append(waiter)
        return .waits
    }

    /// Ends a question that was answered.
    mutating func end(_ key: CacheKey) -> [Waiter] { flights.removeValue(forKey: key)?.waiters ?? [] }

    /// The leader gives up without having asked, or its answer is nobody else's any more: no failure, and the next one leads.
    mutating func pass(_ key: CacheKey) -> Waiter? {
        guard let waiters = flights[key]?.waiters, !waiters.isEmpty else {
            flights[key] = nil
            return nil
        }
        return flights[key]?.waiters.removeFirst()
    }

    /// Takes out who has waited as long as it may.
    mutating func takeOverdue(atNanoseconds now: UInt64) -> [Waiter] {
        var overdue: [Waiter] = []
        for (key, flight) in flights where flight.waiters.contains(where: { $0.endNanoseconds <= now }) {
            overdue += flight.waiters.filter { $0.endNanoseconds <= now }
            flights[key]?.waiters.removeAll { $0.endNanoseconds <= now }
        }
        return overdue
    }

    /// - Returns: who is told, and that one of them leads. After so many failures it is everybody, and that it failed.
    mutating func fail(_ key: CacheKey) -> (waiters: [Waiter], oneLeads: Bool) {
        guard var flight = flights.removeValue(forKey: key), !flight.waiters.isEmpty else { return ([], false) }
        flight.failures += 1
        guard flight.failures < Self.failureLimit else { return (flight.waiters, false) }
        let next = flight.waiters.removeFirst()
        flights[key] = flight
        return ([next], true)
    }
}
