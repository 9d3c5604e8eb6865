import PostgresDriver
import TestSupport
import Testing

struct TableExists: PostgresStatement {
    static let sql = "SELECT to_regclass($1) IS NOT NULL"
    static let parameters: [PostgresType] = [.text]
    static let columns: [PostgresType] = [.bool]
    let table: String
    func bind(to binds: inout PostgresBinds) { binds.append(table) }
    static func row(from row: inout PostgresRow) throws(PostgresError) -> Bool { try row.bool() }
}

@Suite("migrations")
struct PostgresMigratorTests {
    static let first = PostgresMigration(number: 1, name: "numbers", sql: createNumbers + ";")
    static let second = PostgresMigration(
        number: 2, name: "seed", sql: "-- two\nINSERT INTO numbers VALUES (1);\nINSERT INTO numbers VALUES (2);")
    static let third = PostgresMigration(number: 3, name: "more", sql: "INSERT INTO numbers VALUES (3)")

    private func withMigrators(
        _ body: (PostgresPool, ([PostgresMigration]) throws -> PostgresMigrator) async throws -> Void
    ) async throws {
        try await PostgresServer.withDatabase { url in
            let pool = try makePool(url: url)
            try await body(pool) { migrations in
                try PostgresMigrator(
                    configuration: PostgresConfiguration(url: url, connectTimeoutMilliseconds: 60_000),
                    migrations: migrations, logger: quietLogger)
            }
            await pool.shutdown()
        }
    }

    @Test("are applied in order, once, and recorded")
    func inOrder() async throws {
        try await withMigrators { pool, migrator in
            let two = try migrator([Self.second, Self.first])
            try #expect(await two.status().map(\.standing) == [.pending, .pending])
            try #expect(await pool.execute(TableExists(table: "schema_migrations")) == [false])
            try #expect(await two.migrate() == [Self.first, Self.second])
            try #expect(await two.migrate() == [])
            let three = try migrator([Self.first, Self.second, Self.third])
            try #expect(await three.status().map(\.standing) == [.applied, .applied, .pending])
            try #expect(await three.migrate() == [Self.third])
            try #expect(await pool.execute(SelectNumbers()) == [1, 2, 3])
            let status = try await three.status()
            #expect(status.map(\.label) == ["0001_numbers", "0002_seed", "0003_more"])
            #expect(
                status.allSatisfy { $0.standing == .applied && $0.appliedAt != nil && $0.durationMilliseconds != nil })
        }
    }

    @Test("that were changed after they were applied are refused by name, and nothing else is applied")
    func changed() async throws {
        try await withMigrators { pool, migrator in
            _ = try await migrator([Self.first, Self.second]).migrate()
            let edited = PostgresMigration(number: 2, name: "seed", sql: Self.second.sql + " ")
            let changed = try migrator([Self.first, edited, Self.third])
            try #expect(await changed.status().map(\.standing) == [.applied, .changed, .pending])
            let error = await #expect(throws: PostgresError.self) { try await changed.migrate() }
            #expect(error?.code == .migrationChanged)
            #expect(error?.statementName == "0002_seed")
            try #expect(await pool.execute(SelectNumbers()) == [1, 2])
        }
    }

    @Test("by two programs at once are applied once")
    func concurrently() async throws {
        let slow = PostgresMigration(number: 1, name: "slow", sql: "SELECT pg_sleep(0.2);" + createNumbers)
        try await withMigrators { pool, migrator in
            let migrators = try (0..<4).map { _ in try migrator([slow, Self.second]) }
            let applied = try await withThrowingTaskGroup(of: Int.self) { group in
                for migrator in migrators {
                    group.addTask { try await migrator.migrate().count }
                }
                return try await group.reduce(into: []) { $0.append($1) }
            }
            #expect(applied.sorted() == [0, 0, 0, 2])
            try #expect(await pool.execute(SelectNumbers()) == [1, 2])
        }
    }

    @Test("that fail leave nothing of themselves and keep those before them")
    func failing() async throws {
        let failing = PostgresMigration(
            number: 2, name: "broken",
            sql: "CREATE TABLE halfway (n int8); INSERT INTO numbers VALUES (1); SELECT nonsense;")
        try await withMigrators { pool, migrator in
            let error = await #expect(throws: PostgresError.self) {
                try await migrator([Self.first, failing, Self.third]).migrate()
            }
            #expect(error?.code == .serverError)
            #expect(error?.sqlState == "42703")
            #expect(error?.statementName == "0002_broken")
            try #expect(await pool.execute(TableExists(table: "halfway")) == [false])
            try #expect(await pool.execute(SelectNumbers()).isEmpty)
            let mended = try migrator([Self.first, Self.second, Self.third])
            try #expect(await mended.status().map(\.standing) == [.applied, .pending, .pending])
            try #expect(await mended.migrate() == [Self.second, Self.third])
        }
    }

    @Test("that end their own transaction are refused", arguments: ["COMMIT", "ROLLBACK", "COMMIT; BEGIN"])
    func endsTransaction(sql: String) async throws {
        try await withMigrators { pool, migrator in
            let ending = PostgresMigration(number: 2, name: "ending", sql: sql)
            let error = await #expect(throws: PostgresError.self) {
                try await migrator([Self.first, ending]).migrate()
            }
            #expect(error?.code == .configuration)
            #expect(error?.statementName == "0002_ending")
            try #expect(await migrator([Self.first, ending]).status().map(\.standing) == [.applied, .pending])
        }
    }

    @Test("with a gap or a double number are refused before the database is asked")
    func gaps() async throws {
        let configuration = try PostgresConfiguration(url: "postgresql:///x?host=/nonexistent")
        for numbers in [[2], [1, 3], [1, 2, 2], [0, 1]] {
            let migrations = numbers.map { PostgresMigration(number: $0, name: "m", sql: "") }
            let migrator = PostgresMigrator(configuration: configuration, migrations: migrations, logger: quietLogger)
            let error = await #expect(throws: PostgresError.self) { try await migrator.migrate() }
            #expect(error?.code == .migrationMissing)
        }
    }

    @Test("that the program does not know, or that were skipped, are reported")
    func unknownAndSkipped() async throws {
        try await withMigrators { pool, migrator in
            _ = try await migrator([Self.first, Self.second, Self.third]).migrate()
            let older = try migrator([Self.first, Self.second])
            try #expect(await older.status().map(\.standing) == [.applied, .applied, .unknown])
            let unknown = await #expect(throws: PostgresError.self) { try await older.migrate() }
            #expect(unknown?.code == .migrationUnknown)
            #expect(unknown?.statementName == "0003_more")

            try await pool.withConnection { try await $0.run(script: "DELETE FROM schema_migrations WHERE number = 2") }
            let skipped = await #expect(throws: PostgresError.self) {
                try await migrator([Self.first, Self.second, Self.third]).migrate()
            }
            #expect(skipped?.code == .migrationMissing)
            #expect(skipped?.statementName == "0002_seed")
        }
    }

    @Test("are named by their files")
    func fileNames() {
        #expect(PostgresMigration(fileName: "0012_tenant_keys.sql", sql: "x")?.label == "0012_tenant_keys")
        for name in ["0012.sql", "x_y.sql", "0000_zero.sql", "0001_.sql", "0001_a.txt", "-1_a.sql"] {
            #expect(PostgresMigration(fileName: name, sql: "") == nil, "\(name)")
        }
    }
}
