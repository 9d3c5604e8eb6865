import PostgresDriver
import TestSupport
import Testing

struct SelectOne: PostgresStatement {
    static let sql = "SELECT 1::int8"
    static let columns: [PostgresType] = [.int8]
    static func row(from row: inout PostgresRow) throws(PostgresError) -> Int64 { try row.int64() }
}

/// Names of the statements that this session has prepared.
struct PreparedNames: PostgresStatement {
    static let sql = "SELECT name FROM pg_prepared_statements ORDER BY prepare_time, name"
    static let columns: [PostgresType] = [.text]
    static func row(from row: inout PostgresRow) throws(PostgresError) -> String { try row.text() }
}

struct InsertNumber: PostgresStatement {
    static let sql = "INSERT INTO numbers VALUES ($1)"
    static let parameters: [PostgresType] = [.int8]
    let number: Int64
    func bind(to binds: inout PostgresBinds) { binds.append(number) }
}

struct InsertNumbers: PostgresStatement {
    static let sql = "INSERT INTO numbers SELECT * FROM unnest($1) ON CONFLICT DO NOTHING"
    static let parameters: [PostgresType] = [.int8Array]
    let numbers: [Int64]
    func bind(to binds: inout PostgresBinds) { binds.append(numbers) }
}

struct SelectNumbers: PostgresStatement {
    static let sql = "SELECT number FROM numbers ORDER BY number"
    static let columns: [PostgresType] = [.int8]
    static func row(from row: inout PostgresRow) throws(PostgresError) -> Int64 { try row.int64() }
}

struct Sleep: PostgresStatement {
    static let sql = "SELECT pg_sleep($1)"
    static let parameters: [PostgresType] = [.float8]
    let seconds: Double
    func bind(to binds: inout PostgresBinds) { binds.append(seconds) }
}

struct Setting: PostgresStatement {
    static let sql = "SELECT coalesce(current_setting($1, true), '')"
    static let parameters: [PostgresType] = [.text]
    static let columns: [PostgresType] = [.text]
    let key: String
    func bind(to binds: inout PostgresBinds) { binds.append(key) }
    static func row(from row: inout PostgresRow) throws(PostgresError) -> String { try row.text() }
}

/// Ends another backend and waits until it is gone.
struct Terminate: PostgresStatement {
    static let sql = "SELECT pg_terminate_backend($1, 10000)"
    static let parameters: [PostgresType] = [.int4]
    static let columns: [PostgresType] = [.bool]
    let processID: Int32
    func bind(to binds: inout PostgresBinds) { binds.append(processID) }
    static func row(from row: inout PostgresRow) throws(PostgresError) -> Bool { try row.bool() }
}

let createNumbers = "CREATE TABLE numbers (number int8 PRIMARY KEY CHECK (number >= 0))"

@Suite("a session on a real server")
struct PostgresSessionTests {
    @Test("connects, selects and closes")
    func selectsOne() async throws {
        try await withSession { session in
            try #expect(session.execute(SelectOne()) == [1])
            #expect(session.isConnected)
            session.close()
            #expect(!session.isConnected)
            let error = #expect(throws: PostgresError.self) { try session.execute(SelectOne()) }
            #expect(error?.code == .closed)
        }
    }

    @Test("prepares a statement once per connection, under its name, and again after a reconnect")
    func preparesOnce() async throws {
        try await withSession { session in
            for _ in 0..<3 { _ = try session.execute(SelectOne()) }
            try #expect(session.execute(PreparedNames()).filter { $0 == "SelectOne" }.count == 1)
            try session.connect()
            try #expect(session.execute(PreparedNames()).contains("SelectOne") == false)
            try #expect(session.execute(SelectOne()) == [1])
            try #expect(session.execute(PreparedNames()).contains("SelectOne"))
        }
    }

    @Test("the same statement twice in its first pipeline is prepared once")
    func preparesOnceInPipeline() async throws {
        try await withSession { session in
            let (first, second, names) = try session.pipeline(SelectOne(), SelectOne(), PreparedNames())
            #expect(first == [1])
            #expect(second == [1])
            #expect(names.filter { $0.hasPrefix("SelectOne") } == ["SelectOne"])
        }
    }

