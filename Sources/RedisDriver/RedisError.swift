/// Everything that can go wrong between this process and Redis.
///
/// Redis being away is always one of these, never a `nil` or an empty answer: a caller that treats an outage as a miss
/// has to say so itself.
public enum RedisError: Error, Equatable, Sendable {
    /// There is no connection, or it was lost before the command left this process. The command was not executed.
    case unavailable(String)
    /// The reply did not come within the deadline, and the connection was given up. The command may have been executed.
    case timeout
    /// The connection ended while the reply was outstanding. The command may have been executed.
    case connectionLost
    /// Redis answered with an error.
    case serverError(RedisServerError)
    /// The peer sent something that is not RESP2, or more than a limit allows; the connection was dropped.
    case protocolViolation(String)
    /// Redis answered, correctly, with a kind of value that the typed helper cannot read.
    case unexpectedReply(expected: String)
    /// The connection already has as many outstanding commands as it may have. The command was not sent.
    case overloaded
    /// The client was shut down. The command was not sent.
    case closed
    /// The TLS handshake failed, the certificate did not verify, or the TLS settings cannot be used.
    case tls(String)
    /// Redis refused the credentials, or wants some and has been given none.
    case authenticationFailed
    /// The command cannot be sent as it stands: it is empty or larger than the limit.
    case invalidCommand(String)
    /// A setting cannot be used. The text names the setting and never contains a password.
    case invalidConfiguration(String)

    /// A bounded label for metrics: a fixed word, never text from the peer.
    public var metricLabel: String {
        switch self {
        case .unavailable: "unavailable"
        case .timeout: "timeout"
        case .connectionLost: "connection_lost"
        case .serverError: "server_error"
        case .protocolViolation: "protocol_violation"
        case .unexpectedReply: "unexpected_reply"
        case .overloaded: "overloaded"
        case .closed: "closed"
        case .tls: "tls"
        case .authenticationFailed: "authentication_failed"
        case .invalidCommand: "invalid_command"
        case .invalidConfiguration: "invalid_configuration"
        }
    }

    /// Whether the command may have taken effect although no reply says so. Only a command that is safe to repeat may
    /// be sent again after such an error.
    public var mayHaveBeenExecuted: Bool {
        switch self {
        case .timeout, .connectionLost, .protocolViolation: true
        case .unavailable, .serverError, .unexpectedReply, .overloaded, .closed, .tls, .authenticationFailed,
            .invalidCommand, .invalidConfiguration:
            false
        }
    }
}

extension RedisError: CustomStringConvertible {
    /// Text for logs: contains no command, no argument and no password.
    public var description: String {
        switch self {
        case .unavailable(let reason): "redis is not available: \(reason)"
        case .timeout: "redis did not answer in time"
        case .connectionLost: "the connection to redis was lost before the reply"
        case .serverError(let error): "redis answered with the error \(error)"
        case .protocolViolation(let reason): "redis broke the protocol: \(reason)"
        case .unexpectedReply(let expected): "redis answered with something that is not \(expected)"
        case .overloaded: "too many redis commands are outstanding on this connection"
        case .closed: "the redis client is shut down"
        case .tls(let reason): "TLS to redis failed: \(reason)"
        case .authenticationFailed: "redis refused the credentials"
        case .invalidCommand(let reason): "the redis command cannot be sent: \(reason)"
        case .invalidConfiguration(let reason): "the redis configuration is not valid: \(reason)"
        }
    }
}

/// An error reply (RESP `-`): by convention a word in capitals, then text for people.
///
/// Source: Redis protocol specification, "Simple errors".
public struct RedisServerError: Error, Hashable, Sendable, CustomStringConvertible {
    /// `WRONGTYPE`, `NOSCRIPT`, `MOVED`, `ERR` and so on; `ERR` where the reply starts with no such word.
    public let code: String
    /// The text after the code. Redis echoes arguments in some of these, so it is not for logs.
    public let message: String

    public init(code: String, message: String) {
        self.code = code
        self.message = message
    }

    /// Splits the line of an error reply.
    init(line: String) {
        let word = line.prefix { $0 != " " }
        let isCode = !word.isEmpty && word.utf8.count <= 32 && word.utf8.allSatisfy(Self.belongsInCode)
        code = isCode ? String(word) : "ERR"
        message = isCode ? String(line.dropFirst(word.count + 1)) : line
    }

    private static func belongsInCode(_ byte: UInt8) -> Bool {
        (0x41...0x5A).contains(byte) || (0x30...0x39).contains(byte) || byte == 0x5F
    }

    /// The code alone.
    public var description: String { code }
}
