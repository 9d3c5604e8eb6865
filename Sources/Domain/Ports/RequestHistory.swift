/// Which requests are asked for. A filter that is `nil` lets all pass.
public struct RequestQuery: Sendable {
    public let tenantID: TenantID
    /// 1 to 100, and one more to know whether there is more.
    public let limit: Int
    /// Only requests older than this one.
    public let after: RequestID?
    /// Only requests newer than this one; the page is then the nearest to it.
    public let before: RequestID?
    public let status: String?
    public let model: String?
    public var version: String?
    public var errorCode: String?
    public var keyID: KeyID?
    public var userID: UserID?
    public var operation: String?
    public var isCached: Bool?
    /// Only requests that came at or after it.
    public var start: Timestamp?
    /// Only requests that came before it.
    public var end: Timestamp?

    public init(
        tenantID: TenantID, limit: Int, after: RequestID? = nil, before: RequestID? = nil, status: String? = nil,
        model: String? = nil
    ) {
        self.tenantID = tenantID
        self.limit = limit
        self.after = after
        self.before = before
        self.status = status
        self.model = model
    }
}

public struct RequestPage: Sendable {
    /// Newest first.
    public let rows: [RequestRow]
    /// Where the page stopped because it had read as much as a page may, without having found as much as was asked for. It goes on there.
    public let stoppedAt: RequestID?

    public init(rows: [RequestRow], stoppedAt: RequestID? = nil) {
        self.rows = rows
        self.stoppedAt = stoppedAt
    }
}

/// One request with what is kept of it.
public struct RequestDetail: Sendable {
    public let row: RequestRow
    public let prompt: String?
    /// SHA-256.
    public let promptDigest: [UInt8]?
    public let result: ResultState

    public init(row: RequestRow, prompt: String?, promptDigest: [UInt8]?, result: ResultState) {
        self.row = row
        self.prompt = prompt
        self.promptDigest = promptDigest
        self.result = result
    }
}

/// What there is of a request's result.
public enum ResultState: Sendable, Equatable {
    /// Nothing was kept, or there is none yet.
    case none
    /// SHA-256; no more was kept.
    case digest([UInt8])
    /// It was kept, for as long as it had to be.
    case gone
    case kept(Kept)

    public struct Kept: Sendable, Equatable {
        public let mediaType: String
        public let byteCount: Int
        /// SHA-256.
        public let digest: [UInt8]
        public let expiresAt: Timestamp

        public init(mediaType: String, byteCount: Int, digest: [UInt8], expiresAt: Timestamp) {
            self.mediaType = mediaType
            self.byteCount = byteCount
            self.digest = digest
            self.expiresAt = expiresAt
        }
    }
}
