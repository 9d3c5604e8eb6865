public import Logging
public import ServiceLifecycle
internal import Synchronization

/// A bounded set of connections that are opened when needed and lent to one user at a time.
///
/// Every wait has an end: a user waits at most the queue timeout, at most so many users wait, and a server that cannot
/// be reached is tried again with exponential backoff. As a `Service` it lives until graceful shutdown; without `run()`
/// it works as well and is ended by `shutdown()`.
public final class PostgresPool: Service {
    /// The bounds of a pool.
    public struct Options: Sendable {
        /// Names the pool in metrics and logs.
        public var name: String
        public var maximumConnections: Int
        /// Kept open while the pool runs.
        public var minimumConnections: Int
        /// How long a user waits for a connection before `.poolTimeout`.
        public var queueTimeoutMilliseconds: Int
        /// How many users may wait; the next one gets `.poolTimeout` at once.
        public var maximumWaiters: Int
        /// A connection older than this is replaced when it is next touched; nil keeps it.
        public var maximumConnectionAgeMilliseconds: Int?
        /// A statement that takes longer is logged at warning level, with its name and never with values; nil logs
        /// none.
        public var slowStatementMilliseconds: Int?
        /// Ceiling of the delay after the first failed connect; it doubles with every further one.
        public var backoffBaseMilliseconds: Int
        public var backoffMaximumMilliseconds: Int

        public init(
            name: String = "main", maximumConnections: Int = 4, minimumConnections: Int = 0,
            queueTimeoutMilliseconds: Int = 1_000, maximumWaiters: Int = 64,
            maximumConnectionAgeMilliseconds: Int? = nil, slowStatementMilliseconds: Int? = 500,
            backoffBaseMilliseconds: Int = 50, backoffMaximumMilliseconds: Int = 5_000
        ) {
            self.name = name
            self.maximumConnections = maximumConnections
            self.minimumConnections = minimumConnections
            self.queueTimeoutMilliseconds = queueTimeoutMilliseconds
            self.maximumWaiters = maximumWaiters
            self.maximumConnectionAgeMilliseconds = maximumConnectionAgeMilliseconds
            self.slowStatementMilliseconds = slowStatementMilliseconds
            self.backoffBaseMilliseconds = backoffBaseMilliseconds
            self.backoffMaximumMilliseconds = backoffMaximumMilliseconds
        }
    }

    typealias Waiter = CheckedContinuation<Result<PoolLease, PostgresError>, Never>

    struct State {
        var machine: PoolStateMachine
        var connections: [PoolStateMachine.ConnectionID: PostgresConnection] = [:]
        var waiters: [PoolStateMachine.WaiterID: Waiter] = [:]
        var timers: [PoolStateMachine.WaiterID: UInt64] = [:]
        var lastWaiter: PoolStateMachine.WaiterID = 0
        var lastConnectError: PostgresError?
        var generator: any RandomNumberGenerator & Sendable
        var finishers: [CheckedContinuation<Void, Never>] = []
        var isFinished = false
    }

    public let options: Options
    let configuration: PostgresConfiguration
    let logger: Logger
    let metrics: PoolMetrics
    let state: Mutex<State>
    /// Runs timers: the ends of waits and the delays before connecting.
    let clerk: PostgresThread

    /// A pool without connections yet.
    /// - Parameter generator: the source of the jitter, to be replaced in tests.
    /// - Throws: `.connectionFailed` when no thread can be started.
    public init(
        configuration: PostgresConfiguration, options: Options = Options(), logger: Logger,
        generator: any RandomNumberGenerator & Sendable = SystemRandomNumberGenerator()
    ) throws(PostgresError) {
        self.options = options
        self.configuration = configuration
        self.logger = logger
        metrics = PoolMetrics(pool: options.name)
        clerk = try PostgresThread(name: "postgres-pool")
        let machine = PoolStateMachine(limits: PoolStateMachine.Limits(options))
        state = Mutex(State(machine: machine, generator: generator))
    }

    // MARK: Using a connection

    /// Runs a statement on a connection of the pool. A connection that died in the pool is replaced without the caller
    /// seeing it; after the statement was sent nothing is repeated.
    public func execute<S: PostgresStatement>(_ statement: S) async throws(PostgresError) -> [S.Row] {
        try await use(naming: S.self) { session throws(PostgresError) in try session.execute(statement) }
    }

    /// Runs a statement as `execute` does and gives the number of rows that it changed.
    public func affectedRows<S: PostgresStatement>(by statement: S) async throws(PostgresError) -> Int {
        try await use(naming: S.self) { session throws(PostgresError) in try session.affectedRows(by: statement) }
    }

