public import Domain
public import PostgresDriver

/// Notes what gateways saw of their queues.
public struct QueueDepthStore: QueueJournal {
    private let pool: PostgresPool

    /// - Parameter pool: connections of the role `weir_writer`.
    public init(pool: PostgresPool) { self.pool = pool }

    public func note(_ depths: [String: Int64], inBucketAt start: Timestamp) async throws(StoreUnavailable) {
        do throws(PostgresError) {
            _ = try await pool.execute(NoteQueueDepths(bucket: start, depths: Array(depths)))
        } catch {
            throw StoreUnavailable(error)
        }
    }
}
