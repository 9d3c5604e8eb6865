/// Everything that the operator of an installation changes or lists. Each verb is one transaction; a change and its
/// entry in the audit log are written together or not at all.
public protocol Administration: QuotaAdministration, RoutingAdministration, CacheAdministration,
    ModelUsageAdministration, TierAdministration
{
    /// Makes a tenant and subscribes it to the published version of a tier, whose quotas become the tenant's.
    /// - Throws: `validation_failed` for an unknown tier.
    func createTenant(_ tenant: NewTenant, by actor: AuditActor) async throws(AdministrationFailure) -> TenantRow
    /// Newest first.
    func tenants(_ page: PageRequest<TenantID>) async throws(AdministrationFailure) -> Page<TenantRow>
    /// - Throws: `not_found`.
    func tenant(_ id: TenantID) async throws(AdministrationFailure) -> TenantRow
    /// Changes what the change names. A change of tier ends the subscription and begins another; quotas that the new
    /// tier does not have are retired.
    /// - Throws: `not_found`; `validation_failed` for an unknown tier.
    func changeTenant(_ id: TenantID, _ change: TenantChange, by actor: AuditActor) async throws(AdministrationFailure)
        -> TenantRow

    /// Makes a key of a tenant. Only a digest of it is stored: this answer is the one time that it is there.
    /// - Throws: `not_found` for an unknown tenant.
    func createKey(_ key: NewKey, by actor: AuditActor) async throws(AdministrationFailure) -> CreatedKey
    /// Newest first, revoked ones included.
    /// - Throws: `not_found` for an unknown tenant.
    func keys(of tenantID: TenantID, _ page: PageRequest<KeyID>) async throws(AdministrationFailure) -> Page<KeyRow>
    /// Changes a customer's key.
    /// - Throws: `not_found`; `conflict` for an admin key.
    func changeKey(_ key: KeyReference, _ change: KeyChange, by actor: AuditActor) async throws(AdministrationFailure)
        -> KeyRow
    /// Revokes a key, of a tenant or of an administrator. One that is revoked stays as it is.
    /// - Throws: `not_found`; `conflict` for the actor's own key.
    func revokeKey(_ key: KeyReference, by actor: AuditActor) async throws(AdministrationFailure) -> KeyRow

    /// Registers a model, and its version as the first one.
    /// - Throws: `conflict` where the name is taken, by a model or an alias.
    func registerModel(_ model: ModelProfile, by actor: AuditActor) async throws(AdministrationFailure) -> ModelProfile
    /// Says how a model's replicas are called; what is not given is the default of the gateways.
    /// - Throws: `not_found` for a model that is not registered.
    func setDelivery(of model: String, _ settings: DeliverySettings, by actor: AuditActor)
        async throws(AdministrationFailure) -> ModelProfile
    /// By name.
    func models(_ page: PageRequest<String>) async throws(AdministrationFailure) -> Page<ModelProfile>

    /// Replaces a model's replicas whole.
    /// - Throws: `not_found` for a model that is not registered.
    func setRoute(_ model: String, _ replicas: [Replica], by actor: AuditActor) async throws(AdministrationFailure)
        -> RouteRow
    /// - Throws: `not_found` where the model has no route.
    func deleteRoute(_ model: String, by actor: AuditActor) async throws(AdministrationFailure)
    /// By the model's name; models without a replica are left out.
    func routes(_ page: PageRequest<String>) async throws(AdministrationFailure) -> Page<RouteRow>

    /// Usage of one tenant or of all, roll-up and the ledger's tail together, so that it is exact to the last commit.
    func usage(_ query: TotalUsageQuery) async throws(AdministrationFailure) -> [TenantUsageRow]
    /// The time zones of all tenants, each once.
    func timeZones() async throws(AdministrationFailure) -> [String]

    /// Newest first.
    func audit(_ query: AuditQuery) async throws(AdministrationFailure) -> Page<AuditRow>
}

/// Why a verb did nothing.
public enum AdministrationFailure: Error, Sendable {
    /// What was asked cannot be done, with a text for who asked.
    case refused(Refusal)
    case unavailable(StoreUnavailable)
}

/// Who made a change, as the audit log names it.
public struct AuditActor: Hashable, Sendable {
    /// `key:` and the public part of an admin key, or `system`.
    public let text: String
    /// Under which a change is made once; nearly always none. It says nothing of who it is.
    public var claim: ChangeClaim?

    private init(text: String) { self.text = text }

    public static func == (left: AuditActor, right: AuditActor) -> Bool { left.text == right.text }

    public func hash(into hasher: inout Hasher) { hasher.combine(text) }

    /// Weir itself.
    public static let system = AuditActor(text: "system")
    /// The holder of an admin key.
    public static func key(_ publicID: APIKey.PublicID) -> AuditActor { AuditActor(text: "key:\(publicID)") }
}

/// Which page of a list.
public struct PageRequest<Cursor: Sendable>: Sendable {
    /// The most items.
    public let limit: Int
    /// Only what comes behind this in the list's order.
    public let after: Cursor?
    /// Only what comes ahead of this; the page is then the nearest to it. Not together with `after`.
    public let before: Cursor?

    public init(limit: Int, after: Cursor? = nil, before: Cursor? = nil) {
        self.limit = limit
        self.after = after
        self.before = before
    }
}

/// A page of a list, in the list's order.
public struct Page<Element: Sendable>: Sendable {
    public let elements: [Element]
    /// Whether there is more in the direction that was asked for.
    public let hasMore: Bool

    public init(_ elements: [Element], hasMore: Bool) {
        self.elements = elements
        self.hasMore = hasMore
    }
}
