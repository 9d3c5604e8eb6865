/// One attempt's claim of a key: whose key, and which attempt. An immutable object, because it goes along with the request.
public final class IdempotencyClaim: Sendable {
    public let tenantID: TenantID
    public let key: IdempotencyKey
    /// The attempt, and the fence: whoever takes the key over does it under another request.
    public let requestID: RequestID

    public init(tenantID: TenantID, key: IdempotencyKey, requestID: RequestID) {
        self.tenantID = tenantID
        self.key = key
        self.requestID = requestID
    }
}

/// The answer of a claimed request, written in the transaction that charges it.
public final class ClaimedAnswer: Sendable {
    public let claim: IdempotencyClaim
    /// The header fields that belong to the answer and not to the moment, as lines with CRLF between them.
    public let fields: [UInt8]
    public let body: [UInt8]

    public init(claim: IdempotencyClaim, fields: [UInt8], body: [UInt8]) {
        self.claim = claim
        self.fields = fields
        self.body = body
    }
}

/// An answer as it was kept, to be sent again.
public struct KeptAnswer: Sendable, Equatable {
    /// The request that was charged.
    public let requestID: RequestID
    public let status: Int
    /// See ``ClaimedAnswer/fields``.
    public let fields: String
    public let body: [UInt8]

    public init(requestID: RequestID, status: Int, fields: String, body: [UInt8]) {
        self.requestID = requestID
        self.status = status
        self.fields = fields
        self.body = body
    }
}
