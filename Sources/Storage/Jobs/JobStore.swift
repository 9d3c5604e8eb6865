public import Domain
public import PostgresDriver

/// The queue of jobs in PostgreSQL.
public struct JobStore: JobQueue {
    private let pool: PostgresPool
    private let gatewayID: GatewayID
    private let leaseMilliseconds: Int64

    /// - Parameters:
    ///   - pool: connections of the role `weir_writer`.
    ///   - leaseMilliseconds: how long a claimed job is this process's without renewal.
    public init(pool: PostgresPool, gatewayID: GatewayID, leaseMilliseconds: Int64) {
        self.pool = pool
        self.gatewayID = gatewayID
        self.leaseMilliseconds = leaseMilliseconds
    }

    public func claim(limit: Int, after tenant: TenantID) async throws(StoreUnavailable) -> JobClaim {
        let rows = try await rows(
            ClaimJobs(gatewayID: gatewayID, limit: limit, leaseMilliseconds: leaseMilliseconds, after: tenant))
        return JobClaim(jobs: rows.compactMap(\.job), goOnAfter: rows.last?.goOnAfter ?? tenant)
    }

    public func renew(_ attempts: [JobAttempt]) async throws(StoreUnavailable) -> Set<JobAttempt> {
        let held = try await rows(RenewJobs(attempts: attempts, leaseMilliseconds: leaseMilliseconds))
        return Set(attempts).subtracting(held)
    }

    public func giveBack(_ returns: [JobReturn]) async throws(StoreUnavailable) -> Set<JobAttempt> {
        Set(try await rows(ReturnJobs(returns: returns)))
    }

    public func recover(limit: Int, backoff: JobBackoff) async throws(StoreUnavailable) -> JobRecovery {
        try await rows(RecoverJobs(limit: limit, backoff: backoff)).first ?? JobRecovery(returned: 0, dead: 0)
    }

    private func rows<S: PostgresStatement>(_ statement: S) async throws(StoreUnavailable) -> [S.Row] {
        do throws(PostgresError) {
            return try await pool.execute(statement)
        } catch {
            throw StoreUnavailable(error)
        }
    }
}
