extension Entity {
    public enum File {}
}

/// A file of a tenant.
public typealias FileID = Identifier<Entity.File>

extension Identifier where Kind == Entity.File {
    /// The form customers see: `file-` and the usual form of the UUID.
    public var publicText: String { "file-\(self)" }

    /// Reads the public form.
    public init?(publicText: some StringProtocol) {
        guard publicText.hasPrefix("file-") else { return nil }
        self.init(publicText.dropFirst(5))
    }
}

extension Identifier where Kind == Entity.Batch {
    /// The form customers see: `batch_` and the usual form of the UUID.
    public var publicText: String { "batch_\(self)" }

    /// Reads the public form.
    public init?(publicText: some StringProtocol) {
        guard publicText.hasPrefix("batch_") else { return nil }
        self.init(publicText.dropFirst(6))
    }
}

/// A file that is complete, without its content.
public struct StoredFile: Sendable {
    public let id: FileID
    public let purpose: String
    public let filename: String
    public let byteCount: Int64
    public let createdAt: Timestamp
    public let expiresAt: Timestamp

    public init(
        id: FileID, purpose: String, filename: String, byteCount: Int64, createdAt: Timestamp, expiresAt: Timestamp
    ) {
        self.id = id
        self.purpose = purpose
        self.filename = filename
        self.byteCount = byteCount
        self.createdAt = createdAt
        self.expiresAt = expiresAt
    }
}
