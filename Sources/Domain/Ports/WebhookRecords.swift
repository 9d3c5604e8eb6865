/// A customer's webhooks and what was sent to them. A webhook or delivery of another tenant is as good as none.
public protocol WebhookRecords: Sendable {
    /// Adds a webhook.
    /// - Parameter limit: how many a tenant may have.
    /// - Returns: the webhook with its secret, which is told this once; `nil` where the tenant has `limit` already.
    func add(_ webhook: NewWebhook, tenantID: TenantID, limit: Int) async throws(StoreUnavailable) -> (
        Webhook, secret: String
    )?
    /// All of a tenant's, oldest first.
    func webhooks(tenantID: TenantID) async throws(StoreUnavailable) -> [Webhook]
    func webhook(_ id: WebhookID, tenantID: TenantID) async throws(StoreUnavailable) -> Webhook?
    /// Removes a webhook with its deliveries.
    /// - Returns: whether it was there.
    func remove(_ id: WebhookID, tenantID: TenantID) async throws(StoreUnavailable) -> Bool
    /// Gives a webhook a new secret. The one before it signs as well for a while; the one before that no longer.
    func rotate(_ id: WebhookID, tenantID: TenantID, graceSeconds: Int64) async throws(StoreUnavailable) -> (
        Webhook, secret: String
    )?
    /// Lets a webhook be sent to again.
    func enable(_ id: WebhookID, tenantID: TenantID) async throws(StoreUnavailable) -> Webhook?
    /// A page of deliveries, newest first.
    func deliveries(_ query: WebhookDeliveryQuery) async throws(StoreUnavailable) -> [WebhookDelivery]
    /// Asks for a delivery anew: it is due at once, under the same event, and has a whole schedule again.
    func retry(_ id: WebhookDeliveryID, tenantID: TenantID) async throws(StoreUnavailable) -> WebhookRetrying
}

public struct NewWebhook: Sendable {
    public let url: WebhookURL
    public let description: String
    public let events: [WebhookEventKind]

    public init(url: WebhookURL, description: String, events: [WebhookEventKind]) {
        self.url = url
        self.description = description
        self.events = events
    }
}

public struct WebhookDeliveryQuery: Sendable {
    public let webhookID: WebhookID
    public let tenantID: TenantID
    public let limit: Int
    /// Older than this one.
    public let after: WebhookDeliveryID?
    public let state: WebhookDelivery.State?

    public init(
        webhookID: WebhookID, tenantID: TenantID, limit: Int, after: WebhookDeliveryID?, state: WebhookDelivery.State?
    ) {
        self.webhookID = webhookID
        self.tenantID = tenantID
        self.limit = limit
        self.after = after
        self.state = state
    }
}

/// What became of a wish to send again.
public enum WebhookRetrying: Sendable {
    case due(WebhookDelivery)
    case unknown
    /// It is being sent at this moment.
    case underWay
    /// The webhook is disabled.
    case disabled
}

/// Whether something may be sent to an address.
public protocol WebhookTargets: Sendable {
    /// Looks the host up and checks each of its addresses.
    /// - Throws: ``WebhookTargetRefusal`` with words for the customer.
    func check(_ url: WebhookURL) async throws(WebhookTargetRefusal)
}

public struct WebhookTargetRefusal: Error, Equatable, Sendable {
    /// Goes behind the name of the field.
    public let message: String

    public init(_ message: String) { self.message = message }
}
