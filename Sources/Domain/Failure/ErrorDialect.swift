/// How a surface says that something is wrong. There are three, because the clients of each surface read one form and no other.
public enum ErrorDialect: Sendable, Equatable {
    /// Problem details (RFC 9457): the native API and whatever has no form of its own.
    case problem
    /// The error object of the OpenAI API, which its clients turn into typed exceptions.
    case openAI
    /// `{"error": "<text>"}`, as the Open Inference Protocol has it.
    case openInference

    /// The dialect of a path, also of one at which there is nothing.
    public init(path: some StringProtocol) {
        let bytes = path.utf8
        if bytes.starts(with: "/v1/".utf8) {
            self = .openAI
        } else if bytes.starts(with: "/v2".utf8),
            bytes.count == 3 || bytes.dropFirst(3).first.map({ $0 == 0x2F || $0 == 0x3F }) ?? false
        {
            self = .openInference
        } else {
            self = .problem
        }
    }

    public var contentType: StaticString {
        self == .problem ? "application/problem+json" : "application/json"
    }

    /// The HTTP status of a failure. Only the native surface knows 422 for a body that is well-formed and wrong: clients of the other two
    /// expect 400.
    public func status(of code: FailureCode) -> Int {
        if self != .problem, code == .validationFailed { return 400 }
        // The OpenAI API knows a bill that is not paid as a limit.
        if self == .openAI, code == .balanceExhausted { return 429 }
        return code.httpStatus
    }
}

extension FailureCode {
    /// The `type` of an OpenAI error object.
    public var openAIType: String {
        switch self {
        case .missingKey, .invalidAPIKey, .wrongPlane: "authentication_error"
        case .tenantSuspended, .insufficientScope, .modelNotAllowed: "permission_error"
        case .quotaExceeded, .balanceExhausted: "insufficient_quota"
        case .rateLimited: "rate_limit_error"
        case .idempotencyInProgress, .idempotencyMismatch: "idempotency_error"
        default: httpStatus >= 500 ? "server_error" : "invalid_request_error"
        }
    }

    /// The `code` of an OpenAI error object: that API's own word where its clients look for one.
    public var openAICode: String {
        switch self {
        case .missingKey: "invalid_api_key"
        case .quotaExceeded: "insufficient_quota"
        case .rateLimited: "rate_limit_exceeded"
        case .balanceExhausted: "billing_hard_limit_reached"
        default: rawValue
        }
    }
}
