/// What the operator changes about quotas. Each verb is one transaction with its entry in the audit log.
public protocol QuotaAdministration: Sendable {
    /// The quotas in force of a tenant, its users and its keys, newest first.
    /// - Throws: `not_found` for an unknown tenant.
    func quotas(of tenantID: TenantID, _ page: PageRequest<QuotaID>) async throws(AdministrationFailure) -> Page<
        QuotaRow
    >
    /// Gives a tenant, a user or a key a quota, in the place of the tier's or of one that was set before. What was used in the running
    /// period stays counted.
    /// - Throws: `not_found` for an unknown tenant; `validation_failed` for a user or key that is not the tenant's.
    func setQuota(_ quota: NewQuota, by actor: AuditActor) async throws(AdministrationFailure) -> QuotaRow
    /// Allows more in the running period and those that follow it, `periods` in all. Raises add up.
    /// - Throws: `not_found`; `validation_failed` for more than one period of a quota that does not begin anew.
    func raiseQuota(_ id: QuotaID, by amount: Int64, periods: Int, actor: AuditActor)
        async throws(AdministrationFailure) -> QuotaRow
    /// Takes away what was set: a quota that the tenant's tier has becomes the tier's again, another one ends.
    /// - Throws: `not_found`; `conflict` for a quota that is the tier's.
    func deleteQuota(_ id: QuotaID, by actor: AuditActor) async throws(AdministrationFailure)
    /// The thresholds that use has crossed, of one tenant or of all, newest first.
    func quotaEvents(
        of tenantID: TenantID?, _ page: PageRequest<QuotaEventID>
    ) async throws(AdministrationFailure) -> Page<QuotaEventRow>
}

/// An event and the quota that it is about.
public struct QuotaEventRow: Hashable, Sendable {
    public let event: QuotaEvent
    public let holder: QuotaHolder
    public let unit: QuotaUnit
    public let frequency: Frequency

    public init(event: QuotaEvent, holder: QuotaHolder, unit: QuotaUnit, frequency: Frequency) {
        self.event = event
        self.holder = holder
        self.unit = unit
        self.frequency = frequency
    }
}

/// Whose quota it is.
public enum QuotaHolder: Hashable, Sendable {
    case tenant
    case user(UserID)
    case key(KeyID)

    public var level: QuotaLevel {
        switch self {
        case .tenant: .tenant
        case .user: .user
        case .key: .key
        }
    }

    public var userID: UserID? { if case .user(let id) = self { id } else { nil } }
    public var keyID: KeyID? { if case .key(let id) = self { id } else { nil } }
}

/// A quota to be set.
public struct NewQuota: Hashable, Sendable {
    public let tenantID: TenantID
    public let holder: QuotaHolder
    public let rule: QuotaRule

    public init(tenantID: TenantID, holder: QuotaHolder, rule: QuotaRule) {
        self.tenantID = tenantID
        self.holder = holder
        self.rule = rule
    }
}

public struct QuotaRow: Hashable, Sendable {
    /// Where a quota comes from.
    public enum Origin: String, Sendable, CaseIterable {
        case tier
        /// Set by an administrator.
        case override
    }

    public let id: QuotaID
    public let tenantID: TenantID
    public let holder: QuotaHolder
    public let rule: QuotaRule
    public let origin: Origin
    /// How much more than the rule's amount is allowed now.
    public let raised: Int64
    public let createdAt: Timestamp

    public init(
        id: QuotaID, tenantID: TenantID, holder: QuotaHolder, rule: QuotaRule, origin: Origin, raised: Int64,
        createdAt: Timestamp
    ) {
        self.id = id
        self.tenantID = tenantID
        self.holder = holder
        self.rule = rule
        self.origin = origin
        self.raised = raised
        self.createdAt = createdAt
    }
}
