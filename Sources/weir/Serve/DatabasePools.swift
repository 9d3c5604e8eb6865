import Logging
import PostgresDriver

/// The pools of connections of one process, one for each duty, so that a slow report cannot take a customer's connection and no session
/// ever has more rights than its work.
struct DatabasePools: Sendable {
    let directory: PostgresPool
    let writer: PostgresPool
    /// Apart from the leases', which must not wait behind many repeated requests.
    let claims: PostgresPool
    /// What a request reads of the cache's table: apart from what requests cannot do without, and given up soon.
    let cache: PostgresPool
    /// Jobs: submissions, claims and what ends them.
    let queue: PostgresPool
    let reader: PostgresPool
    /// What customers change of their own.
    let customer: PostgresPool
    let jobs: PostgresPool
    /// Apart from the other jobs': what became of each delivery is written with it.
    let webhooks: PostgresPool
    /// Apart from the other jobs': a backlog keeps it busy.
    let sealer: PostgresPool
    let admin: PostgresPool
    let reports: PostgresPool
    /// Streams of customers' usage, each of which holds a connection for as long as it is read.
    let ownExports: PostgresPool
    /// The same for operators.
    let exports: PostgresPool
    /// What jobs read to write exports in parts.
    let exportJobs: PostgresPool
    /// Apart from the other jobs', which may all wait for the same table as the rows of an export: its claim has to be renewed meanwhile.
    let exportClaims: PostgresPool

    /// - Throws: `PostgresError` for an unusable URL.
    init(settings: Settings, logger: Logger) throws {
        let url = settings.databaseURL ?? ""
        func pool(
            _ name: String, _ connections: Int, role: String? = nil, timeout: Int? = nil, answer: Int? = nil,
            waits: Int = 3_000,
            waiters: Int = 256
        ) throws -> PostgresPool {
            try PostgresPool(
                configuration: Self.configuration(
                    url: url, name: role ?? name, statementMilliseconds: timeout ?? settings.queryTimeoutMilliseconds,
                    answerMilliseconds: answer),
                options: PostgresPool.Options(
                    name: name, maximumConnections: connections,
                    queueTimeoutMilliseconds: min(settings.poolTimeoutMilliseconds, waits),
                    maximumWaiters: waiters, slowStatementMilliseconds: settings.slowQueryMilliseconds,
                    // Recovery within a few seconds of the database's return.
                    backoffMaximumMilliseconds: 1_000),
                logger: logger)
        }
        // Admission waits for directory and writer, so a silent database has to be noticed within a few seconds there.
        directory = try pool("directory", 4, timeout: 2_000)
        writer = try pool("writer", 4, timeout: 2_000)
        claims = try pool("claims", 4, role: "writer", timeout: 2_000, waiters: 10_000)
        cache = try pool("cache", 2, role: "writer", timeout: 200, answer: 300, waits: 200, waiters: 32)
        queue = try pool("queue", 4, role: "writer", timeout: 5_000, waiters: 1_024)
        reader = try pool("reader", min(settings.poolSize + settings.poolOverflow, 8))
        customer = try pool("customer", 2, timeout: 5_000)
        jobs = try pool("jobs", 2)
        webhooks = try pool("webhooks", 2, role: "jobs", timeout: 5_000, waits: 10_000, waiters: 1_000)
        sealer = try pool("sealer", 2, role: "jobs", waits: 10_000)
        admin = try pool("admin", 4)
        reports = try pool("reports", 2)
        let exportMilliseconds = settings.exports.seconds * 1_000
        ownExports = try pool("own_exports", settings.exports.streams, role: "reader", timeout: exportMilliseconds)
        exports = try pool("exports", settings.exports.streams, role: "reports", timeout: exportMilliseconds)
        exportJobs = try pool("export_jobs", 2, role: "reports", timeout: exportMilliseconds)
        exportClaims = try pool("export_claims", 2, role: "jobs")
    }

    var all: [PostgresPool] {
        [
            directory, writer, claims, cache, queue, reader, customer, jobs, webhooks, sealer, admin, reports,
            ownExports,
            exports, exportJobs, exportClaims,
        ]
    }

    /// A session of the role `weir_<name>`, with every timeout set.
    /// - Parameter answerMilliseconds: after which a silent connection is given up; a second more than a statement may take where it is `nil`.
    static func configuration(
        url: String, name: String, statementMilliseconds: Int, answerMilliseconds: Int? = nil
    ) throws -> PostgresConfiguration {
        try PostgresConfiguration(
            url: url, applicationName: "weir-\(name)", role: "weir_\(name)",
            statementTimeoutMilliseconds: statementMilliseconds,
            lockTimeoutMilliseconds: statementMilliseconds, idleInTransactionTimeoutMilliseconds: 10_000,
            connectTimeoutMilliseconds: 2_000,
            answerTimeoutMilliseconds: answerMilliseconds ?? statementMilliseconds + 1_000)
    }
}
