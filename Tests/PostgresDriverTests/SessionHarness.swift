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
