internal import Domain
internal import PostgresDriver

extension AdministrationTransaction {
    // MARK: Reads

    func standing(_ tenant: TenantID) async throws -> SubscriptionStanding {
        guard let account = try await connection.execute(FindBillingAccount(tenantID: tenant)).first,
            let now = try await connection.execute(ReadDatabaseTime()).first
        else { throw Refusal.noSuchTenant }
        return SubscriptionStanding(
            account: account, now: now,
            scheduled: try await connection.execute(FindScheduledChange(tenantID: tenant)).first,
            stays: try await connection.execute(ReadStays(tenantID: tenant)))
    }

    // MARK: Changes

    /// Puts a tenant on the version of a tier that is sold at the moment. Does nothing where it is in force already.
    func subscribeNow(_ tenant: TenantID, toTier code: String) async throws {
        guard
            let version = try await connection.execute(
                FindVersionToSubscribe(tierCode: code, tenantID: tenant, at: nil)
            ).first
        else { throw Refusal.noSuchTier(code) }
        let standing = try await standing(tenant)
        if standing.scheduled != nil {
            // What is done now takes the place of what was to be done later.
            _ = try await connection.execute(EndScheduledChange(tenantID: tenant, state: "cancelled"))
        }
        guard standing.current?.tierVersionID != version.tierVersionID else { return }
        try refuseMixedCurrencies(standing, version.currency, at: standing.now)
        try await begin(tenant, version.tierVersionID, at: nil)
    }

    /// Bills have one currency: another one begins with a month. A tenant that was on nothing this month may begin with any.
    private func refuseMixedCurrencies(
        _ standing: SubscriptionStanding, _ currency: String, at instant: Timestamp
    ) throws(Refusal) {
        let calendar = PeriodCalendar(timeZone: standing.account.timeZone) ?? .utc
        let period = calendar.period(containing: instant, frequency: .month)
        guard period.start < instant else { return }
        let others = standing.stays.filter { ($0.endsAt ?? instant) > period.start && $0.startsAt < instant }
        guard others.allSatisfy({ $0.currency == currency }) else {
            throw Refusal(
                .conflict,
                "The tier is in \(currency), and this month is not. Change at the month's end: send \"when\": \"period_end\"."
            )
        }
    }

    /// - Parameter instant: `nil` means now.
    private func begin(_ tenant: TenantID, _ version: TierVersionID, at instant: Timestamp?) async throws {
        let end: Timestamp?
        if let instant {
            end = try await connection.execute(EndSubscriptionAt(tenantID: tenant, at: instant)).first ?? instant
        } else {
            end = try await connection.execute(EndSubscription(tenantID: tenant)).first
        }
        _ = try await connection.execute(
            InsertSubscription(id: newID(), tenantID: tenant, tierVersionID: version, startsAt: end))
        _ = try await connection.execute(BeginTrial(tenantID: tenant))
        let rules = try await connection.execute(ReadTierQuotas(tierVersionID: version))
        _ = try await connection.execute(RetireQuotas(tenantID: tenant, tierVersionID: version))
        _ = try await connection.execute(
            ApplyQuotas(tenantID: tenant, quotas: rules.map { rule in (id: newID(), rule: rule) }))
    }

    func changeSubscription(
        _ tenant: TenantID, tier: String, when: SubscriptionMoment
    ) async throws -> SubscriptionStanding {
        guard try await !connection.execute(LockBillingAccount(tenantID: tenant)).isEmpty else {
            throw Refusal.noSuchTenant
        }
        let before = try await connection.execute(DescribeSubscription(tenantID: tenant)).first
        let standing = try await standing(tenant)
        switch when {
        case .now: try await subscribeNow(tenant, toTier: tier)
        case .periodEnd: try await schedule(standing, tier, at: standing.period.end)
        case .at(let instant): try await schedule(standing, tier, at: instant)
        }
        return try await audited(tenant, "subscription.change", before: before)
    }

