/// A tenant's files. A file of another tenant is as good as none.
public protocol FileRecords: Sendable {
    /// Begins an upload, which nobody sees until it is complete.
    /// - Returns: `nil` where the tenant has `limit` files, those of uploads under way included.
    func begin(filename: String, tenantID: TenantID, limit: Int) async throws(StoreUnavailable) -> FileID?
    /// Adds a piece of an upload. `tenantLimit` bounds the bytes of all files of the tenant, however many uploads are under way.
    func append(_ content: [UInt8], to id: FileID, position: Int32, tenantID: TenantID, tenantLimit: Int64)
        async throws(StoreUnavailable) -> FileAppending
    /// - Returns: `nil` where the upload is gone.
    func complete(_ id: FileID, tenantID: TenantID) async throws(StoreUnavailable) -> StoredFile?
    func abandon(_ id: FileID, tenantID: TenantID) async throws(StoreUnavailable)
    /// Newest first.
    func files(tenantID: TenantID, purpose: String?, after: FileID?, limit: Int) async throws(StoreUnavailable)
        -> [StoredFile]
    func file(_ id: FileID, tenantID: TenantID) async throws(StoreUnavailable) -> StoredFile?
    /// A piece of a complete file; `nil` behind the last one.
    func piece(_ position: Int32, of id: FileID, tenantID: TenantID) async throws(StoreUnavailable) -> [UInt8]?
    func remove(_ id: FileID, tenantID: TenantID) async throws(StoreUnavailable) -> FileRemoval
}

public enum FileAppending: String, Sendable {
    case kept, unknown
    /// The tenant's files are as large as they may be.
    case full
}

public enum FileRemoval: Sendable {
    case removed, unknown
    /// A batch that has not ended reads it.
    case inUse
}

/// A tenant's batches. One of another tenant is as good as none.
public protocol BatchRecords: Sendable {
    /// - Parameter limit: how many of a tenant may be unended.
    func add(_ batch: NewBatch, limit: Int) async throws(StoreUnavailable) -> BatchAddition
    func batch(_ id: BatchID, tenantID: TenantID) async throws(StoreUnavailable) -> Batch?
    /// Newest first.
    func batches(tenantID: TenantID, after: BatchID?, limit: Int) async throws(StoreUnavailable) -> [Batch]
    /// Asks for the end of a batch; one that has ended stays as it is.
    func cancel(_ id: BatchID, tenantID: TenantID) async throws(StoreUnavailable) -> Batch?
}

public struct NewBatch: Sendable {
    public let tenantID: TenantID
    public let userID: UserID?
    public let keyID: KeyID
    public let endpoint: String
    public let inputFileID: FileID
    /// A JSON object of strings.
    public let metadata: String

    public init(
        tenantID: TenantID, userID: UserID?, keyID: KeyID, endpoint: String, inputFileID: FileID, metadata: String
    ) {
        self.tenantID = tenantID
        self.userID = userID
        self.keyID = keyID
        self.endpoint = endpoint
        self.inputFileID = inputFileID
        self.metadata = metadata
    }
}

public enum BatchAddition: Sendable {
    case added(Batch)
    case noSuchFile
    case tooMany
}

/// Batches as those who run them use them. Every verb is one transaction; those that name a claim change nothing where it is lost.
public protocol BatchQueue: Sendable {
    func claim(leaseMilliseconds: Int64) async throws(StoreUnavailable) -> ClaimedBatch?
    /// Keeps a claim for so long.
    /// - Returns: the state as it is now; `nil` where the claim is lost.
    func hold(_ batch: ClaimedBatch, leaseMilliseconds: Int64) async throws(StoreUnavailable) -> Batch.State?
    /// A piece of the input; `nil` behind the last one.
    func piece(_ position: Int32, of batch: BatchID) async throws(StoreUnavailable) -> [UInt8]?
    /// - Parameter errors: a JSON array; `nil` lets the batch run.
    func finishValidation(_ batch: ClaimedBatch, total: Int32, errors: String?) async throws(StoreUnavailable) -> Bool
    /// Notes that lines up to a place were read.
    /// - Parameter skipped: those of them that the caller made no job of. Where there is a job all the same, because a former holder of the
    ///   claim made it, the line is not counted and its text not written.
    func noteReading(_ batch: ClaimedBatch, lines: Int32, place: InputPlace, skipped: [SkippedLine])
        async throws(StoreUnavailable) -> Bool
    /// Writes the ends of jobs into the files, and ends the batch with the last.
    /// - Returns: how many; `nil` where the claim is lost.
    func collect(_ batch: ClaimedBatch, limit: Int) async throws(StoreUnavailable) -> Int?
    /// Removes files that are past their end.
    func removeExpiredFiles(limit: Int) async throws(StoreUnavailable) -> Int
}
