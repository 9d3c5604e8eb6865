/// A job that this process has claimed, with what an attempt needs.
public struct ClaimedJob: Sendable {
    public let attempt: JobAttempt
    /// The last attempt that may be made.
    public let attemptLimit: Int32
    public let tenantID: TenantID
    public let keyID: KeyID
    /// The public part of the key that submitted it; `nil` where the key has gone.
    public let publicID: APIKey.PublicID?
    public let batchID: BatchID?
    public let operation: String
    public let pathModel: String?
    public let pathVersion: String?
    public let payload: [UInt8]
    public let headFields: String
    public let submittedAt: Timestamp

    public init(
        attempt: JobAttempt, attemptLimit: Int32, tenantID: TenantID, keyID: KeyID, publicID: APIKey.PublicID?,
        batchID: BatchID?, operation: String, pathModel: String?, pathVersion: String?, payload: [UInt8],
        headFields: String, submittedAt: Timestamp
    ) {
        self.attempt = attempt
        self.attemptLimit = attemptLimit
        self.tenantID = tenantID
        self.keyID = keyID
        self.publicID = publicID
        self.batchID = batchID
        self.operation = operation
        self.pathModel = pathModel
        self.pathVersion = pathVersion
        self.payload = payload
        self.headFields = headFields
        self.submittedAt = submittedAt
    }

    public var isLastAttempt: Bool { attempt.number >= attemptLimit }
}

/// A completed attempt, for the statement that charges it: the job ends in that statement, on the condition that the attempt still holds it.
public final class JobCompletion: Sendable {
    public let attempt: JobAttempt
    /// The answer as a synchronous request would have got it.
    public let answer: [UInt8]

    public init(attempt: JobAttempt, answer: [UInt8]) {
        self.attempt = attempt
        self.answer = answer
    }
}
