public import Domain
public import PostgresDriver

/// Customers' reads of their jobs, and what they may do to them.
public struct JobRecordStore: JobRecords {
    private let reader: PostgresPool
    private let writer: PostgresPool

    /// - Parameters:
    ///   - reader: connections of the role `weir_reader`; each read names its tenant.
    ///   - writer: connections of the role `weir_writer`.
    public init(reader: PostgresPool, writer: PostgresPool) {
        self.reader = reader
        self.writer = writer
    }

    public func job(_ id: RequestID, tenantID: TenantID) async throws(StoreUnavailable) -> JobReading {
        do throws(PostgresError) {
            let (_, rows, former) = try await reader.pipeline(
                ActAsTenant(tenantID: tenantID), ReadJob(id: id, tenantID: tenantID),
                FindFormerJob(id: id, tenantID: tenantID))
            if let row = rows.first ?? nil { return .job(row) }
            return former.isEmpty ? .unknown : .gone
        } catch {
            throw StoreUnavailable(error)
        }
    }

    public func cancel(_ id: RequestID, tenantID: TenantID) async throws(StoreUnavailable) -> CancelOutcome {
        guard try await rows(CancelJobs(tenantID: tenantID, ids: [id])).isEmpty else { return .cancelled }
        switch try await job(id, tenantID: tenantID) {
        case .job(let row):
            guard row.state == .failed else { return .ended(row.state) }
            return try await rows(ForgetDeadJob(tenantID: tenantID, id: id)).first == true ? .erased : .ended(.failed)
        case .gone: return .gone
        case .unknown: return .unknown
        }
    }

    public func cancel(batch: BatchID, tenantID: TenantID, limit: Int) async throws(StoreUnavailable) -> Int {
        try await rows(CancelBatchJobs(tenantID: tenantID, batchID: batch, limit: limit)).count
    }

    public func jobs(
        of batch: BatchID, tenantID: TenantID, after: RequestID?, limit: Int
    ) async throws(StoreUnavailable) -> [JobRow] {
        do throws(PostgresError) {
            return try await reader.pipeline(
                ActAsTenant(tenantID: tenantID),
                ReadBatchJobs(batchID: batch, tenantID: tenantID, after: after, limit: limit)
            ).1.compactMap { $0 }
        } catch {
            throw StoreUnavailable(error)
        }
    }

    public func counts(of batch: BatchID, tenantID: TenantID) async throws(StoreUnavailable) -> [JobState: Int64] {
        do throws(PostgresError) {
            let rows = try await reader.pipeline(
                ActAsTenant(tenantID: tenantID), CountBatchJobs(batchID: batch, tenantID: tenantID)
            ).1
            return Dictionary(rows.compactMap { row in row.state.map { ($0, row.jobs) } }) { first, _ in first }
        } catch {
            throw StoreUnavailable(error)
        }
    }

    public func ended(among ids: [RequestID]) async throws(StoreUnavailable) -> Set<RequestID> {
        Set(try await rows(FindEndedJobs(ids: ids)))
    }

    public func queuedCount(of tenantID: TenantID, bound: Int) async throws(StoreUnavailable) -> Int {
        Int(try await rows(CountQueuedJobs(tenantID: tenantID, bound: bound)).first ?? 0)
    }

    private func rows<S: PostgresStatement>(_ statement: S) async throws(StoreUnavailable) -> [S.Row] {
        do throws(PostgresError) {
            return try await writer.execute(statement)
        } catch {
            throw StoreUnavailable(error)
        }
    }
}
