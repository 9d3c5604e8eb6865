import Domain
import PostgresDriver
import Storage
import Testing

@Suite("Administration of quotas")
struct AdministrationQuotaTests {
    private func rule(
        _ amount: Int64, _ unit: QuotaUnit = .requests, _ frequency: Frequency = .month, mode: QuotaMode = .hard
    ) -> QuotaRule { QuotaRule(unit: unit, frequency: frequency, amount: amount, mode: mode) }

    private func set(
        _ harness: AdministrationHarness, _ tenant: TenantID, _ rule: QuotaRule, _ holder: QuotaHolder = .tenant
    ) async throws -> QuotaRow {
        try await harness.store.setQuota(
            NewQuota(tenantID: tenant, holder: holder, rule: rule), by: AdministrationHarness.actor)
    }

    private func list(_ harness: AdministrationHarness, _ tenant: TenantID) async throws -> [QuotaRow] {
        try await harness.store.quotas(of: tenant, PageRequest(limit: 100)).elements
    }

    private func refusal(_ body: () async throws -> Void) async throws -> FailureCode? {
        do {
            try await body()
            return nil
        } catch let AdministrationFailure.refused(refusal) {
            return refusal.code
        }
    }

    private func audit(_ harness: AdministrationHarness) async throws -> [AuditRow] {
        try await harness.store.audit(AuditQuery(page: PageRequest(limit: 100), tenantID: nil, action: nil)).elements
            .filter { $0.subjectType == "quota" }
    }

