public import Logging
internal import PostgresDriver

/// Looks into a database and says what is wrong with it and what to do, for `weir doctor`.
public enum DatabaseDiagnosis {
    public enum State: String, Sendable {
        case ok
        case warning
        case failed
    }

    public struct Finding: Sendable {
        public let check: String
        public let state: State
        public let detail: String
        /// What to do; empty when nothing is wrong.
        public let remedy: String
    }

    /// Never throws: what cannot be found out is a finding.
    @concurrent
    public static func run(url: String, logger: Logger) async -> [Finding] {
        do {
            let configuration = try PostgresConfiguration(
                url: url, applicationName: "weir-doctor", statementTimeoutMilliseconds: 5_000,
                connectTimeoutMilliseconds: 3_000,
                answerTimeoutMilliseconds: 6_000)
            let connection = try PostgresConnection(configuration: configuration)
            try await connection.connect()
            let findings = await inspect(connection)
            await connection.close()
            return findings
        } catch {
            return [
                Finding(
                    check: "database", state: .failed, detail: "cannot be reached: \(error)",
                    remedy: "Check DATABASE_URL, and that PostgreSQL runs and lets this machine in.")
            ]
        }
    }

    private static func inspect(_ connection: PostgresConnection) async -> [Finding] {
        var findings: [Finding] = []
        do throws(PostgresError) {
            guard let server = try await connection.execute(InspectServer()).first else { return [] }
            findings.append(version(server))
            findings.append(durability(server))
            guard server.hasSchema else {
                return findings + [
                    Finding(
                        check: "migrations", state: .failed, detail: "the schema is not there",
                        remedy: "Run `weir migrate up`.")
                ]
            }
            let applied = try await connection.execute(CountMigrations()).first ?? 0
            findings.append(migrations(applied: Int(applied)))
            guard let schema = try await connection.execute(InspectSchema()).first else { return findings }
            findings += [roles(schema), partitions(schema), strayRows(schema), leases(schema)]
        } catch {
            findings.append(
                Finding(
                    check: "database", state: .failed, detail: "could not be inspected: \(error)",
                    remedy: "Run `weir migrate up`, and give the login of DATABASE_URL the roles weir_*."))
        }
        return findings
    }

    private static func version(_ server: InspectServer.Answer) -> Finding {
        let isNew = server.version >= 150_000
        return Finding(
            check: "postgres_version", state: isNew ? .ok : .failed,
            detail: "\(server.version / 10_000).\(server.version % 10_000)",
            remedy: isNew ? "" : "Use PostgreSQL 15 or newer.")
    }

    private static func durability(_ server: InspectServer.Answer) -> Finding {
        let isDurable = server.fsync == "on" && server.synchronousCommit != "off"
        return Finding(
            check: "durability", state: isDurable ? .ok : .failed,
            detail: "fsync \(server.fsync), synchronous_commit \(server.synchronousCommit)",
            remedy: isDurable
                ? "" : "Set fsync = on and synchronous_commit = on: an answered request must survive a crash.")
    }

    private static func migrations(applied: Int) -> Finding {
        let known = EmbeddedMigrations.all.count
        return Finding(
            check: "migrations", state: applied == known ? .ok : .failed, detail: "\(applied) of \(known) applied",
            remedy: applied == known
                ? ""
                : applied < known ? "Run `weir migrate up`." : "The database is newer than this program. Update it.")
    }

    private static func roles(_ schema: InspectSchema.Answer) -> Finding {
        Finding(
            check: "roles", state: schema.missingRoles.isEmpty ? .ok : .failed,
            detail: schema.missingRoles.isEmpty
                ? "all duties can be taken" : "cannot take \(schema.missingRoles.joined(separator: ", "))",
            remedy: schema.missingRoles.isEmpty ? "" : "GRANT these roles to the login of DATABASE_URL.")
    }

    private static func partitions(_ schema: InspectSchema.Answer) -> Finding {
        let isAhead = schema.partitionsAhead >= 1
        return Finding(
            check: "partitions", state: isAhead ? .ok : .warning, detail: "\(schema.partitionsAhead) months ahead",
            remedy: isAhead ? "" : "Run a `weir serve` with the role jobs; it makes them.")
    }

    private static func strayRows(_ schema: InspectSchema.Answer) -> Finding {
        Finding(
            check: "default_partitions", state: schema.hasStrayRows ? .warning : .ok,
            detail: schema.hasStrayRows ? "hold rows" : "empty",
            remedy: schema.hasStrayRows ? "See the runbook default-partition-not-empty." : "")
    }

    private static func leases(_ schema: InspectSchema.Answer) -> Finding {
        Finding(
            check: "leases", state: schema.overdueLeases == 0 ? .ok : .warning,
            detail: "\(schema.overdueLeases) overdue",
            remedy: schema.overdueLeases == 0 ? "" : "Run a `weir serve` with the role jobs; it closes them.")
    }
}

struct InspectServer: PostgresStatement {
    struct Answer: Sendable {
        let version: Int32
        let fsync: String
        let synchronousCommit: String
        let hasSchema: Bool
    }

    static let sql = """
        SELECT current_setting('server_version_num')::int, current_setting('fsync'), current_setting('synchronous_commit'),
            to_regclass('schema_migrations') IS NOT NULL AND to_regclass('ledger') IS NOT NULL
        """
    static let columns: [PostgresType] = [.int4, .text, .text, .bool]

    static func row(from row: inout PostgresRow) throws(PostgresError) -> Answer {
        Answer(
            version: try row.int32(), fsync: try row.text(), synchronousCommit: try row.text(),
            hasSchema: try row.bool())
    }
}

struct CountMigrations: PostgresStatement {
    static let sql = "SELECT count(*) FROM schema_migrations"
    static let columns: [PostgresType] = [.int8]
    static func row(from row: inout PostgresRow) throws(PostgresError) -> Int64 { try row.int64() }
}

struct InspectSchema: PostgresStatement {
    struct Answer: Sendable {
        let missingRoles: [String]
        let partitionsAhead: Int64
        let hasStrayRows: Bool
        let overdueLeases: Int64
    }

    static let sql = """
        SELECT
            ARRAY(
                SELECT duty FROM unnest(ARRAY['weir_writer', 'weir_directory', 'weir_reader', 'weir_jobs', 'weir_admin', 'weir_reports']) AS duty
                WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = duty) OR NOT pg_has_role(current_user, duty, 'MEMBER')),
            (SELECT count(*) FROM generate_series(1, 12) AS ahead
                WHERE to_regclass('ledger_y' || to_char((now() AT TIME ZONE 'UTC') + make_interval(months => ahead::int), 'YYYY"m"MM')) IS NOT NULL),
            EXISTS (SELECT FROM requests_default) OR EXISTS (SELECT FROM ledger_default),
            (SELECT count(*) FROM quota_leases WHERE state = 'open' AND expires_at < clock_timestamp() - interval '1 minute')
        """
    static let columns: [PostgresType] = [.textArray, .int8, .bool, .int8]

    static func row(from row: inout PostgresRow) throws(PostgresError) -> Answer {
        Answer(
            missingRoles: try row.array(of: String.self), partitionsAhead: try row.int64(),
            hasStrayRows: try row.bool(),
            overdueLeases: try row.int64())
    }
}
