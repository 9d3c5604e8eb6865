/// When a connection has been silent for too long: a pure state machine over monotonic time.
///
/// Bounded are the waits for a head that has begun, for the next bytes of a body, for the body as a whole (or a byte now and then would keep
/// a connection for ever), and for the next request on an idle connection. While the answer is being made the pipeline's own deadlines hold.
public struct ConnectionDeadlines: Sendable {
    public struct Limits: Sendable {
        var headNanoseconds: UInt64
        var bodyNanoseconds: UInt64
        /// For all of a body: as many times the wait for its next bytes.
        var bodyWaits: UInt64 = 10
        var idleNanoseconds: UInt64

        /// - Parameters:
        ///   - headMilliseconds: for a head that has begun.
        ///   - bodyMilliseconds: for the next bytes of a body; all of it has ten times that.
        ///   - idleMilliseconds: for the next request of a connection.
        public init(headMilliseconds: Int64, bodyMilliseconds: Int64, idleMilliseconds: Int64) {
            headNanoseconds = Self.nanoseconds(headMilliseconds)
            bodyNanoseconds = Self.nanoseconds(bodyMilliseconds)
            idleNanoseconds = Self.nanoseconds(idleMilliseconds)
        }

        init(headNanoseconds: UInt64, bodyNanoseconds: UInt64, idleNanoseconds: UInt64) {
            self.headNanoseconds = headNanoseconds
            self.bodyNanoseconds = bodyNanoseconds
            self.idleNanoseconds = idleNanoseconds
        }

        private static func nanoseconds(_ milliseconds: Int64) -> UInt64 { UInt64(max(0, milliseconds)) * 1_000_000 }
    }

    enum Expiry: Equatable, Sendable {
        /// Look again at this time.
        case notYet(atNanoseconds: UInt64)
        /// Nothing to answer; close.
        case closeIdle
        /// A request has begun and does not arrive: 408 and close.
        case requestTimeout
        /// Nothing is waited for now.
        case none
    }

    private enum Phase: Sendable { case idle, head, body, answering }

    private let limits: Limits
    private var phase = Phase.idle
    private var since: UInt64
    private var bodySince: UInt64 = 0

    init(limits: Limits, now: UInt64) {
        self.limits = limits
        since = now
    }

    /// Bytes arrived that made no complete head.
    mutating func bytesArrived(now: UInt64) {
        guard phase == .idle else { return }
        phase = .head
        since = now
    }

    mutating func headArrived(now: UInt64) {
        phase = .body
        since = now
        bodySince = now
    }

    mutating func bodyArrived(now: UInt64) {
        guard phase == .body else { return }
        since = now
    }

    mutating func requestComplete() { phase = .answering }

    mutating func answerComplete(now: UInt64) {
        phase = .idle
        since = now
    }

    /// When the present wait is over; `nil` while nothing is waited for.
    var dueNanoseconds: UInt64? {
        switch phase {
        case .idle: since + limits.idleNanoseconds
        case .head: since + limits.headNanoseconds
        case .body: min(since + limits.bodyNanoseconds, bodySince + limits.bodyNanoseconds * limits.bodyWaits)
        case .answering: nil
        }
    }

    func expiry(now: UInt64) -> Expiry {
        guard let due = dueNanoseconds else { return .none }
        if now < due { return .notYet(atNanoseconds: due) }
        return phase == .idle ? .closeIdle : .requestTimeout
    }
}