    @Test("two types with one name do not run each other's SQL")
    func sameName() async throws {
        struct A: PostgresStatement {
            static let name = "Same"
            static let sql = "SELECT 1::int8"
            static let columns: [PostgresType] = [.int8]
            static func row(from row: inout PostgresRow) throws(PostgresError) -> Int64 { try row.int64() }
        }
        struct B: PostgresStatement {
            static let name = "Same"
            static let sql = "SELECT 2::int8"
            static let columns: [PostgresType] = [.int8]
            static func row(from row: inout PostgresRow) throws(PostgresError) -> Int64 { try row.int64() }
        }
        try await withSession { session in
            try #expect(session.execute(A()) == [1])
            try #expect(session.execute(B()) == [2])
            let (a, b) = try session.pipeline(A(), B())
            #expect(a == [1])
            #expect(b == [2])
        }
    }

    @Test("a statement whose table has changed its columns works again after one error")
    func replans() async throws {
        struct SelectAll: PostgresStatement {
            static let sql = "SELECT * FROM numbers"
            static let columns: [PostgresType] = [.int8]
            static func row(from row: inout PostgresRow) throws(PostgresError) -> Int64 { try row.int64() }
        }
        try await withSession { session in
            try session.run(script: "CREATE TABLE numbers (number int4); INSERT INTO numbers VALUES (7)")
            #expect(throws: PostgresError.self) { try session.execute(SelectAll()) }
            try session.run(script: "ALTER TABLE numbers ALTER number TYPE int8")
            let error = #expect(throws: PostgresError.self) { try session.execute(SelectAll()) }
            #expect(error?.sqlState == "0A000")
            try #expect(session.execute(SelectAll()) == [7])
        }
    }

    @Test("the server sees the statement's name in front of its SQL")
    func leadingComment() async throws {
        struct OwnQuery: PostgresStatement {
            static let sql = "SELECT query FROM pg_stat_activity WHERE pid = pg_backend_pid()"
            static let columns: [PostgresType] = [.text]
            static func row(from row: inout PostgresRow) throws(PostgresError) -> String { try row.text() }
        }
        try await withSession { session in
            try #expect(session.execute(OwnQuery()).first?.hasPrefix("/* OwnQuery */ SELECT") == true)
        }
    }

