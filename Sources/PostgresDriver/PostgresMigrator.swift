internal import Glibc
public import Logging

/// One step of the schema: plain SQL that is never edited once it has been applied anywhere.
///
/// It must neither end its transaction nor change settings of the session other than with SET LOCAL.
public struct PostgresMigration: Sendable, Hashable {
    /// From 1 upwards, without gaps.
    public let number: Int
    public let name: String
    public let sql: String

    public init(number: Int, name: String, sql: String) {
        self.number = number
        self.name = name
        self.sql = sql
    }

    /// From a file named like `0001_tenancy.sql`; nil for another form.
    public init?(fileName: String, sql: String) {
        guard fileName.hasSuffix(".sql"), let mark = fileName.firstIndex(of: "_"),
            let number = Int(fileName[..<mark]), number > 0
        else { return nil }
        let name = fileName[fileName.index(after: mark)...].dropLast(4)
        guard !name.isEmpty else { return nil }
        self.init(number: number, name: String(name), sql: sql)
    }

    /// `0001_tenancy`, as in errors and logs.
    public var label: String { migrationLabel(number, name) }
}

/// Where a migration stands in a database.
public struct PostgresMigrationStatus: Sendable, Equatable {
    public enum Standing: Sendable, Equatable {
        case applied
        case pending
        /// Applied with other SQL than the program has.
        case changed
        /// Applied, and not known to this program.
        case unknown
    }

    public let number: Int
    public let name: String
    public let standing: Standing
    public let appliedAt: PostgresTimestamp?
    public let durationMilliseconds: Int64?
}

/// Brings the schema of a database up to date.
///
/// The table `schema_migrations` records what was applied, with the SHA-256 of the SQL, computed by the server. Each
/// migration is one transaction together with its row. An advisory lock lets any number of programs start at once: one
/// applies, the others wait and find nothing left to do.
public struct PostgresMigrator: Sendable {
    private let configuration: PostgresConfiguration
    private let migrations: [PostgresMigration]
    private let logger: Logger
    private let lockWaitMilliseconds: Int

    /// - Parameters:
    ///   - configuration: of the owner of the schema. Its statement and answer timeouts are replaced.
    ///   - statementTimeoutMilliseconds: how long one statement of a migration may take.
    ///   - lockWaitMilliseconds: how long to wait for another program that migrates.
    public init(
        configuration: PostgresConfiguration, migrations: [PostgresMigration], logger: Logger,
        statementTimeoutMilliseconds: Int = 600_000, lockWaitMilliseconds: Int = 900_000
    ) {
        var configuration = configuration
        configuration.statementTimeoutMilliseconds = statementTimeoutMilliseconds
        configuration.answerTimeoutMilliseconds = statementTimeoutMilliseconds + 10_000
        self.configuration = configuration
        self.migrations = migrations.sorted { $0.number < $1.number }
        self.logger = logger
        self.lockWaitMilliseconds = lockWaitMilliseconds
    }

    /// Applies what is pending, in order.
    ///
    /// - Returns: the migrations that this call applied.
    /// - Throws: `.migrationMissing`, `.migrationChanged`, `.migrationUnknown` before anything is changed;
    ///   `.migrationLocked`; the error of the migration that failed, with its label as the statement's name: those
    ///   before it stay applied.
    public func migrate() async throws(PostgresError) -> [PostgresMigration] {
        try checkNumbers()
        return try await PostgresThread(name: "postgres-migr").run { () throws(PostgresError) in
            let session = PostgresSession(configuration: configuration)
            try session.connect()
            // Closing the session releases the lock, whatever happens.
            defer { session.close() }
            try lock(session)
            _ = try session.execute(CreateMigrationTable())
            let standings = try standings(session)
            try checkStandings(standings)
            let pending = migrations.filter { migration in
                standings.contains { $0.number == migration.number && $0.standing == .pending }
            }
            for migration in pending { try apply(migration, session) }
            return pending
        }
    }

    /// What is applied, pending, changed and unknown, in the order of the numbers. Changes nothing and takes no lock.
    public func status() async throws(PostgresError) -> [PostgresMigrationStatus] {
        try checkNumbers()
        return try await PostgresThread(name: "postgres-migr").run { () throws(PostgresError) in
            let session = PostgresSession(configuration: configuration)
            try session.connect()
            defer { session.close() }
            guard try session.execute(MigrationTableExists()).first == true else {
                return migrations.map { PostgresMigrationStatus(pending: $0) }
            }
            return try standings(session)
        }
    }