    private func schedule(_ standing: SubscriptionStanding, _ tier: String, at instant: Timestamp) async throws {
        let tenant = standing.account.tenantID
        guard instant > standing.now else {
            throw Refusal.invalid("/when", "is over", fix: "Send a later time, or now.")
        }
        guard instant.milliseconds(since: standing.now) <= 366 * 86_400_000 else {
            throw Refusal.invalid("/when", "is more than a year ahead", fix: "Send an earlier time.")
        }
        guard
            let version = try await connection.execute(
                FindVersionToSubscribe(tierCode: tier, tenantID: tenant, at: instant)
            ).first
        else { throw Refusal.noSuchTier(tier) }
        try refuseMixedCurrencies(standing, version.currency, at: instant)
        _ = try await connection.execute(EndScheduledChange(tenantID: tenant, state: "cancelled"))
        _ = try await connection.execute(
            InsertScheduledChange(
                id: newID(), tenantID: tenant, tierVersionID: version.tierVersionID, dueAt: instant))
    }

    func cancelChange(of tenant: TenantID) async throws -> SubscriptionStanding {
        guard try await !connection.execute(LockBillingAccount(tenantID: tenant)).isEmpty else {
            throw Refusal.noSuchTenant
        }
        let before = try await connection.execute(DescribeSubscription(tenantID: tenant)).first
        guard
            try await connection.affectedRows(by: EndScheduledChange(tenantID: tenant, state: "cancelled")) == 1
        else { throw Refusal(.conflict, "The tenant has no change that is scheduled.") }
        return try await audited(tenant, "subscription.cancel", before: before)
    }

    func applyDueChange() async throws -> DueChange? {
        guard let tenant = try await connection.execute(HoldDueTenant()).first else { return nil }
        let standing = try await standing(tenant)
        // Whoever held the tenant a moment ago may have made it, or taken it back.
        guard let due = standing.scheduled, due.dueAt <= standing.now else { return nil }
        if let failure = try await failure(of: due, standing) {
            _ = try await connection.execute(EndScheduledChange(tenantID: tenant, state: "failed", failure: failure))
            let after = try await connection.execute(DescribeFailedChange(id: due.id)).first
            try await audit(
                "subscription.fail", "subscription", tenant.description, tenantID: tenant, before: nil, after: after)
            return DueChange(change: due, failure: failure)
        }
        let before = try await connection.execute(DescribeSubscription(tenantID: tenant)).first
        _ = try await connection.execute(EndScheduledChange(tenantID: tenant, state: "applied"))
        if standing.current?.tierVersionID != due.tierVersionID {
            try await begin(tenant, due.tierVersionID, at: due.dueAt)
        }
        _ = try await audited(tenant, "subscription.apply", before: before)
        return DueChange(change: due, failure: nil)
    }

    /// Why a change that is due cannot be made; what it stood on may have changed since it was scheduled.
    private func failure(of due: SubscriptionChangeRow, _ standing: SubscriptionStanding) async throws -> String? {
        guard let found = try await connection.execute(FindObstacle(change: due)).first else {
            return "there is no such version"
        }
        if let obstacle = found.obstacle { return obstacle }
        do throws(Refusal) {
            try refuseMixedCurrencies(standing, found.currency, at: due.dueAt)
            return nil
        } catch {
            return "the month is in another currency than \(found.currency)"
        }
    }

    /// In another zone a month begins at another instant, so a change to another currency that was to be made with it would come within one.
    func refuseMixedSchedule(_ tenant: TenantID, inZone zone: String) async throws {
        let standing = try await standing(tenant)
        guard let due = standing.scheduled,
            let found = try await connection.execute(FindObstacle(change: due)).first
        else { return }
        let moved = SubscriptionStanding(
            account: BillingAccount(tenantID: tenant, name: standing.account.name, timeZone: zone), now: standing.now,
            scheduled: due, stays: standing.stays)
        do throws(Refusal) {
            try refuseMixedCurrencies(moved, found.currency, at: due.dueAt)
        } catch {
            throw Refusal(
                .conflict,
                "A change to another currency is scheduled for the end of a month in the zone of now. Cancel it first, and schedule it anew."
            )
        }
    }

    private func audited(_ tenant: TenantID, _ action: String, before: String?) async throws -> SubscriptionStanding {
        let after = try await connection.execute(DescribeSubscription(tenantID: tenant)).first
        if before != after {
            try await audit(
                action, "subscription", tenant.description, tenantID: tenant, before: before, after: after)
        }
        return try await standing(tenant)
    }
}
