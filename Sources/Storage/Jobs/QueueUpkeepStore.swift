public import Domain
public import PostgresDriver

/// The upkeep of the queue, one statement for each verb.
public struct QueueUpkeepStore: QueueUpkeep {
    private let pool: PostgresPool

    /// - Parameter pool: connections of the role `weir_jobs`.
    public init(pool: PostgresPool) { self.pool = pool }

    public func removeExpiredJobs(limit: Int) async throws(StoreUnavailable) -> Int {
        Int(try await rows(RemoveExpiredJobs(limit: Int32(clamping: limit))).first ?? 0)
    }

    public func depths() async throws(StoreUnavailable) -> [QueueDepth] { try await rows(ReadQueueDepths()) }

    public func deadCount() async throws(StoreUnavailable) -> Int64 { try await rows(CountDeadJobs()).first ?? 0 }

    private func rows<S: PostgresStatement>(_ statement: S) async throws(StoreUnavailable) -> [S.Row] {
        do throws(PostgresError) {
            return try await pool.execute(statement)
        } catch {
            throw StoreUnavailable(error)
        }
    }
}
