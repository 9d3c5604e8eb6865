/// When a change of tier takes place.
public enum SubscriptionMoment: Hashable, Sendable {
    case now
    /// At the end of the tenant's running month.
    case periodEnd
    case at(Timestamp)
}

/// A tenant's stay on a tier version.
public struct SubscriptionRow: Hashable, Sendable {
    public let id: SubscriptionID
    public let tierCode: String
    public let tierVersionID: TierVersionID
    public let currency: String
    public let startsAt: Timestamp
    /// `nil` for the one in force.
    public let endsAt: Timestamp?
    /// Until when its usage is free.
    public let trialEndsAt: Timestamp?

    public init(
        id: SubscriptionID, tierCode: String, tierVersionID: TierVersionID, currency: String, startsAt: Timestamp,
        endsAt: Timestamp?, trialEndsAt: Timestamp?
    ) {
        self.id = id
        self.tierCode = tierCode
        self.tierVersionID = tierVersionID
        self.currency = currency
        self.startsAt = startsAt
        self.endsAt = endsAt
        self.trialEndsAt = trialEndsAt
    }
}

/// A change of tier that is due later.
public struct SubscriptionChangeRow: Hashable, Sendable {
    public let id: SubscriptionChangeID
    public let tenantID: TenantID
    public let tierCode: String
    public let tierVersionID: TierVersionID
    public let dueAt: Timestamp

    public init(
        id: SubscriptionChangeID, tenantID: TenantID, tierCode: String, tierVersionID: TierVersionID, dueAt: Timestamp
    ) {
        self.id = id
        self.tenantID = tenantID
        self.tierCode = tierCode
        self.tierVersionID = tierVersionID
        self.dueAt = dueAt
    }
}

/// What became of a change that was due.
public struct DueChange: Hashable, Sendable {
    public let change: SubscriptionChangeRow
    /// Why it could not be made; `nil` where it was.
    public let failure: String?

    public init(change: SubscriptionChangeRow, failure: String?) {
        self.change = change
        self.failure = failure
    }
}

/// What a tenant is on, was on, and will be on.
public struct SubscriptionStanding: Sendable {
    public let account: BillingAccount
    /// By the database's clock.
    public let now: Timestamp
    public let scheduled: SubscriptionChangeRow?
    /// The latest first, at most a hundred.
    public let stays: [SubscriptionRow]

    public init(account: BillingAccount, now: Timestamp, scheduled: SubscriptionChangeRow?, stays: [SubscriptionRow]) {
        self.account = account
        self.now = now
        self.scheduled = scheduled
        self.stays = stays
    }

    public var current: SubscriptionRow? { stays.first { $0.endsAt == nil } }

    /// The running month in the tenant's zone.
    public var period: Period {
        (PeriodCalendar(timeZone: account.timeZone) ?? .utc).period(containing: now, frequency: .month)
    }
}

/// Subscriptions of all tenants, as the operator changes them. Each change is one transaction with its entry in the audit log.
public protocol SubscriptionAdministration: Sendable {
    /// - Throws: `not_found`.
    func subscription(of tenant: TenantID) async throws(AdministrationFailure) -> SubscriptionStanding
    /// Changes the tier now, or schedules the change in place of one that is scheduled.
    /// - Throws: `not_found` for an unknown tenant; `validation_failed` for a tier that is not for it, or a moment that is over; `conflict`
    ///   for another currency within a month.
    func subscribe(_ tenant: TenantID, tier: String, when: SubscriptionMoment, by actor: AuditActor)
        async throws(AdministrationFailure) -> SubscriptionStanding
    /// - Throws: `not_found`; `conflict` where none is scheduled.
    func cancelChange(of tenant: TenantID, by actor: AuditActor) async throws(AdministrationFailure)
        -> SubscriptionStanding
    /// Applies one change that is due: its stay begins at the due instant. At most once, on any number of processes. One that cannot be made
    /// any more fails for good, with the reason in the audit log.
    /// - Returns: `nil` where none is due, or those that are have a tenant whose bills somebody holds.
    func applyDueChange() async throws(AdministrationFailure) -> DueChange?
}

/// A customer's own subscription.
public protocol CustomerSubscriptions: Sendable {
    func subscription(_ tenant: TenantID) async throws(StoreUnavailable) -> SubscriptionStanding?
}
