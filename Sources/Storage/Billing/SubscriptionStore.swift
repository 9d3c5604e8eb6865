public import Domain
public import PostgresDriver

extension AdministrationStore: SubscriptionAdministration {
    public func subscription(of tenant: TenantID) async throws(AdministrationFailure) -> SubscriptionStanding {
        try await change(.system) { change in try await change.standing(tenant) }
    }

    public func subscribe(
        _ tenant: TenantID, tier: String, when: SubscriptionMoment, by actor: AuditActor
    ) async throws(AdministrationFailure) -> SubscriptionStanding {
        try await change(actor) { change in try await change.changeSubscription(tenant, tier: tier, when: when) }
    }

    public func cancelChange(
        of tenant: TenantID, by actor: AuditActor
    ) async throws(AdministrationFailure) -> SubscriptionStanding {
        try await change(actor) { change in try await change.cancelChange(of: tenant) }
    }

    public func applyDueChange() async throws(AdministrationFailure) -> DueChange? {
        try await change(.system) { change in try await change.applyDueChange() }
    }
}

/// A customer's own subscription, read in one transaction with the tenant set.
public struct CustomerSubscriptionStore: CustomerSubscriptions {
    private let pool: PostgresPool

    /// - Parameter pool: connections of the role `weir_reader`.
    public init(pool: PostgresPool) { self.pool = pool }

    public func subscription(_ tenant: TenantID) async throws(StoreUnavailable) -> SubscriptionStanding? {
        do throws(PostgresError) {
            let (_, accounts, now, changes, stays) = try await pool.pipeline(
                ActAsTenant(tenantID: tenant), FindBillingAccount(tenantID: tenant), ReadDatabaseTime(),
                FindScheduledChange(tenantID: tenant), ReadStays(tenantID: tenant))
            guard let account = accounts.first, let now = now.first else { return nil }
            return SubscriptionStanding(account: account, now: now, scheduled: changes.first, stays: stays)
        } catch {
            throw StoreUnavailable(error)
        }
    }
}
