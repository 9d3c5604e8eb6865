import PostgresDriver
import TestSupport
import Testing

@Suite("a server that misbehaves")
struct FaultTests {
    @Test("the statement timeout is the server's 57014 and leaves the session usable")
    func statementTimeout() async throws {
        try await withSession({ $0.statementTimeoutMilliseconds = 3_000 }) { session in
            let error = #expect(throws: PostgresError.self) { try session.execute(Sleep(seconds: 30)) }
            #expect(error?.code == .serverError)
            #expect(error?.sqlState == "57014")
            #expect(error?.isTransient == false)
            #expect(error?.outcomeUnknown == false)
            try #expect(session.execute(SelectOne()) == [1])
        }
    }

    @Test("the lock timeout is the server's 55P03, which is transient")
    func lockTimeout() async throws {
        try await withSession({ $0.lockTimeoutMilliseconds = 50 }) { session in
            try session.run(script: createNumbers)
            let other = PostgresSession(configuration: session.configuration)
            try other.connect()
            try other.run(script: "BEGIN; LOCK TABLE numbers")
            let error = #expect(throws: PostgresError.self) { try session.execute(SelectNumbers()) }
            #expect(error?.sqlState == "55P03")
            #expect(error?.isTransient == true)
            other.close()
        }
    }

    @Test("a connection that was ended while idle is known to be dead before anything is sent")
    func terminatedWhileIdle() async throws {
        try await withSession { session in
            let other = PostgresSession(configuration: session.configuration)
            try other.connect()
            try #expect(other.execute(Terminate(processID: session.backendProcessID)) == [true])
            let error = #expect(throws: PostgresError.self) { try session.execute(SelectOne()) }
            #expect(error?.code == .connectionLost)
            #expect(error?.outcomeUnknown == false)
            #expect(error?.isTransient == true)
            #expect(!session.isConnected)
            try session.connect()
            try #expect(session.execute(SelectOne()) == [1])
        }
    }

    @Test("a connection that ends under a running statement leaves its outcome unknown")
    func terminatedWhileRunning() async throws {
        struct TerminateSelf: PostgresStatement {
            static let sql = "SELECT pg_terminate_backend(pg_backend_pid())"
            static let columns: [PostgresType] = [.bool]
            static func row(from row: inout PostgresRow) throws(PostgresError) -> Bool { try row.bool() }
        }
        try await withSession { session in
            let error = #expect(throws: PostgresError.self) { try session.execute(TerminateSelf()) }
            #expect(error?.code == .connectionLost)
            #expect(error?.sqlState == "57P01")
            #expect(error?.outcomeUnknown == true)
            #expect(!session.isConnected)
        }
    }

    @Test("a frozen server is a lost one after the answer timeout, for statements, scripts and connects")
    func frozen() async throws {
        try await PostgresServer.withPrivateCluster { cluster in
            let session = try SessionBox(
                PostgresConfiguration(
                    url: cluster.url, connectTimeoutMilliseconds: 5_000, answerTimeoutMilliseconds: 4_000))
            try await session.run { session in
                try session.connect()
                try #expect(session.execute(SelectOne()) == [1])
            }
            cluster.suspend()
            defer { cluster.resume() }
            try await session.run { session in
                let start = ContinuousClock.now
                let statement = #expect(throws: PostgresError.self) { try session.execute(SelectOne()) }
                #expect(statement?.code == .timedOut)
                #expect(statement?.outcomeUnknown == true)
                #expect(statement?.isTransient == true)
                #expect(!session.isConnected)
                let connect = #expect(throws: PostgresError.self) { try session.connect() }
                #expect(connect?.code == .timedOut)
                #expect(connect?.outcomeUnknown == false)
                // Waits of four and five seconds. The bound leaves room for a busy machine and is less than the
                // defaults of 35 s.
                #expect(ContinuousClock.now - start < .seconds(25))
            }
            cluster.resume()
            try await session.run { session in
                try session.connect()
                try #expect(session.execute(SelectOne()) == [1])
            }
        }
    }

    @Test("a frozen server cannot hold up closing a connection with much unsent data")
    func frozenWhileSending() async throws {
        try await PostgresServer.withPrivateCluster { cluster in
            let session = try SessionBox(
                PostgresConfiguration(
                    url: cluster.url, connectTimeoutMilliseconds: 60_000, answerTimeoutMilliseconds: 4_000))
            try await session.run { session in
                try session.connect()
                try session.run(script: createNumbers)
            }
            cluster.suspend()
            defer { cluster.resume() }
            try await session.run { session in
                let error = #expect(throws: PostgresError.self) {
                    try session.execute(InsertNumbers(numbers: Array(0..<1_000_000)))
                }
                #expect(error?.code == .timedOut)
            }
        }
    }

    @Test("a pool survives a crash and restart of the server")
    func restart() async throws {
        try await PostgresServer.withPrivateCluster { cluster in
            let pool = try makePool(url: cluster.url, PostgresPool.Options(queueTimeoutMilliseconds: 20_000))
            try #expect(await pool.execute(SelectOne()) == [1])
            await cluster.stop()
            let down = await #expect(throws: PostgresError.self) { try await pool.execute(SelectOne()) }
            #expect(down?.isTransient == true)
            #expect(down?.outcomeUnknown == false)
            try await cluster.start()
            try #expect(await pool.execute(SelectOne()) == [1])
            await pool.shutdown()
        }
    }
}
