/// A change that its maker may send again: the maker's own key, and what was asked.
public struct ChangeClaim: Hashable, Sendable {
    public let actor: String
    public let key: IdempotencyKey
    /// SHA-256 of method, path and body.
    public let fingerprint: [UInt8]

    public init(actor: AuditActor, key: IdempotencyKey, fingerprint: [UInt8]) {
        self.actor = actor.text
        self.key = key
        self.fingerprint = fingerprint
    }
}

/// An answer that is given once more.
public struct ChangeAnswer: Hashable, Sendable {
    public let status: Int16
    /// JSON.
    public let body: [UInt8]

    public init(status: Int16, body: [UInt8]) {
        self.status = status
        self.body = body
    }
}

/// What is known of a change that was sent before.
public struct KnownChange: Hashable, Sendable {
    /// Of the request that made it; another one asked for something else.
    public let fingerprint: [UInt8]
    /// `nil` until it is kept, and for good where the process ended between the change and its answer.
    public let answer: ChangeAnswer?
    /// What was changed, as the audit log names it.
    public let subject: String?
    /// Whether it was made so long ago that its answer will not come any more.
    public let isAnswerLost: Bool

    public init(fingerprint: [UInt8], answer: ChangeAnswer?, subject: String?, isAnswerLost: Bool) {
        self.fingerprint = fingerprint
        self.answer = answer
        self.subject = subject
        self.isAnswerLost = isAnswerLost
    }
}

/// Changes that can be sent again without being made twice. The transaction of a change takes its claim; see ``AuditActor/claim``.
public protocol ChangeAnswers: Sendable {
    func change(of claim: ChangeClaim) async throws(AdministrationFailure) -> KnownChange?
    /// Keeps the answer of a change that was made; the first one stays.
    func keep(_ answer: ChangeAnswer, of claim: ChangeClaim) async throws(AdministrationFailure)
}
