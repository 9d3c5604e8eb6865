/// A session on a thread of its own, for concurrent code: an actor whose executor is that thread, so that libpq's
/// blocking calls never occupy the cooperative pool. Every call costs one hop there and back (about 10 microseconds);
/// send what belongs together as one `pipeline`, or do several steps in one `withSession`.
public actor PostgresConnection {
    /// The thread of this connection. Several connections may share one if they may wait for each other.
    public nonisolated let thread: PostgresThread
    private let session: PostgresSession
    private var copyNumber: UInt64 = 0

    /// A connection that is not open yet.
    /// - Throws: `.connectionFailed` when no thread can be started.
    public init(configuration: PostgresConfiguration, thread: PostgresThread? = nil) throws(PostgresError) {
        if let thread {
            self.thread = thread
        } else {
            self.thread = try PostgresThread()
        }
        session = PostgresSession(configuration: configuration)
    }

    public nonisolated var unownedExecutor: UnownedSerialExecutor { thread.asUnownedSerialExecutor() }

    /// See `PostgresSession.connect`.
    public func connect() throws(PostgresError) { try session.connect() }

    /// Closes the connection; what was running on it is abandoned.
    public func close() { session.close() }

    public var isConnected: Bool { session.isConnected }

    public var backendProcessID: Int32 { session.backendProcessID }

    /// See `PostgresSession.execute`.
    /// - Throws: `.cancelled` when the task was cancelled before the statement was sent; a statement on its way is
    ///   waited for.
    public func execute<S: PostgresStatement>(_ statement: S) throws(PostgresError) -> [S.Row] {
        try refuseIfCancelled()
        return try session.execute(statement)
    }

    /// See `PostgresSession.affectedRows(by:)`.
    public func affectedRows(by statement: some PostgresStatement) throws(PostgresError) -> Int {
        try refuseIfCancelled()
        return try session.affectedRows(by: statement)
    }

    /// See `PostgresSession.pipeline`.
    public func pipeline<each S: PostgresStatement>(
        _ statement: repeat each S
    ) throws(PostgresError) -> (repeat [(each S).Row]) {
        try refuseIfCancelled()
        return try session.pipeline(repeat each statement)
    }

    /// See `PostgresSession.pipeline(all:)`.
    public func pipeline<S: PostgresStatement>(all statements: [S]) throws(PostgresError) -> [[S.Row]] {
        try refuseIfCancelled()
        return try session.pipeline(all: statements)
    }

    /// See `PostgresSession.run(script:answerTimeoutMilliseconds:)`.
    public func run(script: String) throws(PostgresError) {
        try refuseIfCancelled()
        try session.run(script: script)
    }

    /// See `PostgresSession.describe`.
    public func describe<S: PostgresStatement>(_ type: S.Type) throws(PostgresError) -> PostgresDescription {
        try session.describe(type)
    }

    /// Does several blocking steps in one hop.
    public func withSession<T: Sendable>(
        _ body: @Sendable (PostgresSession) throws(PostgresError) -> T
    ) throws(PostgresError) -> T {
        try refuseIfCancelled()
        return try body(session)
    }

    private func refuseIfCancelled() throws(PostgresError) {
        if Task.isCancelled { throw PostgresError(.cancelled, "the task was cancelled before anything was sent") }
    }
}

// MARK: Transactions

extension PostgresConnection {
    /// Runs a body between BEGIN and COMMIT, in the caller's isolation. A body that throws is rolled back.
    ///
    /// The caller must be the only user of this connection meanwhile, as it is of one from the pool: an actor lets
    /// another caller's statement in wherever the body awaits.
    public nonisolated(nonsending) func transaction<T>(
        _ isolation: PostgresIsolation = .readCommitted, _ body: (PostgresConnection) async throws -> T
    ) async throws(PostgresTransactionError) -> T {
        do {
            try await begin(isolation)
        } catch {
            throw PostgresTransactionError(begin: error)
        }
        let value: T
        do {
            value = try await body(self)
        } catch {
            throw PostgresTransactionError(body: error, rollback: await rollbackAnyway())
        }
        do throws(PostgresError) {
            try await commitAnyway()
        } catch {
            throw PostgresTransactionError(rollback: await rollbackAnyway(), commit: error)
        }
        return value
    }

    private func begin(_ isolation: PostgresIsolation) throws(PostgresError) {
        try refuseIfCancelled()
        try session.begin(isolation)
    }

    /// Not refused for a cancelled task: its body came to the end, so its work counts.
    private func commitAnyway() throws(PostgresError) {
        try session.commit()
    }

    /// Not refused for a cancelled task: an open transaction would stay behind. Nil also when there is nothing to roll
    /// back any more, because the connection is gone.
    private func rollbackAnyway() -> PostgresError? {
        guard session.isConnected, session.transactionStatus != .idle else { return nil }
        do throws(PostgresError) {
            try session.rollback()
            return nil
        } catch {
            session.close()
            return error
        }
    }
}

/// What went wrong in a transaction, each step apart from the others.
public struct PostgresTransactionError: Error, Sendable, CustomStringConvertible {
    /// The transaction, or the connection for it, could not be had.
    public var begin: PostgresError?
    /// What the body threw.
    public var body: (any Error)?
    /// The roll-back failed as well; the connection was closed, which rolls back.
    public var rollback: PostgresError?
    /// The commit failed. Its `outcomeUnknown` tells whether it may have happened.
    public var commit: PostgresError?

