import Logging
import PostgresDriver
import TestSupport

/// Runs a test on a connected session to a fresh database, on a thread of its own.
func withSession<T: Sendable>(
    _ configure: @escaping @Sendable (inout PostgresConfiguration) throws -> Void = { _ in },
    _ body: @escaping @Sendable (PostgresSession) throws -> T
) async throws -> T {
    try await PostgresServer.withDatabase { url in
        try await PostgresThread(name: "test-session").run {
            var configuration = try patientConfiguration(url: url)
            try configure(&configuration)
            let session = PostgresSession(configuration: configuration)
            try session.connect()
            defer { session.close() }
            return try body(session)
        }
    }
}

/// A session that a test uses in several steps, with awaiting in between.
actor SessionBox {
    private let thread: PostgresThread
    private let session: PostgresSession
    nonisolated var unownedExecutor: UnownedSerialExecutor { thread.asUnownedSerialExecutor() }

    init(_ configuration: PostgresConfiguration) throws {
        thread = try PostgresThread(name: "test-session")
        session = PostgresSession(configuration: configuration)
    }

    func run<T: Sendable>(_ body: @Sendable (PostgresSession) throws -> T) throws -> T {
        try body(session)
    }
}

/// For tests whose subject is not a timeout: long enough for a machine that is busy with a hundred other tests.
let patientOptions = PostgresPool.Options(queueTimeoutMilliseconds: 60_000)
let patientOptionsForOne = PostgresPool.Options(maximumConnections: 1, queueTimeoutMilliseconds: 60_000)

func patientConfiguration(url: String) throws(PostgresError) -> PostgresConfiguration {
    try PostgresConfiguration(url: url, connectTimeoutMilliseconds: 60_000, answerTimeoutMilliseconds: 60_000)
}

func makePool(
    url: String, _ options: PostgresPool.Options = patientOptions, logger: Logger = quietLogger
) throws -> PostgresPool {
    try PostgresPool(configuration: patientConfiguration(url: url), options: options, logger: logger)
}

let quietLogger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }

/// Runs a test with a pool on a fresh database, and shuts the pool down.
func withPool<T: Sendable>(
    _ options: PostgresPool.Options = patientOptions, logger: Logger = quietLogger,
    _ body: (PostgresPool) async throws -> T
) async throws -> T {
    try await PostgresServer.withDatabase { url in
        let pool = try makePool(url: url, options, logger: logger)
        let result: Result<T, any Error>
        do {
            result = .success(try await body(pool))
        } catch {
            result = .failure(error)
        }
        await pool.shutdown()
        return try result.get()
    }
}