    @Test("what is set takes the tier's place, survives another tier, and gives way to it when it is deleted")
    func override() async throws {
        try await AdministrationHarness.with { harness in
            try await harness.makeTier()
            try await harness.makeTier("large", quotas: [rule(5_000)])
            let tenant = try await harness.makeTenant()
            let tiers = try #require(try await list(harness, tenant.id).first)
            #expect(tiers.origin == .tier && tiers.rule == rule(1_000) && tiers.holder == .tenant)
            try await #expect(
                refusal { try await harness.store.deleteQuota(tiers.id, by: AdministrationHarness.actor) } == .conflict)
            let set = try await set(harness, tenant.id, rule(77))
            #expect(set.id == tiers.id && set.origin == .override && set.rule.amount == 77)
            _ = try await harness.store.changeTenant(
                tenant.id, TenantChange(tierCode: "large"), by: AdministrationHarness.actor)
            try await #expect(list(harness, tenant.id) == [set])
            try await harness.store.deleteQuota(set.id, by: AdministrationHarness.actor)
            try await #expect(list(harness, tenant.id).map(\.rule) == [rule(5_000)])
            try await #expect(list(harness, tenant.id).map(\.id) == [tiers.id])
        }
    }

    @Test("a quota that the tier does not have ends when it is deleted, and can be set again")
    func ends() async throws {
        try await AdministrationHarness.with { harness in
            try await harness.makeTier(quotas: [])
            let tenant = try await harness.makeTenant()
            let first = try await set(harness, tenant.id, rule(5, .tokens, .day))
            try await harness.store.deleteQuota(first.id, by: AdministrationHarness.actor)
            try await #expect(list(harness, tenant.id).isEmpty)
            try await #expect(
                refusal { try await harness.store.deleteQuota(first.id, by: AdministrationHarness.actor) } == .notFound)
            let again = try await set(harness, tenant.id, rule(6, .tokens, .day))
            #expect(again.id == first.id && again.rule.amount == 6)
        }
    }

    @Test("a key's quota is the key's, and a key or user of another tenant is refused")
    func holders() async throws {
        try await AdministrationHarness.with { harness in
            try await harness.makeTier()
            let tenant = try await harness.makeTenant()
            let other = try await harness.makeTenant("Other")
            let key = try await harness.store.createKey(
                NewKey(
                    tenantID: tenant.id, name: "", environment: .live, scopes: [.predict], allowedModels: nil,
                    expiresAt: nil), by: AdministrationHarness.actor)
            let made = try await set(harness, tenant.id, rule(3), .key(key.row.id))
            #expect(made.holder == .key(key.row.id))
            try await #expect(list(harness, tenant.id).map(\.holder.level) == [.key, .tenant])
            try await #expect(
                refusal { _ = try await set(harness, other.id, rule(3), .key(key.row.id)) } == .validationFailed)
            try await #expect(
                refusal { _ = try await set(harness, tenant.id, rule(3), .user(UserID(high: 1, low: 1))) }
                    == .validationFailed)
            try await #expect(
                refusal { _ = try await set(harness, TenantID(high: 1, low: 1), rule(3)) } == .notFound)
        }
    }

    @Test("a raise is in force from the running period's start for so many periods, and ends by itself")
    func raise() async throws {
        try await AdministrationHarness.with { harness in
            try await harness.makeTier(quotas: [rule(10), rule(5, .tokens, .none)])
            let tenant = try await harness.makeTenant()
            let quotas = try await list(harness, tenant.id)
            let month = try #require(quotas.first { $0.rule.frequency == .month })
            let forever = try #require(quotas.first { $0.rule.frequency == .none })
            let actor = AdministrationHarness.actor
            _ = try await harness.store.raiseQuota(month.id, by: 7, periods: 1, actor: actor)
            let row = try await harness.store.raiseQuota(month.id, by: 100, periods: 3, actor: actor)
            #expect(row.raised == 107 && row.rule.amount == 10)
            // The tenant's zone is that of Berlin, whose months the calendar gives; SQL's own agree.
            try await #expect(harness.texts(Raises()) == ["7 0 1", "100 0 3"])
            try await #expect(harness.texts(Limits(quotaID: month.id)) == ["117 110 110 10"])
            try await #expect(
                refusal { _ = try await harness.store.raiseQuota(forever.id, by: 1, periods: 2, actor: actor) }
                    == .validationFailed)
            _ = try await harness.store.raiseQuota(forever.id, by: .max, periods: 1, actor: actor)
            try await #expect(list(harness, tenant.id).first { $0.id == forever.id }?.raised == .max - 5)
            try await #expect(
                refusal {
                    _ = try await harness.store.raiseQuota(QuotaID(high: 1, low: 1), by: 1, periods: 1, actor: actor)
                } == .notFound)
        }
    }

    /// Amount, and in which months from the running one a raise begins and ends.
    private struct Raises: TextStatement {
        static let sql = """
            WITH here AS (SELECT date_trunc('month', now() AT TIME ZONE 'Europe/Berlin') AS month)
            SELECT concat_ws(' ', amount,
                (SELECT number FROM generate_series(0, 9) AS number
                    WHERE (month + make_interval(months => number)) AT TIME ZONE 'Europe/Berlin' = starts_at),
                (SELECT number FROM generate_series(0, 9) AS number
                    WHERE (month + make_interval(months => number)) AT TIME ZONE 'Europe/Berlin' = ends_at))
            FROM quota_raises, here ORDER BY amount
            """
    }

    /// The limit in the running month and the three after it.
    private struct Limits: TextStatement {
        static let sql = """
            SELECT string_agg(quota_limit(quota_id, amount, (date_trunc('month', now() AT TIME ZONE 'Europe/Berlin')
                + make_interval(months => number)) AT TIME ZONE 'Europe/Berlin')::text, ' ' ORDER BY number)
            FROM quotas, generate_series(0, 3) AS number WHERE quota_id = $1
            """
        static let parameters: [PostgresType] = [.uuid]
        let quotaID: QuotaID
        func bind(to binds: inout PostgresBinds) { binds.append(PostgresUUID(high: quotaID.high, low: quotaID.low)) }
    }

    @Test("every change is in the audit log with who, what, before and after, and one that changes nothing is not")
    func audited() async throws {
        try await AdministrationHarness.with { harness in
            try await harness.makeTier()
            let tenant = try await harness.makeTenant()
            let quota = try await set(harness, tenant.id, rule(77))
            _ = try await set(harness, tenant.id, rule(77))
            _ = try await harness.store.raiseQuota(quota.id, by: 3, periods: 2, actor: AdministrationHarness.actor)
            try await harness.store.deleteQuota(quota.id, by: AdministrationHarness.actor)
            let entries = try await audit(harness)
            #expect(entries.map(\.action) == ["quota.delete", "quota.raise", "quota.set"])
            for entry in entries {
                #expect(entry.actor == AdministrationHarness.actor.text && entry.tenantID == tenant.id)
                #expect(entry.subjectID == quota.id.description)
            }
            let befores = entries.map { $0.before ?? "" }
            let afters = entries.map { $0.after ?? "" }
            #expect(befores[2].contains("\"amount\": 1000") && befores[2].contains("\"origin\": \"tier\""))
            #expect(afters[2].contains("\"amount\": 77") && afters[2].contains("\"origin\": \"override\""))
            #expect(befores[1].contains("\"raises\": []") && afters[1].contains("\"amount\": 3"))
            #expect(befores[0].contains("\"amount\": 77") && afters[0].contains("\"amount\": 1000"))
        }
    }
}