    // MARK: Checks

    private func checkNumbers() throws(PostgresError) {
        for (index, migration) in migrations.enumerated() where migration.number != index + 1 {
            let isDouble = migration.number <= index
            throw PostgresError(
                .migrationMissing,
                isDouble ? "two migrations have the number \(migration.number)" : "migration \(index + 1) is missing",
                statementName: migration.label)
        }
    }

    private func checkStandings(_ standings: [PostgresMigrationStatus]) throws(PostgresError) {
        if let changed = standings.first(where: { $0.standing == .changed }) {
            throw PostgresError(
                .migrationChanged, "an applied migration differs from the program's", statementName: changed.label)
        }
        if let unknown = standings.first(where: { $0.standing == .unknown }) {
            throw PostgresError(
                .migrationUnknown, "the database has a migration that this program does not know",
                statementName: unknown.label)
        }
        let lastApplied = standings.last { $0.standing == .applied }?.number ?? 0
        if let skipped = standings.first(where: { $0.standing == .pending && $0.number < lastApplied }) {
            throw PostgresError(
                .migrationMissing, "a later migration is applied and this one is not", statementName: skipped.label)
        }
    }

    private func standings(_ session: PostgresSession) throws(PostgresError) -> [PostgresMigrationStatus] {
        let applied = try session.execute(AppliedMigrations())
        let checksums = try session.execute(Checksums(texts: migrations.map { Array($0.sql.utf8) }))
        var standings: [PostgresMigrationStatus] = []
        for (migration, checksum) in zip(migrations, checksums) {
            guard let row = applied.first(where: { $0.number == Int64(migration.number) }) else {
                standings.append(PostgresMigrationStatus(pending: migration))
                continue
            }
            standings.append(PostgresMigrationStatus(row, checksum == row.checksum ? .applied : .changed))
        }
        for row in applied where !migrations.contains(where: { Int64($0.number) == row.number }) {
            standings.append(PostgresMigrationStatus(row, .unknown))
        }
        return standings.sorted { $0.number < $1.number }
    }

    // MARK: Work

    /// Tries again and again instead of waiting in the server: a waiting statement holds a snapshot, and an index that
    /// is built concurrently would wait for that in turn.
    private func lock(_ session: PostgresSession) throws(PostgresError) {
        let deadline = Deadline(afterMilliseconds: lockWaitMilliseconds)
        while try session.execute(TryMigrationLock()).first != true {
            guard deadline.remainingMilliseconds > 0 else {
                throw PostgresError(.migrationLocked, "another program has been migrating the database for too long")
            }
            usleep(50_000)
        }
    }

    private func apply(_ migration: PostgresMigration, _ session: PostgresSession) throws(PostgresError) {
        let start = Deadline.now
        do throws(PostgresError) {
            try session.begin()
            let transaction = try session.execute(CurrentTransaction())
            try session.run(script: migration.sql)
            guard session.transactionStatus == .inTransaction, try session.execute(CurrentTransaction()) == transaction
            else {
                throw PostgresError(.configuration, "the migration ended its own transaction")
            }
            let milliseconds = Int64(clamping: (Deadline.now - start) / 1_000_000)
            _ = try session.execute(RecordMigration(migration: migration, durationMilliseconds: milliseconds))
            try session.commit()
        } catch {
            // The caller closes the session, which rolls back.
            throw error.relabelled(migration.label)
        }
        logger.debug("migration applied", metadata: ["migration": "\(migration.label)"])
    }
}

private func migrationLabel(_ number: Int, _ name: String) -> String {
    let digits = "\(number)"
    return String(repeating: "0", count: max(4 - digits.utf8.count, 0)) + digits + "_" + name
}

extension PostgresError {
    fileprivate func relabelled(_ name: String) -> PostgresError {
        var copy = self
        copy.statementName = name
        return copy
    }
}

extension PostgresMigrationStatus {
    /// `0001_tenancy`.
    public var label: String { migrationLabel(number, name) }

    fileprivate init(pending migration: PostgresMigration) {
        self.init(
            number: migration.number, name: migration.name, standing: .pending, appliedAt: nil,
            durationMilliseconds: nil)
    }

    fileprivate init(_ row: AppliedMigrations.Row, _ standing: Standing) {
        self.init(
            number: Int(row.number), name: row.name, standing: standing, appliedAt: row.appliedAt,
            durationMilliseconds: row.durationMilliseconds)
    }
}
