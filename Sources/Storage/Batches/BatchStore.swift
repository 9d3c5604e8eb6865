public import Domain
public import PostgresDriver

/// A tenant's batches in PostgreSQL. Each call is one transaction with the tenant set.
public struct BatchStore: BatchRecords {
    private let pool: PostgresPool
    private let time: any TimeSource

    /// - Parameter pool: connections of the role `weir_customer`.
    public init(pool: PostgresPool, time: any TimeSource) {
        self.pool = pool
        self.time = time
    }

    public func add(_ batch: NewBatch, limit: Int) async throws(StoreUnavailable) -> BatchAddition {
        var random = SystemRandomNumberGenerator()
        let id = BatchID(at: time.now, using: &random)
        do throws(PostgresError) {
            let (_, _, open, added) = try await pool.pipeline(
                ActAsTenant(tenantID: batch.tenantID), LockBatchesOfTenant(tenantID: batch.tenantID),
                CountOpenBatches(tenantID: batch.tenantID), InsertBatch(id: id, batch: batch, limit: Int64(limit)))
            if let batch = added.first { return .added(batch) }
            return (open.first ?? 0) >= Int64(limit) ? .tooMany : .noSuchFile
        } catch {
            throw StoreUnavailable(error)
        }
    }

    public func batch(_ id: BatchID, tenantID: TenantID) async throws(StoreUnavailable) -> Batch? {
        try await run(ReadBatches(tenantID: tenantID, only: id, limit: 1), as: tenantID).first
    }

    public func batches(tenantID: TenantID, after: BatchID?, limit: Int) async throws(StoreUnavailable) -> [Batch] {
        try await run(ReadBatches(tenantID: tenantID, after: after, limit: Int64(limit)), as: tenantID)
    }

    public func cancel(_ id: BatchID, tenantID: TenantID) async throws(StoreUnavailable) -> Batch? {
        do throws(PostgresError) {
            return try await pool.pipeline(
                ActAsTenant(tenantID: tenantID), CancelBatch(id: id, tenantID: tenantID),
                ReadBatches(tenantID: tenantID, only: id, limit: 1)
            ).2.first
        } catch {
            throw StoreUnavailable(error)
        }
    }

    private func run<S: PostgresStatement>(_ statement: S, as tenantID: TenantID) async throws(StoreUnavailable) -> [S
        .Row]
    {
        do throws(PostgresError) {
            return try await pool.pipeline(ActAsTenant(tenantID: tenantID), statement).1
        } catch {
            throw StoreUnavailable(error)
        }
    }
}
