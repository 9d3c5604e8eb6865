import Logging
import PostgresDriver
import Synchronization
import TestSupport
import Testing

struct BackendProcessID: PostgresStatement {
    static let sql = "SELECT pg_backend_pid()"
    static let columns: [PostgresType] = [.int4]
    static func row(from row: inout PostgresRow) throws(PostgresError) -> Int32 { try row.int32() }
}

/// Keeps what was logged.
final class LogRecorder: LogHandler, Sendable {
    private let lines = Mutex<[String]>([])
    var logLevel: Logger.Level {
        get { .trace }
        set {}
    }
    var metadata: Logger.Metadata {
        get { [:] }
        set {}
    }
    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { nil }
        set {}
    }

    func log(event: LogEvent) {
        let metadata = event.metadata ?? [:]
        let line =
            "\(event.level) \(event.message) \(metadata.sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value)" })"
        lines.withLock { $0.append(line) }
    }

    var all: [String] { lines.withLock { $0 } }
}

@Suite("the pool on a real server")
struct PostgresPoolTests {
    @Test("executes, counts and pipelines, and uses a connection again")
    func basics() async throws {
        try await withPool { pool in
            try await pool.withConnection { try await $0.run(script: createNumbers) }
            try #expect(await pool.affectedRows(by: InsertNumbers(numbers: [1, 2])) == 2)
            let (_, numbers) = try await pool.pipeline(InsertNumber(number: 3), SelectNumbers())
            #expect(numbers == [1, 2, 3])
            _ = try await pool.pipeline(all: [InsertNumber(number: 4), InsertNumber(number: 5)])
            try #expect(await pool.execute(SelectNumbers()) == [1, 2, 3, 4, 5])
            let first = try await pool.execute(BackendProcessID())
            try #expect(await pool.execute(BackendProcessID()) == first)
        }
    }

    @Test("many users share few connections and all are served")
    func sharing() async throws {
        let options = PostgresPool.Options(maximumConnections: 3, queueTimeoutMilliseconds: 30_000, maximumWaiters: 200)
        try await withPool(options) { pool in
            let backends = try await withThrowingTaskGroup(of: Int32.self) { group in
                for _ in 0..<120 {
                    group.addTask { try await pool.execute(BackendProcessID())[0] }
                }
                return try await group.reduce(into: Set<Int32>()) { $0.insert($1) }
            }
            #expect((1...3).contains(backends.count))
        }
    }

    @Test("a connection that was terminated in the pool is replaced unseen, for a statement and for a loan")
    func terminated() async throws {
        try await withPool(patientOptionsForOne) { pool in
            for _ in 0..<2 {
                let victim = try await pool.execute(BackendProcessID())[0]
                try await terminate(victim)
                try #expect(await pool.execute(BackendProcessID())[0] != victim)
            }
            let victim = try await pool.execute(BackendProcessID())[0]
            try await terminate(victim)
            let other = try await pool.withConnection { try await $0.execute(BackendProcessID())[0] }
            #expect(other != victim)
        }
    }

    /// From a session outside the pool.
    private func terminate(_ processID: Int32) async throws {
        let admin = try PostgresConnection(configuration: patientConfiguration(url: await PostgresServer.adminURL()))
        try await admin.connect()
        try #expect(await admin.execute(Terminate(processID: processID)) == [true])
        await admin.close()
    }

    @Test("an exhausted pool is a poolTimeout after the queue timeout, naming the statement")
    func exhausted() async throws {
        let options = PostgresPool.Options(maximumConnections: 1, queueTimeoutMilliseconds: 50)
        try await withPool(options) { pool in
            // On a busy machine the first connect alone can take longer than the queue timeout.
            while (try? await pool.execute(SelectOne())) == nil {}
            try await pool.withConnection { _ in
                let error = await #expect(throws: PostgresError.self) { try await pool.execute(SelectOne()) }
                #expect(error?.code == .poolTimeout)
                #expect(error?.isTransient == true)
                #expect(error?.statementName == "SelectOne")
            }
            try #expect(await pool.execute(SelectOne()) == [1])
        }
    }

