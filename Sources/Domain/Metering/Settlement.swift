/// Everything that is written durably about one finished request, in one transaction, before its answer leaves.
///
/// An immutable object: it passes through a queue, a batch and perhaps a second sending, and a copy of the structure would count every
/// one of its texts.
public final class Settlement: Sendable {
    public enum Outcome: String, Sendable {
        case completed
        case failed
    }

    public let requestID: RequestID
    public let tenantID: TenantID
    public let userID: UserID?
    public let keyID: KeyID
    public let model: String
    public let modelVersion: String
    public let outcome: Outcome
    public let httpStatus: Int16
    /// The stable code of the failure, `nil` when completed.
    public let errorCode: String?
    public let createdAt: Timestamp
    public let completedAt: Timestamp
    public let processingMicroseconds: Int64
    /// What was held at admission.
    public let estimatedTokens: Int64
    public let usage: Usage
    /// 1 where the request itself is charged, else 0: of a hit of the cache where the tier says so, and of nearly all that failed.
    public let chargedRequests: Int64
    public let tierVersionID: TierVersionID
    /// The lease that the usage is spent on; `nil` for a request that costs nothing. A settlement on a lease that is no longer open is
    /// refused.
    public let leaseID: LeaseID?
    /// What the tenant lets us keep, already cut to its retention.
    public let prompt: [UInt8]?
    /// SHA-256 of the prompt, where the tenant lets us keep no more.
    public let promptDigest: [UInt8]?
    public let result: [UInt8]?
    /// SHA-256 of the result, also where the tenant lets us keep no more.
    public let resultDigest: [UInt8]?
    /// What the content is kept under; `nil` keeps it under the request's own id.
    public let resultID: ResultID?
    /// What the result is where it is not text, as `image/png`.
    public let resultMediaType: String?
    /// The tenant's, when the result was cut to its retention.
    public let retentionGeneration: Int32
    /// The answer to keep under the caller's key, for a billed request that has one. A settlement whose claim is no longer its own is refused.
    public let answer: ClaimedAnswer?
    /// The usage that the answer had when a worker gave it, for one that came from the cache; `usage` is what is charged for it.
    public let servedUsage: Usage?
    /// Of an attempt of a job: what completes it. A settlement whose attempt no longer holds its job is refused.
    public let job: JobCompletion?
    /// The kind of work, as `predict` or `chat.completions`.
    public let operation: String
    /// Of a stream that was charged.
    public let stream: StreamRecord?
    /// What the caller said it was for; nearly always nothing.
    public let tags: RequestTags?
    /// What waits for a receipt of the charge; `nil` where nobody wants one.
    public let receipt: (any ReceiptOrder)?

    public init(
        requestID: RequestID, tenantID: TenantID, userID: UserID?, keyID: KeyID, model: String, modelVersion: String,
        outcome: Outcome, httpStatus: Int16, errorCode: String?, createdAt: Timestamp, completedAt: Timestamp,
        processingMicroseconds: Int64, estimatedTokens: Int64, usage: Usage, tierVersionID: TierVersionID,
        leaseID: LeaseID?,
        prompt: [UInt8]?, promptDigest: [UInt8]?,
        result: [UInt8]?, answer: ClaimedAnswer? = nil, servedUsage: Usage? = nil,
        resultDigest: [UInt8]? = nil, resultID: ResultID? = nil, resultMediaType: String? = nil,
        retentionGeneration: Int32 = 0,
        operation: String = Settlement.usualOperation, stream: StreamRecord? = nil, job: JobCompletion? = nil,
        tags: RequestTags? = nil, receipt: (any ReceiptOrder)? = nil, chargedRequests: Int64? = nil
    ) {
        self.requestID = requestID
        self.tenantID = tenantID
        self.userID = userID
        self.keyID = keyID
        self.model = model
        self.modelVersion = modelVersion
        self.outcome = outcome
        self.httpStatus = httpStatus
        self.errorCode = errorCode
        self.createdAt = createdAt
        self.completedAt = completedAt
        self.processingMicroseconds = processingMicroseconds
        self.estimatedTokens = estimatedTokens
        self.usage = usage
        self.tierVersionID = tierVersionID
        self.leaseID = leaseID
        self.prompt = prompt
        self.promptDigest = promptDigest
        self.result = result
        self.answer = answer
        self.servedUsage = servedUsage
        self.job = job
        self.resultDigest = resultDigest
        self.resultID = resultID
        self.resultMediaType = resultMediaType
        self.retentionGeneration = retentionGeneration
        self.operation = operation
        self.stream = stream
        self.tags = tags
        self.receipt = receipt
        self.chargedRequests = chargedRequests ?? (outcome == .completed ? 1 : 0)
    }

    /// Of nearly all requests of an installation that serves models of tables; written as nothing.
    public static let usualOperation = "predict"

    /// What the customer sent and got, as far as it is kept with it; the rest of a settlement is small.
    public var keptBytes: Int {
        (prompt?.count ?? 0) + (result?.count ?? 0) + (answer.map { $0.body.count + $0.fields.count } ?? 0)
            + (job?.answer.count ?? 0)
    }

    /// Billed entries go to the ledger, also those of nothing; a failed request that is free leaves only its request row.
    public var isBilled: Bool { outcome == .completed || chargedRequests > 0 }

    /// Where it is not what its outcome says: 0 of one that was completed, 1 of one that failed.
    public var unusualRequests: Int64? { (chargedRequests > 0) == (outcome == .completed) ? nil : chargedRequests }
}

/// What became of a settlement.
public enum SettlementResult: Sendable, Equatable {
    /// Committed; the answer may leave.
    case committed
    /// The lease was closed or had expired; nothing was written for this request.
    case leaseLost
    /// Another attempt has taken the idempotency key over; nothing was written for this request.
    case claimLost
    /// The job was claimed by another attempt, cancelled or ended meanwhile; nothing was written for this attempt.
    case jobLost
    /// The database refused this one row although its neighbours were written; a defect of ours that raises an alarm.
    case rejected
    /// The database cannot be reached, and the row was not sent: nothing was written.
    case unavailable
    /// The row was sent and the connection was lost before the answer, for longer than the caller can wait. It is sent again until its
    /// fate is known; the caller is told nothing and what it held counts as spent.
    case unknown
    /// More settlements are waiting than the bound allows; nothing was written.
    case overloaded
}
