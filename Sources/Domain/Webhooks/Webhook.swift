/// Where a tenant wants to be told, and how that goes. Without its secret.
public struct Webhook: Sendable {
    public enum State: String, Sendable {
        case active
        /// A delivery was given up, and none has succeeded since. It is still tried.
        case failing
        /// Nothing is sent, and events that happen now are not kept for it.
        case disabled
    }

    public enum DisabledReason: String, Sendable {
        /// It answered 410.
        case gone
        /// Nothing was taken for days.
        case failing
    }

    public let id: WebhookID
    public let url: String
    public let description: String
    public let events: [WebhookEventKind]
    public let state: State
    public let disabledReason: DisabledReason?
    /// When the first attempt failed since one succeeded.
    public let failingSince: Timestamp?
    /// To about ten seconds.
    public let lastDeliveredAt: Timestamp?
    /// Until when the secret before the present one signs as well.
    public let previousSecretUntil: Timestamp?
    public let createdAt: Timestamp

    public init(
        id: WebhookID, url: String, description: String, events: [WebhookEventKind], state: State,
        disabledReason: DisabledReason?, failingSince: Timestamp?, lastDeliveredAt: Timestamp?,
        previousSecretUntil: Timestamp?, createdAt: Timestamp
    ) {
        self.id = id
        self.url = url
        self.description = description
        self.events = events
        self.state = state
        self.disabledReason = disabledReason
        self.failingSince = failingSince
        self.lastDeliveredAt = lastDeliveredAt
        self.previousSecretUntil = previousSecretUntil
        self.createdAt = createdAt
    }
}

/// One event for one webhook, and what became of it.
public struct WebhookDelivery: Sendable {
    public enum State: String, Sendable {
        case waiting, sending, delivered
        /// Given up; it can be asked for anew.
        case failed
    }

    public let id: WebhookDeliveryID
    public let webhookID: WebhookID
    public let eventID: WebhookEventID
    public let kind: String
    public let state: State
    /// Attempts that were begun, without those that we could not make.
    public let attempts: Int32
    public let createdAt: Timestamp
    /// `nil` once it is finished.
    public let nextAttemptAt: Timestamp?
    public let lastAttemptAt: Timestamp?
    public let lastStatus: Int16?
    /// One of a few words; `nil` where the last attempt was answered.
    public let lastError: String?
    public let lastMilliseconds: Int32?
    public let finishedAt: Timestamp?

    public init(
        id: WebhookDeliveryID, webhookID: WebhookID, eventID: WebhookEventID, kind: String, state: State,
        attempts: Int32, createdAt: Timestamp, nextAttemptAt: Timestamp?, lastAttemptAt: Timestamp?, lastStatus: Int16?,
        lastError: String?, lastMilliseconds: Int32?, finishedAt: Timestamp?
    ) {
        self.id = id
        self.webhookID = webhookID
        self.eventID = eventID
        self.kind = kind
        self.state = state
        self.attempts = attempts
        self.createdAt = createdAt
        self.nextAttemptAt = nextAttemptAt
        self.lastAttemptAt = lastAttemptAt
        self.lastStatus = lastStatus
        self.lastError = lastError
        self.lastMilliseconds = lastMilliseconds
        self.finishedAt = finishedAt
    }
}

/// What one attempt came to.
public enum WebhookOutcome: Equatable, Sendable {
    case delivered
    /// Tried again after the pause.
    case waiting(pauseMilliseconds: Int64)
    /// Nothing was sent, and that was not the receiver's doing: tried again after the pause, which is no part of the schedule, and as if there had
    /// been no attempt.
    case postponed(pauseMilliseconds: Int64)
    /// Given up.
    case failed
    /// The webhook answered 410: it wants no more.
    case gone

    /// Success is 2xx and nothing else: a redirect is not followed.
    public init(
        _ reply: WebhookReply, tries: Int, ageMilliseconds: Int64, policy: WebhookRetryPolicy,
        using generator: inout some RandomNumberGenerator
    ) {
        if case .answered(let status) = reply {
            if (200...299).contains(status) {
                self = .delivered
                return
            }
            if status == 410 {
                self = .gone
                return
            }
        }
        if case .failed(let failure) = reply, let factor = failure.ownPauseFactor {
            self = .postponed(pauseMilliseconds: policy.firstMilliseconds * factor)
            return
        }
        switch policy.decision(afterTries: tries, ageMilliseconds: ageMilliseconds, using: &generator) {
        case .again(let pause): self = .waiting(pauseMilliseconds: pause)
        case .giveUp: self = .failed
        }
    }
}

/// What came back of one attempt.
public enum WebhookReply: Equatable, Sendable {
    case answered(status: Int)
    case failed(WebhookFailure)
}

/// Why an attempt was not answered. The words are shown to the customer.
public enum WebhookFailure: String, Error, Sendable, CaseIterable {
    /// The name has no address.
    case unknownHost = "unknown_host"
    /// The address, or one of the name's, is one to which nothing is sent.
    case forbiddenTarget = "forbidden_target"
    case connectFailed = "connect_failed"
    /// No TLS session, or a certificate that is not trusted or not the host's.
    case tls
    case timeout
    case closed = "connection_closed"
    case malformedAnswer = "malformed_answer"
    /// The secret cannot be read: the server's pepper is another one than when it was made.
    case secretUnreadable = "secret_unreadable"
    /// The sender had no thread, no address or no descriptor for it.
    case noCapacity = "no_capacity"

    /// Of what is our fault and not the receiver's: after how many first pauses it is tried again. A pepper is not mended in seconds.
    var ownPauseFactor: Int64? {
        switch self {
        case .noCapacity: 1
        case .secretUnreadable: 60
        default: nil
        }
    }

    /// Whether it is our fault and not the receiver's.
    public var isOurs: Bool { ownPauseFactor != nil }
}
