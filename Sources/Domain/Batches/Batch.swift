/// The lines of a file, run as jobs.
public struct Batch: Sendable {
    /// As the OpenAI API names them.
    public enum State: String, Sendable {
        case validating, failed, finalizing, completed, expired, cancelling, cancelled
        case inProgress = "in_progress"

        public var isEnded: Bool {
            switch self {
            case .failed, .completed, .expired, .cancelled: true
            case .validating, .inProgress, .finalizing, .cancelling: false
            }
        }
    }

    /// When it came to each of its states.
    public struct Times: Sendable {
        public var createdAt: Timestamp
        public var expiresAt: Timestamp
        public var inProgressAt: Timestamp?
        public var finalizingAt: Timestamp?
        public var completedAt: Timestamp?
        public var failedAt: Timestamp?
        public var expiredAt: Timestamp?
        public var cancellingAt: Timestamp?
        public var cancelledAt: Timestamp?

        public init(createdAt: Timestamp, expiresAt: Timestamp) {
            self.createdAt = createdAt
            self.expiresAt = expiresAt
        }
    }

    public let id: BatchID
    public let endpoint: String
    public let inputFileID: FileID
    public let outputFileID: FileID?
    public let errorFileID: FileID?
    /// A JSON object of strings.
    public let metadata: String
    public let state: State
    /// A JSON array, for one whose input is wrong.
    public let errors: String?
    public let total: Int32
    public let completed: Int32
    public let failed: Int32
    public let inputTokens: Int64
    public let cachedTokens: Int64
    public let outputTokens: Int64
    public let times: Times

    public init(
        id: BatchID, endpoint: String, inputFileID: FileID, outputFileID: FileID?, errorFileID: FileID?,
        metadata: String, state: State, errors: String?, total: Int32, completed: Int32, failed: Int32,
        inputTokens: Int64, cachedTokens: Int64, outputTokens: Int64, times: Times
    ) {
        self.id = id
        self.endpoint = endpoint
        self.inputFileID = inputFileID
        self.outputFileID = outputFileID
        self.errorFileID = errorFileID
        self.metadata = metadata
        self.state = state
        self.errors = errors
        self.total = total
        self.completed = completed
        self.failed = failed
        self.inputTokens = inputTokens
        self.cachedTokens = cachedTokens
        self.outputTokens = outputTokens
        self.times = times
    }
}

/// A line of a batch's input that became no job.
public struct SkippedLine: Sendable, Equatable {
    /// The job that it would have become.
    public let jobID: RequestID
    /// The line of the error file that says so, with its end.
    public let text: String

    public init(jobID: RequestID, text: String) {
        self.jobID = jobID
        self.text = text
    }
}

/// A batch that this process may work on until its claim runs out.
public struct ClaimedBatch: Sendable {
    public let id: BatchID
    public let tenantID: TenantID
    public let userID: UserID?
    public let keyID: KeyID
    public let endpoint: String
    public let state: Batch.State
    public let total: Int32
    /// Lines that were read for submission.
    public let readLines: Int32
    public let place: InputPlace
    /// Of the lines that were read, those that became no job.
    public let skipped: Int32
    public let collected: Int32
    public let createdAt: Timestamp
    public let expiresAt: Timestamp
    /// The fence.
    public let claim: Int32

    public init(
        id: BatchID, tenantID: TenantID, userID: UserID?, keyID: KeyID, endpoint: String, state: Batch.State,
        total: Int32, readLines: Int32, place: InputPlace, skipped: Int32, collected: Int32, createdAt: Timestamp,
        expiresAt: Timestamp, claim: Int32
    ) {
        self.id = id
        self.tenantID = tenantID
        self.userID = userID
        self.keyID = keyID
        self.endpoint = endpoint
        self.state = state
        self.total = total
        self.readLines = readLines
        self.place = place
        self.skipped = skipped
        self.collected = collected
        self.createdAt = createdAt
        self.expiresAt = expiresAt
        self.claim = claim
    }

    /// The job of a line: the same whoever submits it and however often, so that a line that is submitted again is the same job. In the order of
    /// the lines.
    public func jobID(line: Int32) -> RequestID {
        let milliseconds = UInt64(clamping: createdAt.microsecondsSince1970 / 1_000) & 0xFFFF_FFFF_FFFF
        // What is random in the batch's id, and the number of the line behind it.
        return RequestID(
            high: milliseconds << 16 | 0x7000 | id.high & 0x0FFF,
            low: 0x8000_0000_0000_0000 | (id.low & 0x3FFF_FFFF) << 32 | UInt64(UInt32(bitPattern: line)))
    }
}

/// A byte of a file that is kept in pieces.
public struct InputPlace: Hashable, Sendable {
    public var position: Int32
    public var offset: Int32

    public init(position: Int32 = 0, offset: Int32 = 0) {
        self.position = position
        self.offset = offset
    }
}
