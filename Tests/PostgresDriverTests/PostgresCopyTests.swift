import PostgresDriver
import TestSupport
import Testing

struct CopySeries: PostgresCopyStatement {
    static let sql = """
        COPY (SELECT n, 'row ' || n FROM generate_series(1, current_setting('test.count')::int8) AS n) TO STDOUT (FORMAT csv)
        """
    let count: Int
    var settings: [PostgresLocalSetting] { [PostgresLocalSetting("test.count", "\(count)")] }
}

@Suite("COPY to us")
struct PostgresCopyTests {
    @Test("100,000 rows arrive whole, in order, in bounded chunks that end with a row")
    func streams() async throws {
        try await withPool { pool in
            try await pool.withConnection { connection in
                var lineCount = 0
                var last: Substring = ""
                var chunkCount = 0
                for try await chunk in try await connection.copyOut(CopySeries(count: 100_000)) {
                    #expect(chunk.last == UInt8(ascii: "\n"))
                    #expect(chunk.count < 70_000)
                    let lines = String(decoding: chunk, as: UTF8.self).split(separator: "\n")
                    lineCount += lines.count
                    last = lines.last ?? ""
                    chunkCount += 1
                }
                #expect(lineCount == 100_000)
                #expect(last == "100000,row 100000")
                #expect(chunkCount > 10)
                // The connection is free again, outside any transaction, and the setting is gone.
                try #expect(await connection.execute(SelectOne()) == [1])
                try #expect(await connection.execute(Setting(key: "test.count")) == [""])
            }
        }
    }

    @Test("an empty COPY is an empty stream")
    func empty() async throws {
        try await withPool { pool in
            try await pool.withConnection { connection in
                for try await _ in try await connection.copyOut(CopySeries(count: 0)) {
                    Issue.record("a chunk of nothing")
                }
                try #expect(await connection.execute(SelectOne()) == [1])
            }
        }
    }

    @Test("inside a transaction it sees the transaction's rows and leaves it open")
    func inTransaction() async throws {
        struct CopyNumbers: PostgresCopyStatement {
            static let sql = "COPY numbers TO STDOUT"
        }
        try await withPool { pool in
            try await pool.withConnection { try await $0.run(script: createNumbers) }
            try await pool.transaction { connection in
                _ = try await connection.execute(InsertNumber(number: 7))
                var bytes: [UInt8] = []
                for try await chunk in try await connection.copyOut(CopyNumbers()) { bytes += chunk }
                #expect(bytes == Array("7\n".utf8))
                _ = try await connection.execute(InsertNumber(number: 8))
            }
            try #expect(await pool.execute(SelectNumbers()) == [7, 8])
        }
    }

    @Test("while it streams the connection is busy; an early end gives the pool a fresh connection")
    func abandoned() async throws {
        try await withPool(patientOptionsForOne) { pool in
            try await pool.withConnection { connection in
                for try await _ in try await connection.copyOut(CopySeries(count: 10_000_000)) {
                    let error = await #expect(throws: PostgresError.self) { try await connection.execute(SelectOne()) }
                    #expect(error?.code == .busy)
                    break
                }
            }
            try #expect(await pool.execute(SelectOne()) == [1])
        }
    }

    @Test("a query that fails half-way fails the stream with the server's error and leaves the connection usable")
    func failsHalfWay() async throws {
        struct CopyDivisions: PostgresCopyStatement {
            static let sql = "COPY (SELECT 1 / (50000 - n) FROM generate_series(1, 100000) AS n) TO STDOUT"
        }
        try await withPool { pool in
            try await pool.withConnection { connection in
                var byteCount = 0
                let error = await #expect(throws: PostgresError.self) {
                    for try await chunk in try await connection.copyOut(CopyDivisions()) { byteCount += chunk.count }
                }
                #expect(byteCount > 0)
                #expect(error?.sqlState == "22012")
                #expect(error?.statementName == "CopyDivisions")
                try #expect(await connection.execute(SelectOne()) == [1])
            }
        }
    }

    @Test("what is not a COPY to us is refused", arguments: [0, 1, 2])
    func refused(which: Int) async throws {
        struct Select: PostgresCopyStatement { static let sql = "SELECT 1" }
        struct CopyIn: PostgresCopyStatement { static let sql = "COPY numbers FROM STDIN" }
        struct Broken: PostgresCopyStatement { static let sql = "COPY nothing TO STDOUT" }
        try await withPool { pool in
            try await pool.withConnection { try await $0.run(script: createNumbers) }
            let error = await #expect(throws: PostgresError.self) {
                try await pool.withConnection { connection in
                    switch which {
                    case 0: _ = try await connection.copyOut(Select())
                    case 1: _ = try await connection.copyOut(CopyIn())
                    default: _ = try await connection.copyOut(Broken())
                    }
                }
            }
            #expect(error?.code == [.copyFailed, .protocolViolation, .serverError][which])
            try #expect(await pool.execute(SelectOne()) == [1])
        }
    }
}
