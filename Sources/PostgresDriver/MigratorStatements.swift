struct CreateMigrationTable: PostgresStatement {
    static let sql = """
        CREATE TABLE IF NOT EXISTS schema_migrations (
            number int8 PRIMARY KEY CHECK (number > 0),
            name text NOT NULL,
            checksum bytea NOT NULL CHECK (octet_length(checksum) = 32),
            applied_at timestamptz NOT NULL,
            duration_ms int8 NOT NULL
        )
        """
}

struct MigrationTableExists: PostgresStatement {
    static let sql = "SELECT to_regclass('schema_migrations') IS NOT NULL"
    static let columns: [PostgresType] = [.bool]
    static func row(from row: inout PostgresRow) throws(PostgresError) -> Bool { try row.bool() }
}

/// The lock belongs to the session. The number is ours alone within a database: the letters `WEIRMIGR`.
struct TryMigrationLock: PostgresStatement {
    static let sql = "SELECT pg_try_advisory_lock(x'574549524d494752'::bigint)"
    static let columns: [PostgresType] = [.bool]
    static func row(from row: inout PostgresRow) throws(PostgresError) -> Bool { try row.bool() }
}

struct CurrentTransaction: PostgresStatement {
    static let sql = "SELECT pg_current_xact_id()"
    static let columns: [PostgresType] = [.xid8]
    static func row(from row: inout PostgresRow) throws(PostgresError) -> UInt64 { try row.xid8() }
}

struct AppliedMigrations: PostgresStatement {
    struct Row: Sendable {
        let number: Int64
        let name: String
        let checksum: [UInt8]
        let appliedAt: PostgresTimestamp
        let durationMilliseconds: Int64
    }

    static let sql = "SELECT number, name, checksum, applied_at, duration_ms FROM schema_migrations ORDER BY number"
    static let columns: [PostgresType] = [.int8, .text, .bytea, .timestamptz, .int8]

    static func row(from row: inout PostgresRow) throws(PostgresError) -> Row {
        Row(
            number: try row.int64(), name: try row.text(), checksum: try row.bytes(), appliedAt: try row.timestamp(),
            durationMilliseconds: try row.int64())
    }
}

/// SHA-256 of each text, in order.
struct Checksums: PostgresStatement {
    static let sql = "SELECT sha256(text) FROM unnest($1) WITH ORDINALITY AS given (text, place) ORDER BY place"
    static let parameters: [PostgresType] = [.byteaArray]
    static let columns: [PostgresType] = [.bytea]
    let texts: [[UInt8]]

    func bind(to binds: inout PostgresBinds) { binds.append(texts) }
    static func row(from row: inout PostgresRow) throws(PostgresError) -> [UInt8] { try row.bytes() }
}

struct RecordMigration: PostgresStatement {
    static let sql = """
        INSERT INTO schema_migrations (number, name, checksum, applied_at, duration_ms)
        VALUES ($1, $2, sha256($3), clock_timestamp(), $4)
        """
    static let parameters: [PostgresType] = [.int8, .text, .bytea, .int8]
    let migration: PostgresMigration
    let durationMilliseconds: Int64

    func bind(to binds: inout PostgresBinds) {
        binds.append(Int64(migration.number))
        binds.append(migration.name)
        binds.append(Array(migration.sql.utf8))
        binds.append(durationMilliseconds)
    }
}
