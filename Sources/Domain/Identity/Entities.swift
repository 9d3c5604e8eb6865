/// Names the kinds of things that carry an ``Identifier``. None of these types has a value.
public enum Entity {
    public enum Tenant {}
    public enum User {}
    public enum Key {}
    public enum Request {}
    public enum TierVersion {}
    public enum TierReplay {}
    public enum Quota {}
    public enum Lease {}
    public enum QuotaEvent {}
    public enum Gateway {}
    public enum Replica {}
    public enum Worker {}
    public enum Subscription {}
    public enum Audit {}
    public enum Webhook {}
    public enum WebhookEvent {}
    public enum WebhookDelivery {}
    public enum Result {}
    public enum Invoice {}
    public enum CreditGrant {}
    public enum SubscriptionChange {}
}

/// Who pays.
public typealias TenantID = Identifier<Entity.Tenant>
/// A person or system of a tenant.
public typealias UserID = Identifier<Entity.User>
/// The row of an API key; not the public twelve characters inside the key.
public typealias KeyID = Identifier<Entity.Key>
/// One request, whatever became of it. The ledger's usage entry carries the same identifier.
public typealias RequestID = Identifier<Entity.Request>
/// An immutable version of a tier, the price version of the ledger.
public typealias TierVersionID = Identifier<Entity.TierVersion>
/// A replay of past usage with a tier version.
public typealias TierReplayID = Identifier<Entity.TierReplay>
/// One limit of a tenant: a unit, a frequency and an amount.
public typealias QuotaID = Identifier<Entity.Quota>
/// A slice of quota that one gateway may spend until it expires.
public typealias LeaseID = Identifier<Entity.Lease>
/// A threshold that use has crossed; in order of time.
public typealias QuotaEventID = Identifier<Entity.QuotaEvent>
/// One run of one gateway process.
public typealias GatewayID = Identifier<Entity.Gateway>
/// A worker's stay in the table of routes, from its registration until it leaves or registers anew.
public typealias WorkerID = Identifier<Entity.Worker>
/// A tenant's stay in one tier version.
public typealias SubscriptionID = Identifier<Entity.Subscription>
/// Where a tenant wants to be told of events.
public typealias WebhookID = Identifier<Entity.Webhook>
/// Something that happened, of which webhooks are told; the same at every attempt and for every webhook.
public typealias WebhookEventID = Identifier<Entity.WebhookEvent>
/// One event for one webhook.
public typealias WebhookDeliveryID = Identifier<Entity.WebhookDelivery>
/// A kept content. It follows from what is kept and for whom, so that equal results of a tenant are one.
public typealias ResultID = Identifier<Entity.Result>
/// An invoice or a credit note.
public typealias InvoiceID = Identifier<Entity.Invoice>
/// Money of a tenant's that invoices draw on.
public typealias CreditGrantID = Identifier<Entity.CreditGrant>
/// A change of tier that is due later.
public typealias SubscriptionChangeID = Identifier<Entity.SubscriptionChange>
/// An entry of the audit log.
public typealias AuditID = Identifier<Entity.Audit>

extension Identifier where Kind == Entity.TierVersion {
    /// The form customers see: `pv_` and the usual form of the UUID.
    public var priceVersionText: String { "pv_\(self)" }
}

extension Identifier where Kind == Entity.Request {
    /// The form customers see: `req_` and the usual form of the UUID.
    public var publicText: String { "req_\(self)" }

    /// Reads the public form, with or without its prefix.
    public init?(publicText: some StringProtocol) {
        self.init(publicText.hasPrefix("req_") ? publicText.dropFirst(4) : publicText[...])
    }
}

extension Identifier where Kind == Entity.Webhook {
    /// The form customers see: `whk_` and the usual form of the UUID.
    public var publicText: String { "whk_\(self)" }

    /// Reads the public form.
    public init?(publicText: some StringProtocol) {
        guard publicText.hasPrefix("whk_") else { return nil }
        self.init(publicText.dropFirst(4))
    }
}

extension Identifier where Kind == Entity.WebhookEvent {
    /// The form customers see, and the header `webhook-id`: `evt_` and the usual form of the UUID.
    public var publicText: String { "evt_\(self)" }
}

extension Identifier where Kind == Entity.WebhookDelivery {
    /// The form customers see: `dlv_` and the usual form of the UUID.
    public var publicText: String { "dlv_\(self)" }

    /// Reads the public form.
    public init?(publicText: some StringProtocol) {
        guard publicText.hasPrefix("dlv_") else { return nil }
        self.init(publicText.dropFirst(4))
    }
}

extension Identifier where Kind == Entity.Invoice {
    /// The form customers see: `inv_` and the usual form of the UUID.
    public var publicText: String { "inv_\(self)" }

    /// Reads the public form, with or without its prefix.
    public init?(publicText: some StringProtocol) {
        self.init(publicText.hasPrefix("inv_") ? publicText.dropFirst(4) : publicText[...])
    }
}

extension Identifier where Kind == Entity.CreditGrant {
    /// The form customers see: `crd_` and the usual form of the UUID.
    public var publicText: String { "crd_\(self)" }

    /// Reads the public form, with or without its prefix.
    public init?(publicText: some StringProtocol) {
        self.init(publicText.hasPrefix("crd_") ? publicText.dropFirst(4) : publicText[...])
    }
}
