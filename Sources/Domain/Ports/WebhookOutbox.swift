/// Deliveries that wait to be sent. Any number of processes may take from it at once.
public protocol WebhookOutbox: Sendable {
    /// Takes deliveries that are due, for one attempt each. One that is not finished within `leaseMilliseconds` may be taken again, by whoever
    /// comes.
    /// - Returns: at most `limit`, of which at most `perWebhook` are under way at one webhook and at most `perTenant` at all webhooks of one
    ///   tenant, on all processes together.
    func claim(
        limit: Int, perWebhook: Int, perTenant: Int, leaseMilliseconds: Int64
    ) async throws(StoreUnavailable) -> [WebhookAttempt]
    /// Says what became of an attempt. One that was postponed leaves the webhook as it is, and is not counted.
    /// - Parameter disableAfterMilliseconds: a webhook that has taken nothing for so long is disabled.
    /// - Returns: the webhook's state; `nil` where the attempt is no longer the last one, and nothing was changed.
    func finish(_ report: WebhookAttemptReport, disableAfterMilliseconds: Int64) async throws(StoreUnavailable)
        -> Webhook.State?
    /// Gives up the oldest deliveries of webhooks for which more than `keep` wait.
    /// - Returns: deliveries given up.
    func trim(keep: Int) async throws(StoreUnavailable) -> Int
    /// Removes deliveries that were finished more than `keepHours` ago, and events without deliveries.
    /// - Returns: at most `limit`, the greater number of the two.
    func remove(keepHours: Int, limit: Int) async throws(StoreUnavailable) -> Int
}

/// One attempt to deliver one event to one webhook.
public struct WebhookAttempt: Sendable {
    public let deliveryID: WebhookDeliveryID
    public let webhookID: WebhookID
    public let eventID: WebhookEventID
    public let tenantID: TenantID
    /// The fence: no two attempts of a delivery have the same.
    public let number: Int32
    /// Attempts of this schedule, this one included.
    public let tries: Int
    /// Since the schedule began.
    public let ageMilliseconds: Int64
    public let url: String
    /// Those that are valid now, the newest first; none where they cannot be read.
    public let secrets: [[UInt8]]
    public let body: [UInt8]

    public init(
        deliveryID: WebhookDeliveryID, webhookID: WebhookID, eventID: WebhookEventID, tenantID: TenantID, number: Int32,
        tries: Int, ageMilliseconds: Int64, url: String, secrets: [[UInt8]], body: [UInt8]
    ) {
        self.deliveryID = deliveryID
        self.webhookID = webhookID
        self.eventID = eventID
        self.tenantID = tenantID
        self.number = number
        self.tries = tries
        self.ageMilliseconds = ageMilliseconds
        self.url = url
        self.secrets = secrets
        self.body = body
    }
}

public struct WebhookAttemptReport: Sendable {
    public let deliveryID: WebhookDeliveryID
    public let number: Int32
    public let reply: WebhookReply
    public let outcome: WebhookOutcome
    public let tookMilliseconds: Int32

    public init(_ attempt: WebhookAttempt, reply: WebhookReply, outcome: WebhookOutcome, tookMilliseconds: Int32) {
        deliveryID = attempt.deliveryID
        number = attempt.number
        self.reply = reply
        self.outcome = outcome
        self.tookMilliseconds = tookMilliseconds
    }
}

/// What is put on the wire for one attempt.
public struct WebhookMessage: Sendable {
    public let url: WebhookURL
    /// Names in lower case.
    public let fields: [(name: String, value: String)]
    public let body: [UInt8]

    public init(url: WebhookURL, fields: [(name: String, value: String)], body: [UInt8]) {
        self.url = url
        self.fields = fields
        self.body = body
    }
}

/// Sends messages to customers' addresses.
public protocol WebhookTransport: Sendable {
    /// Sends once. Looks the host up, checks each address, and connects to one of those that were checked. Follows no redirect and does not
    /// throw: everything that can happen is a reply.
    func send(_ message: WebhookMessage) async -> WebhookReply
}
