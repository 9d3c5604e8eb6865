import Testing

@testable import PostgresDriver

@Suite("the database URL")
struct PostgresConfigurationTests {
    @Test(
        "is read into libpq's keywords",
        arguments: [
            ("postgres://h", ["host": "h"]),
            ("postgresql://u@h/d", ["user": "u", "host": "h", "dbname": "d"]),
            ("postgresql://u:p@h:5433/d", ["user": "u", "password": "p", "host": "h", "port": "5433", "dbname": "d"]),
            ("postgresql+asyncpg://u:p@h/d", ["user": "u", "password": "p", "host": "h", "dbname": "d"]),
            (
                "postgresql+psycopg2://u@h/d?ssl=require",
                ["user": "u", "host": "h", "dbname": "d", "sslmode": "require"]
            ),
            ("PostgreSQL://h/d?ssl=true", ["host": "h", "dbname": "d", "sslmode": "require"]),
            ("postgresql:///d?host=/var/run/pg&user=u", ["host": "/var/run/pg", "user": "u", "dbname": "d"]),
            ("postgresql://%2Ftmp%2Fpg/d", ["host": "/tmp/pg", "dbname": "d"]),
            (
                "postgresql://u:p%40ss%2Fw%3Ard%25@h/d%20b",
                ["user": "u", "password": "p@ss/w:rd%", "host": "h", "dbname": "d b"]
            ),
            ("postgresql://u:p@ss@h/d", ["user": "u", "password": "p@ss", "host": "h", "dbname": "d"]),
            ("postgresql://[::1]:6000/d", ["host": "::1", "port": "6000", "dbname": "d"]),
            ("postgresql://a:1,b,c:3/d", ["host": "a,b,c", "port": "1,,3", "dbname": "d"]),
            (
                "postgresql://h/d?sslmode=verify-full&sslrootcert=/a+b",
                ["host": "h", "dbname": "d", "sslmode": "verify-full", "sslrootcert": "/a+b"]
            ),
            ("postgresql://", [:]),
        ] as [(String, [String: String])])
    func reads(url: String, keywords: [String: String]) throws {
        #expect(try PostgresConfiguration(url: url).keywords == keywords)
    }

    @Test(
        "is refused with the part that is wrong, without the password",
        arguments: [
            ("u:hunter2@h/d", "scheme"),
            ("mysql://u:hunter2@h/d", "scheme"),
            ("postgresql://u:hunter2%@h/d", "password"),
            ("postgresql://u:hunter2%zz@h/d", "password"),
            ("postgresql://u:hunter2%00@h/d", "password"),
            ("postgresql://u:hunter2%ff@h/d", "password"),
            ("postgresql://u%:hunter2@h/d", "user"),
            ("postgresql://u:hunter2@h:70000/d", "port"),
            ("postgresql://u:hunter2@h:0/d", "port"),
            ("postgresql://u:hunter2@h:abc/d", "port"),
            ("postgresql://u:hunter2@[::1/d", "bracket"),
            ("postgresql://u:hunter2@[::1]x/d", "bracket"),
            ("postgresql://u:hunter2@h/%", "database name"),
            ("postgresql://u:hunter2@h/d?sslmode", "query parameter"),
            ("postgresql://u:hunter2@h/d?sslmode=%", "sslmode"),
            ("postgresql://u:hunter2@h/d?slmode=require", "slmode"),
            ("postgresql://u:hunter2@h/d?a-b=c", "impossible name"),
        ])
    func refuses(url: String, part: String) {
        let error = #expect(throws: PostgresError.self) { try PostgresConfiguration(url: url) }
        #expect(error?.code == .configuration)
        #expect(error?.message.contains(part) == true)
        #expect(error?.message.contains("hunter2") == false)
    }

    @Test("shows itself without the password, however it is printed")
    func hidesPassword() throws {
        let configuration = try PostgresConfiguration(
            url: "postgresql://u:hunter2@h/d?sslpassword=hunter2", role: "reader")
        var dumped = ""
        dump(configuration, to: &dumped)
        for text in ["\(configuration)", String(reflecting: configuration), "\([configuration])", dumped] {
            #expect(!text.contains("hunter2"))
            #expect(text.contains("host=h"))
            #expect(text.contains("role=reader"))
        }
    }

    @Test(
        "takes plain roles only",
        arguments: ["", "Reader", "1a", "a-b", "a b", "a\"", "a;drop", String(repeating: "a", count: 64)])
    func refusesRole(role: String) {
        let error = #expect(throws: PostgresError.self) { try PostgresConfiguration(url: "postgres://h", role: role) }
        #expect(error?.code == .configuration)
    }

    @Test("says what libpq is told: UTF-8, the program's name, keep-alives that the URL may override")
    func connectionKeywords() throws {
        var configuration = try PostgresConfiguration(url: "postgres://h?keepalives_idle=7&client_encoding=latin1")
        configuration.applicationName = "weir-jobs"
        let keywords = Dictionary(uniqueKeysWithValues: configuration.connectionKeywords)
        #expect(keywords["keepalives_idle"] == "7")
        #expect(keywords["keepalives_interval"] == "5")
        #expect(keywords["client_encoding"] == "UTF8")
        #expect(keywords["application_name"] == "weir-jobs")
    }
}

@Suite("the error")
struct PostgresErrorTests {
    @Test(
        "is transient by its SQLSTATE",
        arguments: [
            ("08006", true), ("53300", true), ("57P01", true), ("57P02", true), ("57P03", true), ("40001", true),
            ("40P01", true),
            ("55P03", true), ("25006", true), ("57014", false), ("23505", false), ("42601", false), ("28P01", false),
            ("57P04", false),
        ])
    func transient(sqlState: String, expected: Bool) {
        let error = PostgresError(.serverError, "x", sqlState: sqlState)
        #expect(error.isTransient == expected)
        #expect(error.metricLabel == "server_" + sqlState.prefix(2))
    }

    @Test("without an SQLSTATE is transient when the connection is the cause")
    func transientByCode() {
        for code in [PostgresError.Code.connectionFailed, .connectionLost, .timedOut, .poolTimeout] {
            #expect(PostgresError(code, "x").isTransient)
        }
        for code in [PostgresError.Code.encoding, .decoding, .closed, .cancelled, .configuration, .protocolViolation] {
            #expect(!PostgresError(code, "x").isTransient)
        }
    }

    @Test("is transient when the connection was lost, whatever the server's reason", arguments: ["25P03", "57P05"])
    func transientLoss(sqlState: String) {
        #expect(PostgresError(.connectionLost, "x", sqlState: sqlState).isTransient)
    }

    @Test("reads the SQLSTATE of a refused connection from libpq's verbose message")
    func verboseMessage() {
        let text =
            "connection to server at \"h\" (::1), port 5432 failed: FATAL:  28P01: password authentication failed"
        #expect(PostgresWire.sqlState(inVerboseMessage: text) == "28P01")
        #expect(PostgresWire.sqlState(inVerboseMessage: "could not connect to server: Connection refused") == nil)
        #expect(PostgresWire.sqlState(inVerboseMessage: "") == nil)
    }
}
