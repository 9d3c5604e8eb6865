/// What became of a call that brought no answer to give to the caller.
public enum AttemptFailure: Sendable, Hashable, CaseIterable {
    /// Nothing of the request reached the worker.
    case notSent
    /// This gateway has too many connections to the worker; nothing was sent, and the worker is not to blame.
    case crowded
    /// No answer within the deadline.
    case silent
    /// The connection or the protocol broke.
    case broken
    /// An answer that cannot be used.
    case nonsense
    /// 500 and its like.
    case serverError
    /// 429, 502, 503 or 504: the worker, or something before it, says that it is not able to just now.
    case busy
    /// 4xx: the request was the matter.
    case callersFault
    /// The call was given up on our side.
    case cancelled

    /// What a status other than 2xx means.
    public init(status: Int) {
        switch status {
        case 429, 502, 503, 504: self = .busy
        case 400..<500: self = .callersFault
        case 500..<600: self = .serverError
        default: self = .nonsense
        }
    }

    /// Whether it speaks against the replica.
    public var isReplicasFault: Bool {
        switch self {
        case .notSent, .silent, .broken, .nonsense, .serverError, .busy: true
        case .crowded, .callersFault, .cancelled: false
        }
    }
}

/// Whether another replica is asked after a failure. Nothing has reached the caller at this point.
public struct RetryRule: Sendable, Hashable {
    /// The first one included.
    public let attempts: Int64
    public let isSafeToRepeat: Bool

    public init(attempts: Int64, isSafeToRepeat: Bool) {
        self.attempts = attempts
        self.isSafeToRepeat = isSafeToRepeat
    }

    /// - Parameters:
    ///   - failures: what all attempts so far came to, in order.
    public func allowsAnother(after failures: [AttemptFailure]) -> Bool {
        guard let last = failures.last, Int64(failures.count) < attempts else { return false }
        switch last {
        case .notSent, .crowded: return true
        case .silent, .broken, .busy: return isSafeToRepeat
        // The same input may break every worker: one more is asked, and no third.
        case .nonsense, .serverError:
            return isSafeToRepeat && failures.count(where: { $0 == .nonsense || $0 == .serverError }) < 2
        case .callersFault, .cancelled: return false
        }
    }
}
