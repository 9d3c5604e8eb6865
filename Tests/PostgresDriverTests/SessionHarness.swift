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
            var configuration = try PostgresConfiguration(url: url)
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

func makePool(
    url: String, _ options: PostgresPool.Options = PostgresPool.Options(), logger: Logger = quietLogger
) throws -> PostgresPool {
    try PostgresPool(configuration: PostgresConfiguration(url: url), options: options, logger: logger)
}

let quietLogger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }

/// Runs a test with a pool on a fresh database, and shuts the pool down.
func withPool<T: Sendable>(
    _ options: PostgresPool.Options = PostgresPool.Options(), logger: Logger = quietLogger,
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
