import PostgresDriver

/// A session that a test uses in several steps, with awaiting in between.
actor SessionInHand {
    private let thread: PostgresThread
    private let session: PostgresSession
    nonisolated var unownedExecutor: UnownedSerialExecutor { thread.asUnownedSerialExecutor() }

    init(_ configuration: PostgresConfiguration) throws {
        thread = try PostgresThread(name: "test-session")
        session = PostgresSession(configuration: configuration)
    }

    func run<T: Sendable>(_ body: @Sendable (PostgresSession) throws -> T) throws -> T {
        if !session.isConnected { try session.connect() }
        return try body(session)
    }
}