    /// Runs statements in one round trip, all or none; see `PostgresSession.pipeline`. The metrics take it for a
    /// statement with the name of the last one, which is the one that the others prepare.
    public func pipeline<each S: PostgresStatement>(
        _ statement: repeat each S
    ) async throws(PostgresError) -> (repeat [(each S).Row]) {
        var last: any PostgresStatement.Type = Begin.self
        for type in repeat (each S).self { last = type }
        return try await use(naming: last) { session throws(PostgresError) in
            try session.pipeline(repeat each statement)
        }
    }

    /// Runs any number of statements of one type in one round trip, all or none.
    public func pipeline<S: PostgresStatement>(all statements: [S]) async throws(PostgresError) -> [[S.Row]] {
        try await use(naming: S.self) { session throws(PostgresError) in try session.pipeline(all: statements) }
    }

    /// Lends a connection, which was alive a moment ago, for the time of the body. What the body leaves open is rolled
    /// back. Settings made for the session stay with the connection: use `PostgresLocalSetting` in a transaction
    /// instead.
    public nonisolated(nonsending) func withConnection<T>(
        _ body: (PostgresConnection) async throws -> T
    ) async throws -> T {
        let lease = try await livingLease()
        let result: Result<T, any Error>
        do {
            result = .success(try await body(lease.connection))
        } catch {
            result = .failure(error)
        }
        release(lease, isReusable: await lease.connection.settle())
        return try result.get()
    }

    /// Runs a body in a transaction on a connection of the pool; see `PostgresConnection.transaction`.
    public nonisolated(nonsending) func transaction<T>(
        _ isolation: PostgresIsolation = .readCommitted, _ body: (PostgresConnection) async throws -> T
    ) async throws(PostgresTransactionError) -> T {
        let lease: PoolLease
        do {
            lease = try await livingLease()
        } catch {
            throw PostgresTransactionError(begin: error)
        }
        let result: Result<T, PostgresTransactionError>
        do throws(PostgresTransactionError) {
            result = .success(try await lease.connection.transaction(isolation, body))
        } catch {
            result = .failure(error)
        }
        release(lease, isReusable: await lease.connection.settle())
        return try result.get()
    }

    // MARK: Life

    /// Keeps the pool until graceful shutdown, then closes it.
    public func run() async throws {
        perform { $0.machine.start(now: Self.now) }
        try? await gracefulShutdown()
        await shutdown()
    }

    /// Refuses new users, waits for those who have a connection, and closes everything.
    public func shutdown() async {
        perform { $0.machine.shutDown() }
        await withCheckedContinuation { continuation in
            let isFinished = state.withLock { state in
                if !state.isFinished { state.finishers.append(continuation) }
                return state.isFinished
            }
            if isFinished { continuation.resume() }
        }
    }

    private func use<T: Sendable>(
        naming type: any PostgresStatement.Type, _ body: @Sendable (PostgresSession) throws(PostgresError) -> T
    ) async throws(PostgresError) -> T {
        let lease: PoolLease
        do {
            lease = try await self.lease()
        } catch {
            throw error.named(type.name)
        }
        let attempt = await lease.connection.attempt(body)
        release(lease, isReusable: attempt.isReusable)
        note(type, attempt.nanoseconds, failure: attempt.result)
        return try attempt.result.get()
    }

    private func livingLease() async throws(PostgresError) -> PoolLease {
        let lease = try await lease()
        do {
            try await lease.connection.revive()
            return lease
        } catch {
            release(lease, isReusable: false)
            throw error
        }
    }

    private func note<T>(_ type: any PostgresStatement.Type, _ nanoseconds: UInt64, failure: Result<T, PostgresError>) {
        metrics.record(type, nanoseconds: nanoseconds)
        if case .failure(let error) = failure { metrics.count(error) }
        let milliseconds = nanoseconds / 1_000_000
        guard let limit = options.slowStatementMilliseconds, milliseconds >= UInt64(max(limit, 0)) else { return }
        logger.warning(
            "slow database statement",
            metadata: ["statement": "\(type.name)", "milliseconds": "\(milliseconds)", "pool": "\(options.name)"])
    }
}

extension PoolStateMachine.Limits {
    init(_ options: PostgresPool.Options) {
        self.init(
            maximumConnections: max(options.maximumConnections, 1), minimumConnections: options.minimumConnections,
            maximumWaiters: max(options.maximumWaiters, 0),
            maximumAgeMilliseconds: options.maximumConnectionAgeMilliseconds.map { UInt64(max($0, 0)) },
            backoffBaseMilliseconds: UInt64(max(options.backoffBaseMilliseconds, 1)),
            backoffMaximumMilliseconds: UInt64(max(options.backoffMaximumMilliseconds, 1)))
    }
}