    @Test("a full queue refuses at once")
    func queueFull() async throws {
        let options = PostgresPool.Options(maximumConnections: 1, queueTimeoutMilliseconds: 600_000, maximumWaiters: 0)
        try await withPool(options) { pool in
            try await pool.withConnection { _ in
                let error = await #expect(throws: PostgresError.self) { try await pool.execute(SelectOne()) }
                #expect(error?.code == .poolTimeout)
            }
        }
    }

    @Test("a cancelled waiter is released at once, before or after it began to wait")
    func cancelled() async throws {
        let options = PostgresPool.Options(maximumConnections: 1, queueTimeoutMilliseconds: 600_000)
        try await withPool(options) { pool in
            try await pool.withConnection { _ in
                for _ in 0..<50 {
                    let codes = await withTaskGroup(of: PostgresError.Code?.self) { group in
                        group.addTask {
                            do throws(PostgresError) {
                                _ = try await pool.execute(SelectOne())
                                return nil
                            } catch {
                                return error.code
                            }
                        }
                        await Task.yield()
                        group.cancelAll()
                        return await group.reduce(into: []) { $0.append($1) }
                    }
                    #expect(codes == [.cancelled])
                }
            }
        }
    }

    @Test("what a loan leaves open is rolled back before the next user")
    func leftOpen() async throws {
        try await withPool(patientOptionsForOne) { pool in
            try await pool.withConnection { try await $0.run(script: createNumbers) }
            try await pool.withConnection { connection in
                try await connection.withSession { session throws(PostgresError) in
                    try session.begin()
                    _ = try session.execute(InsertNumber(number: 1))
                }
            }
            try #expect(await pool.execute(SelectNumbers()).isEmpty)
        }
    }

