/// The one error of this module.
///
/// `message` never holds SQL text or data and may go anywhere. `detail` is the server's own sentence: it can quote a
/// value ("invalid input syntax for type uuid: ..."), so it belongs in a log of the operator and never in an answer to
/// a customer.
public struct PostgresError: Error, Sendable {
    /// What happened, as a stable word.
    public struct Code: Sendable, Hashable, CustomStringConvertible {
        private enum Base: String {
            case configuration, connectionFailed, connectionLost, timedOut, poolTimeout, cancelled, serverError
            case encoding, decoding, protocolViolation, closed, busy, copyFailed
            case migrationChanged, migrationMissing, migrationUnknown, migrationLocked
        }

        private let base: Base

        /// The configuration, usually the URL, cannot be used.
        public static let configuration = Code(base: .configuration)
        /// No connection could be made.
        public static let connectionFailed = Code(base: .connectionFailed)
        /// A connection that existed is gone; see `outcomeUnknown`.
        public static let connectionLost = Code(base: .connectionLost)
        /// The server was silent for longer than the answer timeout; the connection was closed.
        public static let timedOut = Code(base: .timedOut)
        /// No pooled connection became free in time, or too many were waiting already.
        public static let poolTimeout = Code(base: .poolTimeout)
        /// The calling task was cancelled before the statement was sent.
        public static let cancelled = Code(base: .cancelled)
        /// The server refused the statement; `sqlState` says why.
        public static let serverError = Code(base: .serverError)
        /// A value cannot be sent, or the binds do not match the declared parameters.
        public static let encoding = Code(base: .encoding)
        /// A column does not hold what the statement declares.
        public static let decoding = Code(base: .decoding)
        /// The server answered with something that this driver did not ask for.
        public static let protocolViolation = Code(base: .protocolViolation)
        /// The session or the pool is closed.
        public static let closed = Code(base: .closed)
        /// The connection is streaming a COPY and cannot take a statement.
        public static let busy = Code(base: .busy)
        /// A COPY broke off.
        public static let copyFailed = Code(base: .copyFailed)
        /// An applied migration differs from the file of the same number.
        public static let migrationChanged = Code(base: .migrationChanged)
        /// The numbers of the migrations have a gap, or an older one was never applied.
        public static let migrationMissing = Code(base: .migrationMissing)
        /// The database has a migration that this program does not know.
        public static let migrationUnknown = Code(base: .migrationUnknown)
        /// Another process held the migration lock for too long.
        public static let migrationLocked = Code(base: .migrationLocked)

        public var description: String { base.rawValue }
    }

    public let code: Code
    /// The five characters of the SQL standard, where the server sent them.
    public let sqlState: String?
    /// A plain sentence without SQL text and without data.
    public let message: String
    /// The name of the statement type, or of the migration.
    public internal(set) var statementName: String?
    /// The constraint that was violated, for errors of class 23.
    public let constraintName: String?
    /// The server's or libpq's own words. They can quote a value; log them, do not answer with them.
    public let detail: String?
    /// The connection went away after the statement may have reached the server: it may or may not have been committed.
    /// Whoever repeats it must make the repetition harmless.
    public internal(set) var outcomeUnknown: Bool

    init(
        _ code: Code, _ message: String, sqlState: String? = nil, statementName: String? = nil,
        constraintName: String? = nil, detail: String? = nil, outcomeUnknown: Bool = false
    ) {
        self.code = code
        self.message = message
        self.sqlState = sqlState
        self.statementName = statementName
        self.constraintName = constraintName
        self.detail = detail
        self.outcomeUnknown = outcomeUnknown
    }

    /// Whether the same statement can succeed later without a change to it.
    ///
    /// Read off the SQLSTATE (PostgreSQL documentation, appendix A): connection exceptions (08), insufficient resources
    /// (53), shutdown and start-up (57P01-57P03), serialization failure, deadlock, lock not available, read-only
    /// transaction. With a lost connection it says why the server ended the session (25P03 and 57P05 for having idled,
    /// for example), which is not the statement's doing.
    public var isTransient: Bool {
        if code == .connectionLost || code == .timedOut || code == .poolTimeout { return true }
        if let sqlState {
            return Self.isTransient(sqlState: sqlState)
        }
        return code == .connectionFailed
    }

    static func isTransient(sqlState: String) -> Bool {
        if sqlState.hasPrefix("08") || sqlState.hasPrefix("53") {
            return true
        }
        return switch sqlState {
        case "57P01", "57P02", "57P03", "40001", "40P01", "55P03", "25006": true
        default: false
        }
    }

    /// A short word from a bounded set, for a metric's dimension: the code, and for server errors the class of the
    /// SQLSTATE.
    public var metricLabel: String {
        guard code == .serverError, let sqlState else { return code.description }
        return "server_\(sqlState.prefix(2))"
    }

    func named(_ name: @autoclosure () -> String) -> PostgresError {
        guard statementName == nil else { return self }
        var copy = self
        copy.statementName = name()
        return copy
    }
}

extension PostgresError: CustomStringConvertible {
    public var description: String {
        var text = "\(code): \(message)"
        if let statementName { text += " [\(statementName)]" }
        if let constraintName { text += " [constraint \(constraintName)]" }
        if outcomeUnknown { text += " (outcome unknown)" }
        return text
    }
}

extension PostgresError {
    /// The sentence for an error that the server sent: the condition, never the server's own text.
    static func message(forSQLState sqlState: String) -> String {
        let condition =
            switch sqlState {
            case "23505": "a unique constraint is violated"
            case "23503": "a foreign key is violated"
            case "23502": "a value must not be null"
            case "23514": "a check constraint is violated"
            case "40001": "the transaction could not be serialized"
            case "40P01": "a deadlock was broken"
            case "42501": "the role lacks a privilege"
            case "42P01": "a table does not exist"
            case "42601": "the SQL has a syntax error"
            case "55P03": "a lock was not available in time"
            case "57014": "the statement was cancelled or ran out of time"
            case "57P01", "57P02": "the server is shutting down"
            case "57P03": "the server is starting up"
            case "53300": "the server has too many connections"
            case "28P01", "28000": "the server refused the credentials"
            case "3D000": "the database does not exist"
            default: "the server reported an error"
            }
        return "\(condition) (\(sqlState))"
    }
}
