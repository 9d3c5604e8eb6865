public import Domain
public import PostgresDriver

/// A tenant's files in PostgreSQL, in pieces. Each call is one transaction with the tenant set.
public struct FileStore: FileRecords {
    private let pool: PostgresPool
    private let time: any TimeSource

    /// - Parameter pool: connections of the role `weir_customer`.
    public init(pool: PostgresPool, time: any TimeSource) {
        self.pool = pool
        self.time = time
    }

    public func begin(filename: String, tenantID: TenantID, limit: Int) async throws(StoreUnavailable) -> FileID? {
        var random = SystemRandomNumberGenerator()
        let id = FileID(at: time.now, using: &random)
        let statement = BeginFile(id: id, tenantID: tenantID, filename: filename, limit: Int32(clamping: limit))
        return try await run(statement, as: tenantID).first == true ? id : nil
    }

    public func append(
        _ content: [UInt8], to id: FileID, position: Int32, tenantID: TenantID, tenantLimit: Int64
    ) async throws(StoreUnavailable) -> FileAppending {
        let answer = try await run(
            AppendToFile(
                id: id, tenantID: tenantID, position: position, content: content, tenantLimit: tenantLimit),
            as: tenantID
        ).first
        return answer.flatMap { FileAppending(rawValue: $0) } ?? .unknown
    }

    public func complete(_ id: FileID, tenantID: TenantID) async throws(StoreUnavailable) -> StoredFile? {
        try await run(CompleteFile(id: id, tenantID: tenantID), as: tenantID).first
    }

    public func abandon(_ id: FileID, tenantID: TenantID) async throws(StoreUnavailable) {
        _ = try await run(RemoveFile(id: id, tenantID: tenantID), as: tenantID)
    }

    public func files(tenantID: TenantID, purpose: String?, after: FileID?, limit: Int) async throws(StoreUnavailable)
        -> [StoredFile]
    {
        try await run(
            ReadFiles(tenantID: tenantID, after: after, purpose: purpose, limit: Int64(limit)), as: tenantID)
    }

    public func file(_ id: FileID, tenantID: TenantID) async throws(StoreUnavailable) -> StoredFile? {
        try await run(ReadFile(id: id, tenantID: tenantID), as: tenantID).first
    }

    public func piece(_ position: Int32, of id: FileID, tenantID: TenantID) async throws(StoreUnavailable) -> [UInt8]? {
        try await run(ReadFilePiece(id: id, tenantID: tenantID, position: position), as: tenantID).first
    }

    public func remove(_ id: FileID, tenantID: TenantID) async throws(StoreUnavailable) -> FileRemoval {
        do throws(PostgresError) {
            let (_, before, removed) = try await pool.pipeline(
                ActAsTenant(tenantID: tenantID), ReadFile(id: id, tenantID: tenantID),
                RemoveFile(id: id, tenantID: tenantID))
            if before.isEmpty { return .unknown }
            return removed.isEmpty ? .inUse : .removed
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
