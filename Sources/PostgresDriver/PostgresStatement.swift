/// One SQL statement: its text, what is bound, and what a row of it is. The text is static, so nothing can be spliced
/// into it.
///
///     struct FindTenant: PostgresStatement {
///         static let sql = "SELECT name, created_at FROM tenants WHERE id = $1"
///         static let parameters: [PostgresType] = [.uuid]
///         static let columns: [PostgresType] = [.text, .timestamptz]
///         let id: PostgresUUID
///
///         func bind(to binds: inout PostgresBinds) { binds.append(id) }
///         static func row(from row: inout PostgresRow) throws(PostgresError) -> Tenant {
///             Tenant(name: try row.text(), createdAt: try row.timestamp())
///         }
///     }
///
/// A session prepares it at first use, under its name. Values go and come in binary form.
public protocol PostgresStatement: Sendable {
    /// What one row becomes; `PostgresNoRow` for a statement whose rows, if any, do not matter.
    associatedtype Row: Sendable = PostgresNoRow

    /// The name of the prepared statement, also sent ahead of the SQL as a comment so that it shows in the server's log
    /// and in `pg_stat_activity`, and used for metrics and errors. By default the name of the type, with the types
    /// around it.
    static var name: String { get }
    /// The SQL with `$1`, `$2`, ...
    static var sql: String { get }
    /// The type of each parameter, in order.
    static var parameters: [PostgresType] { get }
    /// The type of each column, in order. Empty: rows are not read.
    static var columns: [PostgresType] { get }

    /// Appends one value per parameter.
    func bind(to binds: inout PostgresBinds) throws(PostgresError)
    /// Reads a row, column by column or by index.
    static func row(from row: inout PostgresRow) throws(PostgresError) -> Row
}

/// The row of a statement that returns none.
public struct PostgresNoRow: Sendable, Hashable {}

extension PostgresStatement {
    public static var name: String { defaultStatementName(of: Self.self) }
    public static var parameters: [PostgresType] { [] }
    public static var columns: [PostgresType] { [] }
    public func bind(to binds: inout PostgresBinds) throws(PostgresError) {}
}

extension PostgresStatement where Row == PostgresNoRow {
    public static func row(from row: inout PostgresRow) throws(PostgresError) -> PostgresNoRow { PostgresNoRow() }
}

/// What the server says about a statement after preparing it; a test compares it with the declaration.
public struct PostgresDescription: Sendable, Equatable {
    /// Object identifiers of the parameter types.
    public let parameterTypes: [UInt32]
    /// Object identifiers of the column types.
    public let columnTypes: [UInt32]
    public let columnNames: [String]
}

/// `Outer.Inner` for a nested type; the bare name for a local one, whose full name has unstable parts.
func defaultStatementName(of type: Any.Type) -> String {
    let full = String(reflecting: type)
    guard !full.contains("("), let dot = full.firstIndex(of: ".") else { return String(describing: type) }
    return String(full[full.index(after: dot)...])
}
