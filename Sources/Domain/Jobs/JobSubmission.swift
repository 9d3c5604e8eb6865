/// A job as it is put into the queue. An immutable object, because it passes through a queue and perhaps a second sending.
public final class JobSubmission: Sendable {
    /// A queued job's own wishes.
    public struct Schedule: Sendable, Equatable {
        public static let priorities: ClosedRange<Int16> = 0...9
        public static let standardPriority: Int16 = 5

        /// 9 first; decides among the jobs of one tenant alone.
        public var priority: Int16
        /// Not before; `nil` is at once.
        public var runAt: Timestamp?

        public init(priority: Int16 = standardPriority, runAt: Timestamp? = nil) {
            self.priority = priority
            self.runAt = runAt
        }
    }

    /// The request's id, and that of its ledger entry.
    public let jobID: RequestID
    public let tenantID: TenantID
    public let userID: UserID?
    public let keyID: KeyID
    /// The operation of the surface that reads the payload.
    public let operation: String
    /// For people and reports; an attempt resolves the model anew.
    public let model: String
    /// Model and version where the surface has them in its path.
    public let pathModel: String?
    public let pathVersion: String?
    public let payload: [UInt8]
    /// Lines of the request's head that go along: about the cache, and `traceparent`.
    public let headFields: String
    public let schedule: Schedule
    /// The most tokens that it can be charged.
    public let estimatedTokens: Int64
    public let createdAt: Timestamp
    /// How long after it may run a job that no attempt has ended expires.
    public let lifetimeMilliseconds: Int64
    public let batchID: BatchID?
    /// The claim under which the batch's keeper submits: the job is queued only while it holds and the batch runs.
    public let batchClaim: Int32?
    /// The caller's own name for it, up to 512 characters.
    public let customID: String?
    /// The answer to keep under the caller's idempotency key, where the submission has one.
    public let answer: ClaimedAnswer?

    public init(
        jobID: RequestID, tenantID: TenantID, userID: UserID?, keyID: KeyID, operation: String, model: String,
        pathModel: String? = nil, pathVersion: String? = nil, payload: [UInt8], headFields: String = "",
        schedule: Schedule = Schedule(), estimatedTokens: Int64, createdAt: Timestamp,
        lifetimeMilliseconds: Int64 = standardLifetimeMilliseconds, batchID: BatchID? = nil, batchClaim: Int32? = nil,
        customID: String? = nil, answer: ClaimedAnswer? = nil
    ) {
        self.jobID = jobID
        self.tenantID = tenantID
        self.userID = userID
        self.keyID = keyID
        self.operation = operation
        self.model = model
        self.pathModel = pathModel
        self.pathVersion = pathVersion
        self.payload = payload
        self.headFields = headFields
        self.schedule = schedule
        self.estimatedTokens = estimatedTokens
        self.createdAt = createdAt
        self.lifetimeMilliseconds = lifetimeMilliseconds
        self.batchID = batchID
        self.batchClaim = batchClaim
        self.customID = customID
        self.answer = answer
    }

    /// A day.
    public static let standardLifetimeMilliseconds: Int64 = 86_400_000
    /// The furthest ahead that a job may be put off: a week. The roll-up's rebuilding counts on it.
    public static let delayLimitMilliseconds: Int64 = 7 * 86_400_000
}

/// What became of a submission.
public enum SubmissionResult: Sendable, Equatable {
    /// Committed: the job will run.
    case queued
    /// Another attempt has taken the idempotency key over, or another keeper the batch, or the batch does not run any more; nothing was queued.
    case claimLost
    /// The database refused this one job although its neighbours were written.
    case rejected
    /// The database cannot be reached: nothing was queued, or whether it was is not known when `isUnknown`.
    case unavailable(isUnknown: Bool)
    /// More submissions wait than the bound allows.
    case overloaded
}
