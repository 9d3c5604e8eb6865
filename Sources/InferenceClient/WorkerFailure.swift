/// Why there is no answer of a worker.
public enum WorkerFailure: Error, Sendable, Equatable, CaseIterable {
    case connectRefused
    case connectTimeout
    /// No way to the address: no route, a name without an address, or an address that the policy does not permit.
    case unreachable
    case firstByteTimeout
    case totalTimeout
    /// Too much time between two pieces of a stream.
    case gapTimeout
    /// The connection was closed after the request was written and before a byte of an answer.
    case closedBeforeResponse
    case closedMidResponse
    case malformedResponse
    case responseTooLarge
    /// The worker answered with a redirect, which is never followed.
    case redirect
    /// No TLS session could be agreed, or the certificate is not trusted.
    case tls
    /// Every connection to the replica is in use and the queue in front of them is full or too slow. Nothing was sent.
    case overloaded
    case cancelled
    case shutdown
    /// The request must not be put on the wire: a path, identifier or content type with forbidden bytes, or a GET with
    /// a body.
    case invalidRequest

    /// Whether the same request may be sent again, to this or another replica, with no risk that a worker does the work
    /// twice.
    ///
    /// True where nothing of the request reached a worker. A reused connection that a worker closed without a byte is
    /// not among them: the client has already answered that with its own attempt on a fresh connection, so
    /// ``closedBeforeResponse`` always means that a worker that was alive took the request and died with it or on it.
    public var isSafeToRetry: Bool {
        switch self {
        case .connectRefused, .connectTimeout, .unreachable, .tls, .overloaded: true
        case .firstByteTimeout, .totalTimeout, .gapTimeout, .closedBeforeResponse, .closedMidResponse, .malformedResponse,
            .responseTooLarge,
            .redirect, .cancelled, .shutdown, .invalidRequest:
            false
        }
    }

    /// A label for metrics; the set is the set of cases.
    public var metricLabel: String {
        switch self {
        case .connectRefused: "connect_refused"
        case .connectTimeout: "connect_timeout"
        case .unreachable: "unreachable"
        case .firstByteTimeout: "first_byte_timeout"
        case .totalTimeout: "total_timeout"
        case .gapTimeout: "gap_timeout"
        case .closedBeforeResponse: "closed_before_response"
        case .closedMidResponse: "closed_mid_response"
        case .malformedResponse: "malformed_response"
        case .responseTooLarge: "response_too_large"
        case .redirect: "redirect"
        case .tls: "tls"
        case .overloaded: "overloaded"
        case .cancelled: "cancelled"
        case .shutdown: "shutdown"
        case .invalidRequest: "invalid_request"
        }
    }
}
