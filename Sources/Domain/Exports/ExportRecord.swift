extension Entity {
    public enum Export {}
}

/// An export that is written to parts.
public typealias ExportID = Identifier<Entity.Export>

extension Identifier where Kind == Entity.Export {
    /// The form operators see: `exp_` and the usual form of the UUID.
    public var publicText: String { "exp_\(self)" }

    /// Reads the public form.
    public init?(publicText: some StringProtocol) {
        guard publicText.hasPrefix("exp_") else { return nil }
        self.init(publicText.dropFirst(4))
    }
}

/// What an operator asks to be written.
public struct NewExport: Sendable {
    public enum Window: Sendable {
        case query(ExportQuery)
        /// Everything that was written since the last one of the same tenant and format.
        /// - Parameter after: the `next` of an export before it, for a reader who keeps that itself; then it begins there instead.
        case incremental(tenantID: TenantID?, format: ExportFormat, after: UInt64?)
    }

    public let window: Window
    /// Rows of a part.
    public let partRows: Int32

    public init(window: Window, partRows: Int32) {
        self.window = window
        self.partRows = partRows
    }
}

/// An export as lists show it.
public struct ExportRecord: Sendable {
    public enum State: String, Sendable, CaseIterable {
        case queued, running, completed, failed, cancelled
    }

    public let id: ExportID
    public let query: ExportQuery
    public let isIncremental: Bool
    public let state: State
    /// The transaction at which an incremental one that follows this one begins.
    public let nextPosition: UInt64
    public let parts: Int32
    public let rowCount: Int64
    public let byteCount: Int64
    public let error: String?
    public let createdBy: String
    public let createdAt: Timestamp
    public let startedAt: Timestamp?
    public let finishedAt: Timestamp?
    /// From then on its parts are gone.
    public let expiresAt: Timestamp?

    public init(
        id: ExportID, query: ExportQuery, isIncremental: Bool, state: State, nextPosition: UInt64, parts: Int32,
        rowCount: Int64,
        byteCount: Int64, error: String?, createdBy: String, createdAt: Timestamp, startedAt: Timestamp?,
        finishedAt: Timestamp?, expiresAt: Timestamp?
    ) {
        self.id = id
        self.query = query
        self.isIncremental = isIncremental
        self.state = state
        self.nextPosition = nextPosition
        self.parts = parts
        self.rowCount = rowCount
        self.byteCount = byteCount
        self.error = error
        self.createdBy = createdBy
        self.createdAt = createdAt
        self.startedAt = startedAt
        self.finishedAt = finishedAt
        self.expiresAt = expiresAt
    }
}

/// One whole part of an export.
public struct ExportPart: Sendable {
    public let part: Int32
    /// Which attempt's pieces it is made of.
    public let attempt: Int32
    public let pieces: Int32
    public let byteCount: Int64
    public let sha256: [UInt8]

    public init(part: Int32, attempt: Int32, pieces: Int32, byteCount: Int64, sha256: [UInt8]) {
        self.part = part
        self.attempt = attempt
        self.pieces = pieces
        self.byteCount = byteCount
        self.sha256 = sha256
    }
}

/// An export in the hands of a process that writes it.
public struct ClaimedExport: Sendable {
    public let id: ExportID
    public let query: ExportQuery
    public let isIncremental: Bool
    /// The transactions whose entries belong to it: `from <= tx < to`.
    public let fromPosition: UInt64
    public let toPosition: UInt64
    public let partRows: Int32
    /// The fence.
    public let attempt: Int32
    /// Whole parts that are there.
    public var parts: Int32
    /// The last entry of the last whole part.
    public var reached: RequestID

    public init(
        id: ExportID, query: ExportQuery, isIncremental: Bool, fromPosition: UInt64, toPosition: UInt64,
        partRows: Int32, attempt: Int32, parts: Int32, reached: RequestID
    ) {
        self.id = id
        self.query = query
        self.isIncremental = isIncremental
        self.fromPosition = fromPosition
        self.toPosition = toPosition
        self.partRows = partRows
        self.attempt = attempt
        self.parts = parts
        self.reached = reached
    }
}