    /// The error of the database that a caller decides by, if it was one.
    public var cause: PostgresError? { begin ?? commit ?? (body as? PostgresError) ?? rollback }

    public var description: String {
        let parts: [(String, (any Error)?)] = [
            ("begin", begin), ("body", body), ("rollback", rollback), ("commit", commit),
        ]
        return "transaction failed: "
            + parts.compactMap { name, error in error.map { "\(name): \($0)" } }.joined(separator: "; ")
    }
}

// MARK: COPY

extension PostgresConnection {
    /// Starts a COPY to us and returns the stream of its bytes once the server has accepted it. Nothing is fetched
    /// ahead: the next chunk (at least 64 KiB while the server has as much) is read when it is asked for, and the
    /// server waits meanwhile.
    ///
    /// The connection takes no statement before the stream has ended. A stream that is dropped early closes the
    /// connection, because that is the one way of ending a COPY that cannot block.
    public func copyOut(_ statement: some PostgresCopyStatement) throws(PostgresError) -> PostgresCopySequence {
        try refuseIfCancelled()
        try session.beginCopyOut(statement)
        copyNumber += 1
        return PostgresCopySequence(hold: CopyHold(connection: self, number: copyNumber))
    }

    func nextCopyChunk(_ number: UInt64) throws(PostgresError) -> [UInt8]? {
        guard number == copyNumber else { return nil }
        guard !Task.isCancelled else {
            abandonCopy(number)
            throw PostgresError(.cancelled, "the task was cancelled during a COPY")
        }
        return try session.nextCopyChunk()
    }

    func copiedRowCount(_ number: UInt64) -> Int64 { number == copyNumber ? session.copiedRowCount : 0 }

    func abandonCopy(_ number: UInt64) {
        if number == copyNumber, session.isCopying { session.close() }
    }
}

/// Ends the COPY when nobody can read it any more.
final class CopyHold: Sendable {
    let connection: PostgresConnection
    let number: UInt64

    init(connection: PostgresConnection, number: UInt64) {
        self.connection = connection
        self.number = number
    }

    deinit {
        let (connection, number) = (connection, number)
        connection.thread.submit { connection.assumeIsolated { $0.abandonCopy(number) } }
    }
}

/// The bytes of a COPY, in chunks that end with a row. To be read once.
public struct PostgresCopySequence: AsyncSequence, Sendable {
    public typealias Element = [UInt8]
    public typealias Failure = PostgresError

    let hold: CopyHold

    public struct AsyncIterator: AsyncIteratorProtocol {
        let hold: CopyHold

        /// The next rows, nil at the end.
        /// - Throws: `.copyFailed` or `.serverError` when the COPY broke off; `.connectionLost`; `.timedOut`;
        ///   `.cancelled`.
        public mutating func next() async throws(PostgresError) -> [UInt8]? {
            try await hold.connection.nextCopyChunk(hold.number)
        }

        public mutating func next(isolation actor: isolated (any Actor)?) async throws(PostgresError) -> [UInt8]? {
            try await hold.connection.nextCopyChunk(hold.number)
        }
    }

    public func makeAsyncIterator() -> AsyncIterator { AsyncIterator(hold: hold) }

    /// Rows that were read so far; after the end, all. A header line counts as a row.
    public var rowCount: Int64 { get async { await hold.connection.copiedRowCount(hold.number) } }
}

// MARK: For the pool

extension PostgresConnection {
    /// What became of one use of a pooled connection.
    struct Attempt<T: Sendable>: Sendable {
        let result: Result<T, PostgresError>
        let isReusable: Bool
        let nanoseconds: UInt64
    }

    /// Runs the body and, if the connection turns out to have died in the pool, once more on a new one. Nothing was
    /// sent on the dead one, so nothing can happen twice.
    func attempt<T: Sendable>(_ body: @Sendable (PostgresSession) throws(PostgresError) -> T) -> Attempt<T> {
        let start = Deadline.now
        var result = run(body)
        if case .failure(let error) = result, error.code == .connectionLost, !error.outcomeUnknown {
            result = run { session throws(PostgresError) in
                try session.connect()
                return try body(session)
            }
        }
        return Attempt(
            result: result, isReusable: session.isConnected && session.transactionStatus == .idle,
            nanoseconds: Deadline.now - start)
    }

    private func run<T>(_ body: (PostgresSession) throws(PostgresError) -> T) -> Result<T, PostgresError> {
        do throws(PostgresError) {
            return .success(try body(session))
        } catch {
            return .failure(error)
        }
    }

    /// Makes sure that a connection from the pool is alive, by a new connection if need be.
    func revive() throws(PostgresError) {
        do throws(PostgresError) {
            try session.checkAlive()
        } catch {
            try session.connect()
        }
    }

    /// Brings a connection back to how it was lent.
    /// - Returns: whether it may go back into the pool.
    func settle() -> Bool {
        if session.isCopying { session.close() }
        guard session.isConnected else { return false }
        if session.transactionStatus != .idle { _ = rollbackAnyway() }
        return session.isConnected && session.transactionStatus == .idle
    }
}