    @Test("a pipeline is all or nothing: the second statement fails and the first is undone")
    func pipelineIsAtomic() async throws {
        try await withSession { session in
            try session.run(script: createNumbers)
            let error = #expect(throws: PostgresError.self) {
                try session.pipeline(InsertNumber(number: 1), InsertNumber(number: -1), InsertNumber(number: 2))
            }
            #expect(error?.code == .serverError)
            #expect(error?.sqlState == "23514")
            #expect(error?.constraintName == "numbers_number_check")
            #expect(error?.statementName == "InsertNumber")
            #expect(session.transactionStatus == .idle)
            try #expect(session.execute(SelectNumbers()).isEmpty)
            _ = try session.pipeline(InsertNumber(number: 1), InsertNumber(number: 2))
            #expect(session.affectedRowCounts == [1, 1])
            try #expect(session.execute(SelectNumbers()) == [1, 2])
        }
    }

    @Test("an error of the commit keeps its SQLSTATE and leaves the session usable")
    func commitFails() async throws {
        try await withSession { session in
            try session.run(script: "CREATE TABLE numbers (number int8 PRIMARY KEY DEFERRABLE INITIALLY DEFERRED)")
            _ = try session.execute(InsertNumber(number: 1))
            let error = #expect(throws: PostgresError.self) {
                try session.pipeline(InsertNumber(number: 2), InsertNumber(number: 1))
            }
            #expect(error?.code == .serverError)
            #expect(error?.sqlState == "23505")
            #expect(error?.constraintName == "numbers_pkey")
            #expect(error?.statementName == "InsertNumber")
            #expect(error?.outcomeUnknown == false)
            #expect(session.transactionStatus == .idle)
            try #expect(session.execute(SelectNumbers()) == [1])
        }
    }

    @Test("a pipeline whose preparation fails leaves nothing and can be repeated")
    func pipelinePreparationFails() async throws {
        try await withSession { session in
            let error = #expect(throws: PostgresError.self) {
                try session.pipeline(SelectOne(), SelectNumbers(), PreparedNames())
            }
            #expect(error?.sqlState == "42P01")
            try session.run(script: createNumbers)
            let (_, numbers, names) = try session.pipeline(SelectOne(), SelectNumbers(), PreparedNames())
            #expect(numbers.isEmpty)
            #expect(names.contains("SelectNumbers"))
            #expect(names.contains("PreparedNames"))
        }
    }

    @Test("any number of statements of one type go in one pipeline")
    func pipelineOfMany() async throws {
        try await withSession { session in
            try session.run(script: createNumbers)
            _ = try session.pipeline(all: (0..<500).map { InsertNumber(number: $0) })
            #expect(session.affectedRowCounts.count == 500)
            try #expect(session.execute(SelectNumbers()).count == 500)
            try #expect(session.pipeline(all: [InsertNumber]()).isEmpty)
        }
    }

    @Test("a setting local to the transaction, first in a pipeline, holds for that pipeline only")
    func localSetting() async throws {
        try await withSession { session in
            let (_, inside) = try session.pipeline(
                PostgresLocalSetting("weir.tenant", "t1"), Setting(key: "weir.tenant"))
            #expect(inside == ["t1"])
            try #expect(session.execute(Setting(key: "weir.tenant")) == [""])
        }
    }

    @Test("binds and results larger than every socket buffer do not deadlock")
    func bigValues() async throws {
        struct EchoBytes: PostgresStatement {
            static let sql = "SELECT $1"
            static let parameters: [PostgresType] = [.bytea]
            static let columns: [PostgresType] = [.bytea]
            let bytes: [UInt8]
            func bind(to binds: inout PostgresBinds) { binds.append(bytes) }
            static func row(from row: inout PostgresRow) throws(PostgresError) -> Int { try row.bytes().count }
        }
        try await withSession { session in
            // The server answers the first ones while we still send the others.
            let statements = (0..<24).map { EchoBytes(bytes: [UInt8](repeating: UInt8($0), count: 1 << 20)) }
            let rows = try session.pipeline(all: statements)
            #expect(rows.allSatisfy { $0 == [1 << 20] })
        }
    }

    @Test("counts affected rows; a conflict that does nothing counts none")
    func affectedRows() async throws {
        try await withSession { session in
            try session.run(script: createNumbers)
            try #expect(session.affectedRows(by: InsertNumbers(numbers: [1, 2, 3])) == 3)
            try #expect(session.affectedRows(by: InsertNumbers(numbers: [3, 4])) == 1)
        }
    }

    @Test("begin, rollback and commit do what they say, and a failed transaction cannot be committed silently")
    func transactions() async throws {
        try await withSession { session in
            try session.run(script: createNumbers)
            try session.begin()
            #expect(session.transactionStatus == .inTransaction)
            _ = try session.execute(InsertNumber(number: 1))
            try session.rollback()
            try #expect(session.execute(SelectNumbers()).isEmpty)

            try session.begin(.serializable)
            _ = try session.execute(InsertNumber(number: 2))
            try session.commit()
            try #expect(session.execute(SelectNumbers()) == [2])

            try session.begin()
            #expect(throws: PostgresError.self) { try session.execute(InsertNumber(number: -1)) }
            #expect(session.transactionStatus == .inFailedTransaction)
            let error = #expect(throws: PostgresError.self) { try session.commit() }
            #expect(error?.sqlState == "25P02")
            #expect(session.transactionStatus == .idle)
        }
    }

    @Test("a script of many statements is one transaction, and its error leaves the session usable")
    func scripts() async throws {
        try await withSession { session in
            let error = #expect(throws: PostgresError.self) {
                try session.run(script: createNumbers + "; INSERT INTO numbers VALUES (1); SELECT nonsense")
            }
            #expect(error?.sqlState == "42703")
            try session.run(script: createNumbers)
            try #expect(session.execute(SelectNumbers()).isEmpty)
        }
    }

    @Test("a server error's message holds neither SQL nor data; the server's words are in its detail")
    func errorMessage() async throws {
        struct Cast: PostgresStatement {
            static let sql = "SELECT $1::uuid"
            static let parameters: [PostgresType] = [.text]
            func bind(to binds: inout PostgresBinds) { binds.append("secret") }
        }
        try await withSession { session in
            let error = try #require(#expect(throws: PostgresError.self) { try session.execute(Cast()) })
            #expect(error.sqlState == "22P02")
            #expect(!error.description.contains("secret"))
            #expect(error.detail?.contains("secret") == true)
        }
    }

    @Test("a session works in UTC, in UTF-8, under its role and with its timeouts")
    func sessionSettings() async throws {
        try await PostgresServer.withDatabase { url in
            let role = "r\(UInt64.random(in: 0...UInt64.max))"
            try await PostgresServer.run("CREATE ROLE \(role)", on: url)
            try await PostgresThread().run {
                let session = PostgresSession(
                    configuration: try PostgresConfiguration(
                        url: url, applicationName: "weir-test", role: role, statementTimeoutMilliseconds: 1_234,
                        lockTimeoutMilliseconds: 567, idleInTransactionTimeoutMilliseconds: 8_900))
                try session.connect()
                let expected = [
                    "TimeZone": "UTC", "client_encoding": "UTF8", "role": role, "application_name": "weir-test",
                    "statement_timeout": "1234ms", "lock_timeout": "567ms",
                    "idle_in_transaction_session_timeout": "8900ms",
                ]
                for (key, value) in expected {
                    try #expect(session.execute(Setting(key: key)) == [value], "\(key)")
                }
            }
            try await PostgresServer.run("DROP ROLE \(role)", on: url)
        }
    }

    @Test("an unknown role fails the connect for good")
    func unknownRole() async throws {
        try await withSession { session in
            var configuration = session.configuration
            try configuration.setRole("nobody_has_this_name")
            let other = PostgresSession(configuration: configuration)
            let error = #expect(throws: PostgresError.self) { try other.connect() }
            #expect(error?.code == .serverError)
            #expect(error?.isTransient == false)
            #expect(!other.isConnected)
        }
    }

    @Test("an unknown database is told with its SQLSTATE and is not transient")
    func unknownDatabase() async throws {
        let url = try await PostgresServer.url(ofDatabase: "nowhere")
        try await PostgresThread().run {
            let session = PostgresSession(
                configuration: try PostgresConfiguration(url: url, connectTimeoutMilliseconds: 60_000))
            let error = #expect(throws: PostgresError.self) { try session.connect() }
            #expect(error?.code == .connectionFailed)
            #expect(error?.sqlState == "3D000")
            #expect(error?.isTransient == false)
        }
    }

    @Test("nobody listening is a transient connectionFailed")
    func nobodyListens() async throws {
        try await PostgresThread().run {
            let session = PostgresSession(
                configuration: try PostgresConfiguration(url: "postgresql:///x?host=/nonexistent"))
            let error = #expect(throws: PostgresError.self) { try session.connect() }
            #expect(error?.code == .connectionFailed)
            #expect(error?.sqlState == nil)
            #expect(error?.isTransient == true)
        }
    }

    @Test("the server's types of a statement can be compared with the declared ones")
    func describes() async throws {
        try await withSession { session in
            let description = try session.describe(EchoScalars.self)
            #expect(description.parameterTypes == EchoScalars.parameters.map(\.rawValue))
            #expect(description.columnTypes == EchoScalars.columns.map(\.rawValue))
            let broken = #expect(throws: PostgresError.self) { try session.describe(SelectNumbers.self) }
            #expect(broken?.sqlState == "42P01")
        }
    }
}

@Suite("names of statements")
struct StatementNameTests {
    struct Nested: PostgresStatement {
        static let sql = ""
    }

    @Test("are the type's name, with the types around it")
    func names() {
        struct Local: PostgresStatement {
            static let sql = ""
        }
        #expect(SelectOne.name == "SelectOne")
        #expect(Nested.name == "StatementNameTests.Nested")
        #expect(Local.name == "Local")
    }
}
