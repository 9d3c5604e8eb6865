/// Why a password could not be hashed or compared. None of these says anything about the password itself.
public enum PasswordHashingError: Error, Hashable, Sendable, CustomStringConvertible {
    /// As many passwords are waiting as may; try again later. This bound is what keeps log-ins from eating all memory.
    case busy
    /// The password has more bytes than allowed.
    case passwordTooLong
    /// The stored text is no Argon2id hash, or one with costs beyond what is accepted here.
    case malformedHash
    /// The parameters are outside what Argon2 or this module allows.
    case invalidParameters(String)
    /// The hasher was shut down.
    case closed
    /// libargon2 failed, for want of memory for example. The number is its error code.
    case failed(code: Int32)

    /// A bounded label for metrics.
    public var metricLabel: String {
        switch self {
        case .busy: "busy"
        case .passwordTooLong: "password_too_long"
        case .malformedHash: "malformed_hash"
        case .invalidParameters: "invalid_parameters"
        case .closed: "closed"
        case .failed: "failed"
        }
    }

    public var description: String {
        switch self {
        case .busy: "too many passwords are waiting to be checked"
        case .passwordTooLong: "the password is too long"
        case .malformedHash: "the stored password hash cannot be read"
        case .invalidParameters(let reason): "the password hashing parameters are not valid: \(reason)"
        case .closed: "the password hasher is shut down"
        case .failed(let code): "Argon2 failed with code \(code)"
        }
    }
}
