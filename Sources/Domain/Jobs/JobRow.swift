/// A job as its owner sees it.
public struct JobRow: Sendable {
    public let id: RequestID
    public let batchID: BatchID?
    public let customID: String?
    public let operation: String
    public let model: String
    public let state: JobState
    public let priority: Int16
    public let attempt: Int32
    public let httpStatus: Int16?
    public let errorCode: String?
    public let createdAt: Timestamp
    public let runAt: Timestamp
    public let startedAt: Timestamp?
    public let endedAt: Timestamp?
    /// When what is kept of it goes.
    public let expiresAt: Timestamp?
    /// Of a completed one.
    public let answer: [UInt8]?

    public init(
        id: RequestID, batchID: BatchID?, customID: String?, operation: String, model: String, state: JobState,
        priority: Int16, attempt: Int32, httpStatus: Int16?, errorCode: String?, createdAt: Timestamp, runAt: Timestamp,
        startedAt: Timestamp?, endedAt: Timestamp?, expiresAt: Timestamp?, answer: [UInt8]?
    ) {
        self.id = id
        self.batchID = batchID
        self.customID = customID
        self.operation = operation
        self.model = model
        self.state = state
        self.priority = priority
        self.attempt = attempt
        self.httpStatus = httpStatus
        self.errorCode = errorCode
        self.createdAt = createdAt
        self.runAt = runAt
        self.startedAt = startedAt
        self.endedAt = endedAt
        self.expiresAt = expiresAt
        self.answer = answer
    }
}

/// What a look for a job finds.
public enum JobReading: Sendable {
    case job(JobRow)
    /// There was one; what was kept of it is gone.
    case gone
    /// No job of this tenant's.
    case unknown
}

/// What an attempt to cancel came to.
public enum CancelOutcome: Sendable {
    case cancelled
    /// It had ended before, one way or the other.
    case ended(JobState)
    /// It was dead, and what it would have needed to run again is gone.
    case erased
    case gone
    case unknown
}

/// What an operator sees of the queue of one tenant.
public struct QueueDepth: Sendable {
    public let tenantID: TenantID
    public let ready: Int64
    /// Put off, by their callers or after a failed attempt.
    public let waiting: Int64
    public let processing: Int64
    /// When the oldest ready one was submitted.
    public let oldestReadyAt: Timestamp?

    public init(tenantID: TenantID, ready: Int64, waiting: Int64, processing: Int64, oldestReadyAt: Timestamp?) {
        self.tenantID = tenantID
        self.ready = ready
        self.waiting = waiting
        self.processing = processing
        self.oldestReadyAt = oldestReadyAt
    }
}

/// A job whose attempts are used up; nothing of what its customer sent.
public struct DeadJob: Sendable {
    public let id: RequestID
    public let tenantID: TenantID
    public let model: String
    public let operation: String
    public let attempt: Int32
    public let errorCode: String
    public let errorDetail: String
    public let createdAt: Timestamp
    public let endedAt: Timestamp
    public let expiresAt: Timestamp

    public init(
        id: RequestID, tenantID: TenantID, model: String, operation: String, attempt: Int32, errorCode: String,
        errorDetail: String, createdAt: Timestamp, endedAt: Timestamp, expiresAt: Timestamp
    ) {
        self.id = id
        self.tenantID = tenantID
        self.model = model
        self.operation = operation
        self.attempt = attempt
        self.errorCode = errorCode
        self.errorDetail = errorDetail
        self.createdAt = createdAt
        self.endedAt = endedAt
        self.expiresAt = expiresAt
    }
}
