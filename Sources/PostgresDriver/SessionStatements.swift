/// How much a transaction sees of others.
public enum PostgresIsolation: Sendable, Hashable {
    case readCommitted, repeatableRead, serializable
    /// Repeatable read without writing: one consistent picture for a report or an export.
    case readOnlySnapshot
}

struct Begin: PostgresStatement {
    static let sql = "BEGIN"
}

struct BeginRepeatableRead: PostgresStatement {
    static let sql = "BEGIN ISOLATION LEVEL REPEATABLE READ"
}

struct BeginSerializable: PostgresStatement {
    static let sql = "BEGIN ISOLATION LEVEL SERIALIZABLE"
}

struct BeginReadOnlySnapshot: PostgresStatement {
    static let sql = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
}

struct Commit: PostgresStatement {
    static let sql = "COMMIT"
}

struct Rollback: PostgresStatement {
    static let sql = "ROLLBACK"
}

/// Sets a session up in one round trip. `set_config` takes bound values, so no setting is ever spliced into SQL; NULL
/// means the server's default. The role comes last: after it the session may be allowed less.
struct StartSession: PostgresStatement {
    static let sql = """
        SELECT set_config('TimeZone', 'UTC', false),
               set_config('statement_timeout', $1, false),
               set_config('lock_timeout', $2, false),
               set_config('idle_in_transaction_session_timeout', $3, false),
               set_config('role', $4, false)
        """
    static let parameters: [PostgresType] = [.text, .text, .text, .text]

    let configuration: PostgresConfiguration

    func bind(to binds: inout PostgresBinds) {
        binds.append(configuration.statementTimeoutMilliseconds.map { "\($0)" })
        binds.append(configuration.lockTimeoutMilliseconds.map { "\($0)" })
        binds.append(configuration.idleInTransactionTimeoutMilliseconds.map { "\($0)" })
        binds.append(configuration.role)
    }
}

/// Sets a configuration parameter until the end of the transaction, for example the tenant that row-level security
/// reads.
///
/// First in a pipeline it holds for the statements after it and for nothing else:
///
///     try session.pipeline(PostgresLocalSetting("weir.tenant_id", tenant), FindRequests(...))
public struct PostgresLocalSetting: PostgresStatement {
    public static let sql = "SELECT set_config($1, $2, true)"
    public static let parameters: [PostgresType] = [.text, .text]

    private let key: String
    private let value: String

    public init(_ key: String, _ value: String) {
        self.key = key
        self.value = value
    }

    public func bind(to binds: inout PostgresBinds) {
        binds.append(key)
        binds.append(value)
    }
}
