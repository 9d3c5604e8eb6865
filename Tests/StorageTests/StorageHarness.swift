import Domain
import Glibc
import Logging
import PostgresDriver
import Storage
import TestSupport

/// A migrated database of a test's own with two tenants in it, and sessions of every role.
struct StorageHarness: Sendable {
    let url: String

    static let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }

    static func with<T: Sendable>(_ body: (StorageHarness) async throws -> T) async throws -> T {
        try await MigratedDatabase.withDatabase { url in
            try await PostgresServer.run(Seed.script, on: url)
            return try await body(StorageHarness(url: url))
        }
    }

    /// Runs SQL text, as the owner unless a role is named.
    func run(_ script: String, as role: String? = nil) async throws {
        try await onSession(role) { try $0.run(script: script) }
    }

    /// Asks a question, as the owner unless a role is named.
    func ask(_ question: String, as role: String? = nil, tenant: TenantID? = nil) async throws -> [String] {
        try await onSession(role) { session in
            guard let tenant else { return try session.execute(DatabaseQuestion(question)) }
            return try session.pipeline(
                PostgresLocalSetting("weir.tenant_id", tenant.description), DatabaseQuestion(question)
            ).1
        }
    }

    /// The SQLSTATE with which a script fails; `nil` when it does not.
    func sqlState(of script: String, as role: String? = nil) async throws -> String? {
        try await onSession(role) { session in
            do throws(PostgresError) {
                try session.run(script: script)
                return nil
            } catch {
                return error.sqlState
            }
        }
    }

    func onSession<T: Sendable>(
        _ role: String? = nil, _ body: @escaping @Sendable (PostgresSession) throws -> T
    ) async throws -> T {
        let configuration = try configuration(role)
        return try await PostgresThread(name: "test-session").run {
            let session = PostgresSession(configuration: configuration)
            try session.connect()
            defer { session.close() }
            return try body(session)
        }
    }

    /// Tests share two processors with much else, so nothing runs out of time unless a test wants it to.
    func configuration(_ role: String?, applicationName: String = "weir-test") throws -> PostgresConfiguration {
        try PostgresConfiguration(
            url: url, applicationName: applicationName, role: role, connectTimeoutMilliseconds: 60_000,
            answerTimeoutMilliseconds: 120_000)
    }

    /// Runs a body with a pool of a role, which is closed afterwards.
    func withPool<T: Sendable>(
        _ role: String, connections: Int = 4, _ body: (PostgresPool) async throws -> T
    ) async throws -> T {
        let pool = try PostgresPool(
            configuration: configuration(role),
            options: PostgresPool.Options(
                name: role, maximumConnections: connections, queueTimeoutMilliseconds: 120_000, maximumWaiters: 1_000),
            logger: Self.logger)
        let result: Result<T, any Error>
        do {
            result = .success(try await body(pool))
        } catch {
            result = .failure(error)
        }
        await pool.shutdown()
        return try result.get()
    }

    /// Runs a body with the lease store of a gateway.
    func withLeases<T: Sendable>(
        gateway: GatewayID = Seed.gateway, milliseconds: Int64 = 600_000, connections: Int = 4,
        _ body: (LeaseStore) async throws -> T
    ) async throws -> T {
        try await withPool("weir_writer", connections: connections) { pool in
            try await body(LeaseStore(pool: pool, gatewayID: gateway, leaseMilliseconds: milliseconds))
        }
    }

    /// Rolls up until all of the ledger is in. One call does not always get there: a transaction in any database of the server holds the
    /// watermark back, and the tests beside this one have some.
    func rollUpAll() async throws {
        try await eventually("all of it is rolled up") {
            _ = try await ask("SELECT roll_up_usage()", as: "weir_jobs")
            return try await ask(
                "SELECT (SELECT coalesce(sum(requests_count), 0) FROM usage) = (SELECT count(*) FROM ledger)") == [
                    "true"
                ]
        }
    }

    /// Writes settlements in one transaction, as a writer does it, and gives those that were refused.
    func settle(_ batch: [Settlement], gateway: GatewayID = Seed.gateway) async throws -> [RequestID] {
        try await onSession("weir_writer") { try SettlementText.write(batch, gateway: gateway, on: $0) }
    }
}

/// The clocks of this machine.
struct MachineTime: TimeSource {
    var now: Timestamp {
        var time = timespec()
        clock_gettime(CLOCK_REALTIME, &time)
        return Timestamp(microsecondsSince1970: Int64(time.tv_sec) * 1_000_000 + Int64(time.tv_nsec) / 1_000)
    }

    var monotonicNanoseconds: UInt64 {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
    }
}

/// Waited for something that did not come.
struct NeverHappened: Error, CustomStringConvertible {
    let description: String
}

/// Asks again and again until the answer is yes. The limit is for a broken program only, and generous.
func eventually(
    _ what: String, withinSeconds seconds: UInt64 = 60, _ condition: () async throws -> Bool
) async throws {
    let deadline = MachineTime().monotonicNanoseconds + seconds * 1_000_000_000
    while try await !condition() {
        guard MachineTime().monotonicNanoseconds < deadline else { throw NeverHappened(description: what) }
        try await Task.sleep(nanoseconds: 5_000_000)
    }
}

extension StorageHarness {
    /// What the database holds of a quota: settled and held.
    func numbers(of quota: QuotaID = Seed.tokensA) async throws -> [String] {
        try await ask("SELECT settled, held FROM quota_periods WHERE quota_id = '\(quota)'")
    }
}