    @Test("a transaction commits, and is rolled back when its body throws; the errors are kept apart")
    func transactions() async throws {
        struct Refusal: Error {}
        try await withPool(patientOptionsForOne) { pool in
            try await pool.withConnection { try await $0.run(script: createNumbers) }
            let count = try await pool.transaction { connection in
                _ = try await connection.execute(InsertNumber(number: 1))
                return try await connection.execute(SelectNumbers()).count
            }
            #expect(count == 1)

            let thrown = await #expect(throws: PostgresTransactionError.self) {
                try await pool.transaction { connection in
                    _ = try await connection.execute(InsertNumber(number: 2))
                    throw Refusal()
                }
            }
            #expect(thrown?.body is Refusal)
            #expect(thrown?.begin == nil && thrown?.rollback == nil && thrown?.commit == nil)
            try #expect(await pool.execute(SelectNumbers()) == [1])

            let swallowed = await #expect(throws: PostgresTransactionError.self) {
                try await pool.transaction { connection in
                    _ = try? await connection.execute(InsertNumber(number: -1))
                }
            }
            #expect(swallowed?.commit?.sqlState == "25P02")
            #expect(swallowed?.body == nil)
            #expect(swallowed?.cause?.code == .serverError)
        }
    }

    @Test("a transaction whose connection is lost in the body reports the body's error only")
    func transactionLost() async throws {
        try await withPool(patientOptionsForOne) { pool in
            let error = await #expect(throws: PostgresTransactionError.self) {
                try await pool.transaction { connection in
                    try await terminate(connection.backendProcessID)
                    _ = try await connection.execute(SelectOne())
                }
            }
            #expect(error?.cause?.code == .connectionLost)
            #expect(error?.rollback == nil)
            try #expect(await pool.execute(SelectOne()) == [1])
        }
    }

    @Test("an unreachable server is a transient connectionFailed at the end of the queue timeout")
    func unreachable() async throws {
        let pool = try makePool(
            url: "postgresql:///x?host=/nonexistent",
            PostgresPool.Options(
                queueTimeoutMilliseconds: 2_000, backoffBaseMilliseconds: 5, backoffMaximumMilliseconds: 10))
        let error = await #expect(throws: PostgresError.self) { try await pool.execute(SelectOne()) }
        #expect(error?.code == .connectionFailed)
        #expect(error?.isTransient == true)
        await pool.shutdown()
    }

    @Test("a refusal that waiting cannot mend comes at once")
    func permanent() async throws {
        let url = try await PostgresServer.url(ofDatabase: "nowhere")
        let pool = try makePool(url: url, PostgresPool.Options(queueTimeoutMilliseconds: 600_000))
        let error = await #expect(throws: PostgresError.self) { try await pool.execute(SelectOne()) }
        #expect(error?.sqlState == "3D000")
        await pool.shutdown()
    }

    @Test("a pool that was shut down refuses, and shutting down waits for the user")
    func shutdown() async throws {
        try await PostgresServer.withDatabase { url in
            let pool = try makePool(url: url)
            let (isLent, mayReturn) = (Gate(), Gate())
            try await withThrowingTaskGroup(of: Bool.self) { group in
                group.addTask {
                    try await pool.withConnection { connection in
                        isLent.open()
                        await mayReturn.pass()
                        return try await connection.execute(SelectOne()) == [1]
                    }
                }
                await isLent.pass()
                group.addTask {
                    await pool.shutdown()
                    return true
                }
                // Refused as soon as the shut-down has begun, while the first user still has its connection.
                while (try? await pool.execute(SelectOne())) != nil { await Task.yield() }
                mayReturn.open()
                for try await isGood in group { #expect(isGood) }
            }
            let error = await #expect(throws: PostgresError.self) { try await pool.execute(SelectOne()) }
            #expect(error?.code == .closed)
        }
    }

    @Test("run keeps the minimum open until it is cancelled, then closes everything")
    func run() async throws {
        struct Others: PostgresStatement {
            static let sql = """
                SELECT count(*) FROM pg_stat_activity
                WHERE datname = current_database() AND application_name = 'weir' AND pid <> pg_backend_pid()
                """
            static let columns: [PostgresType] = [.int8]
            static func row(from row: inout PostgresRow) throws(PostgresError) -> Int64 { try row.int64() }
        }
        try await PostgresServer.withDatabase { url in
            let watcher = try PostgresConnection(
                configuration: PostgresConfiguration(
                    url: url, applicationName: "watcher", connectTimeoutMilliseconds: 60_000))
            try await watcher.connect()
            let pool = try makePool(
                url: url,
                PostgresPool.Options(maximumConnections: 3, minimumConnections: 2, queueTimeoutMilliseconds: 60_000))
            try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask { try await pool.run() }
                while try await watcher.execute(Others()) != [2] { await Task.yield() }
                group.cancelAll()
                try await group.waitForAll()
            }
            // The server notices a closed connection a moment later.
            while try await watcher.execute(Others()) != [0] { await Task.yield() }
            await watcher.close()
        }
    }

    @Test("a slow statement is logged with its name and time, and without its values")
    func slowLog() async throws {
        let recorder = LogRecorder()
        let options = PostgresPool.Options(queueTimeoutMilliseconds: 60_000, slowStatementMilliseconds: 20)
        try await withPool(options, logger: Logger(label: "test") { _ in recorder }) { pool in
            _ = try await pool.execute(EchoText(text: "secret"))
            _ = try await pool.execute(Sleep(seconds: 0.03))
        }
        let slow = recorder.all.filter {
            $0.hasPrefix("warning slow database statement") && $0.contains("statement=Sleep")
        }
        #expect(slow.count == 1)
        #expect(slow.first?.contains("milliseconds=") == true)
        #expect(!recorder.all.contains { $0.contains("secret") })
    }
}
