internal import Glibc
internal import Logging
public import PostgresDriver
internal import Storage

/// Databases with the whole schema. The migrations run once in a process; a test gets a copy of what they made.
public enum MigratedDatabase {
    /// Runs a test with the URL of a fresh migrated database of its own. Its user is a superuser: a test that is about rights
    /// names a role.
    public static func withDatabase<T: Sendable>(_ body: (String) async throws -> T) async throws -> T {
        let template = try await Template.shared.name()
        await Places.shared.enter()
        let result: Result<T, any Error>
        do {
            result = .success(try await PostgresServer.withDatabase(template: template, body))
        } catch {
            result = .failure(error)
        }
        await Places.shared.leave()
        return try result.get()
    }

    /// Migrates the database of this URL, as for a server of a test's own, and adds what ``DatabaseQuestion`` needs.
    public static func migrate(_ url: String) async throws {
        let configuration = try PostgresConfiguration(url: url)
        let migrator = PostgresMigrator(
            configuration: configuration, migrations: StorageMigrations.all,
            logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
        _ = try await migrator.migrate()
        try await PostgresServer.run(DatabaseQuestion.schema, on: url)
    }

    /// Tests run all at once, and each may open a few dozen connections of the 200 that the server has.
    private actor Places {
        static let shared = Places()
        private var free = 6
        private var waiting: [CheckedContinuation<Void, Never>] = []

        func enter() async {
            guard free == 0 else {
                free -= 1
                return
            }
            await withCheckedContinuation { waiting.append($0) }
        }

        func leave() {
            if waiting.isEmpty { free += 1 } else { waiting.removeFirst().resume() }
        }
    }

    private actor Template {
        static let shared = Template()
        private var making: Task<String, any Error>?

        func name() async throws -> String {
            let task =
                making
                ?? Task {
                    let name = "template_\(getpid())_\(UInt32.random(in: 0...UInt32.max))"
                    try await MigratedDatabase.migrate(try await PostgresServer.makeDatabase(named: name))
                    return name
                }
            making = task
            return try await task.value
        }
    }
}

/// Any SELECT of a test's own, answered as text: one line for a row, its columns with `|` between them, NULL as `null`.
///
/// The product's statements are static text. A test asks too many things for that, so the text is a parameter of a function that only
/// test databases have.
public struct DatabaseQuestion: PostgresStatement {
    public static let sql = "SELECT test.answer($1)"
    public static let parameters: [PostgresType] = [.text]
    public static let columns: [PostgresType] = [.text]

    static let schema = """
        CREATE SCHEMA test;
        GRANT USAGE ON SCHEMA test TO PUBLIC;
        CREATE FUNCTION test.answer(question text) RETURNS SETOF text LANGUAGE plpgsql AS $$
        BEGIN
            RETURN QUERY EXECUTE 'SELECT (SELECT string_agg(coalesce(value, ''null''), ''|'' ORDER BY ordinality)
                FROM json_each_text(to_json(t)) WITH ORDINALITY) FROM (' || question || ') t';
        END $$;
        """

    private let question: String

    public init(_ question: String) { self.question = question }

    public func bind(to binds: inout PostgresBinds) { binds.append(question) }

    public static func row(from row: inout PostgresRow) throws(PostgresError) -> String { try row.text() }
}
