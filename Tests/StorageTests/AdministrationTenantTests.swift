import Domain
import PostgresDriver
import Storage
import Testing

@Suite("Administration of tenants")
struct AdministrationTenantTests {
    private struct Quotas: TextStatement {
        static let sql = """
            SELECT concat_ws(' ', unit, frequency, amount, mode, CASE WHEN retired_at IS NOT NULL THEN 'retired' END)
            FROM quotas WHERE tenant_id = $1 ORDER BY unit, frequency
            """
        static let parameters: [PostgresType] = [.uuid]
        let tenantID: TenantID
        func bind(to binds: inout PostgresBinds) { binds.append(PostgresUUID(high: tenantID.high, low: tenantID.low)) }
    }

    private struct QuotaIDs: TextStatement {
        static let sql = "SELECT quota_id::text FROM quotas WHERE retired_at IS NULL ORDER BY quota_id"
    }

    private struct Subscriptions: TextStatement {
        static let sql = """
            SELECT concat_ws(' ', v.tier_code, s.ends_at IS NOT DISTINCT FROM lead(s.starts_at) OVER (ORDER BY s.starts_at))
            FROM subscriptions s JOIN tier_versions v USING (tier_version_id) ORDER BY s.starts_at
            """
    }

    private struct Generation: TextStatement {
        static let sql = "SELECT value::text FROM control_generation"
    }

    private static let rules = [
        QuotaRule(unit: .requests, frequency: .month, amount: 1_000, mode: .hard),
        QuotaRule(unit: .tokens, frequency: .day, amount: 5, mode: .soft),
    ]

    @Test("a tenant is made with the subscription and the quotas of its tier")
    func create() async throws {
        try await AdministrationHarness.with { harness in
            let tier = try await harness.makeTier(quotas: Self.rules)
            let made = try await harness.makeTenant("Bäckerei")
            #expect(made.name == "Bäckerei")
            #expect(made.timeZone == "Europe/Berlin")
            #expect(made.tierCode == "plain")
            #expect(made.tierVersionID == tier.version.id)
            let found = try await harness.store.tenant(made.id)
            #expect(found == made)
            let quotas = try await harness.texts(Quotas(tenantID: made.id))
            #expect(quotas == ["requests month 1000 hard", "tokens day 5 soft"])
        }
    }

    @Test("a tenant of a tier that is not there is refused, and nothing stays behind")
    func unknownTier() async throws {
        try await AdministrationHarness.with { harness in
            let failure = await refusal { _ = try await harness.makeTenant(tier: "nothing") }
            #expect(failure?.code == .validationFailed)
            #expect(failure?.errors.map(\.location) == ["/tier"])
            let page = try await harness.store.tenants(PageRequest(limit: 10))
            #expect(page.elements.isEmpty)
            let audit = try await harness.store.audit(AuditQuery(page: PageRequest(limit: 10)))
            #expect(audit.elements.isEmpty)
        }
    }

    @Test("an unknown tenant is not found by any verb")
    func unknownTenant() async throws {
        try await AdministrationHarness.with { harness in
            let id = TenantID(high: 1, low: 1)
            let found = await refusal { _ = try await harness.store.tenant(id) }
            let changed = await refusal {
                _ = try await harness.store.changeTenant(id, TenantChange(name: "x"), by: .system)
            }
            let keys = await refusal { _ = try await harness.store.keys(of: id, PageRequest(limit: 1)) }
            let key = await refusal {
                _ = try await harness.store.createKey(
                    NewKey(
                        tenantID: id, name: "", environment: .live, scopes: [.read], allowedModels: nil, expiresAt: nil),
                    by: .system)
            }
            #expect([found, changed, keys, key].map { $0?.code } == [.notFound, .notFound, .notFound, .notFound])
        }
    }

    @Test("tenants come newest first, page by page in both directions")
    func pages() async throws {
        try await AdministrationHarness.with { harness in
            try await harness.makeTier()
            for name in ["a", "b", "c", "d", "e"] { _ = try await harness.makeTenant(name) }
            let first = try await harness.store.tenants(PageRequest(limit: 2))
            #expect(first.elements.map(\.name) == ["e", "d"])
            #expect(first.hasMore)
            let second = try await harness.store.tenants(PageRequest(limit: 2, after: first.elements[1].id))
            #expect(second.elements.map(\.name) == ["c", "b"])
            #expect(second.hasMore)
            let third = try await harness.store.tenants(PageRequest(limit: 2, after: second.elements[1].id))
            #expect(third.elements.map(\.name) == ["a"])
            #expect(!third.hasMore)
            let back = try await harness.store.tenants(PageRequest(limit: 2, before: third.elements[0].id))
            #expect(back.elements.map(\.name) == ["c", "b"])
            #expect(back.hasMore)
            let front = try await harness.store.tenants(PageRequest(limit: 2, before: back.elements[0].id))
            #expect(front.elements.map(\.name) == ["e", "d"])
            #expect(!front.hasMore)
        }
    }

    @Test("a change changes what it names and nothing else")
    func change() async throws {
        try await AdministrationHarness.with { harness in
            try await harness.makeTier()
            let made = try await harness.makeTenant()
            let suspended = try await harness.store.changeTenant(made.id, TenantChange(state: .suspended), by: .system)
            #expect(suspended.state == .suspended)
            #expect(suspended.name == made.name)
            #expect(suspended.tierVersionID == made.tierVersionID)
            let renamed = try await harness.store.changeTenant(
                made.id, TenantChange(name: "Other", timeZone: "Asia/Tokyo", state: .active, retention: .full),
                by: .system)
            #expect(renamed.name == "Other")
            #expect(renamed.timeZone == "Asia/Tokyo")
            #expect(renamed.state == .active)
            #expect(renamed.retention == .full)
        }
    }

    @Test("every change reaches the gateways' generation")
    func generation() async throws {
        try await AdministrationHarness.with { harness in
            try await harness.makeTier()
            let made = try await harness.makeTenant()
            let before = try await harness.texts(Generation())
            _ = try await harness.store.changeTenant(made.id, TenantChange(state: .suspended), by: .system)
            let after = try await harness.texts(Generation())
            #expect(before != after)
        }
    }

    @Test("another tier begins where the old one ends; a quota that stays keeps its identity, one that goes is retired")
    func changeTier() async throws {
        try await AdministrationHarness.with { harness in
            try await harness.makeTier(quotas: Self.rules)
            try await harness.makeTier(
                "large",
                quotas: [
                    QuotaRule(unit: .requests, frequency: .month, amount: 9_000, mode: .soft),
                    QuotaRule(unit: .tokens, frequency: .month, amount: 7, mode: .hard),
                ])
            let made = try await harness.makeTenant()
            let before = try await harness.texts(QuotaIDs())
            let changed = try await harness.store.changeTenant(made.id, TenantChange(tierCode: "large"), by: .system)
            #expect(changed.tierCode == "large")
            let quotas = try await harness.texts(Quotas(tenantID: made.id))
            #expect(quotas == ["requests month 9000 soft", "tokens day 5 soft retired", "tokens month 7 hard"])
            let after = try await harness.texts(QuotaIDs())
            #expect(Set(before).intersection(after).count == 1)
            let subscriptions = try await harness.texts(Subscriptions())
            #expect(subscriptions == ["plain t", "large t"])
            _ = try await harness.store.changeTenant(made.id, TenantChange(tierCode: "plain"), by: .system)
            let again = try await harness.texts(Quotas(tenantID: made.id))
            #expect(again == ["requests month 1000 hard", "tokens day 5 soft", "tokens month 7 soft retired"])
        }
    }

    @Test("a change to the tier in force changes nothing and is not logged")
    func sameTier() async throws {
        try await AdministrationHarness.with { harness in
            try await harness.makeTier()
            let made = try await harness.makeTenant()
            let changed = try await harness.store.changeTenant(
                made.id, TenantChange(name: made.name, tierCode: "plain"), by: .system)
            #expect(changed == made)
            let subscriptions = try await harness.texts(Subscriptions())
            #expect(subscriptions == ["plain t"])
            let audit = try await harness.store.audit(AuditQuery(page: PageRequest(limit: 10), tenantID: made.id))
            #expect(audit.elements.map(\.action) == ["tenant.create"])
        }
    }

    @Test("a change with an unknown tier changes nothing at all")
    func rolledBack() async throws {
        try await AdministrationHarness.with { harness in
            try await harness.makeTier()
            let made = try await harness.makeTenant()
            let failure = await refusal {
                _ = try await harness.store.changeTenant(
                    made.id, TenantChange(name: "Other", tierCode: "nothing"), by: .system)
            }
            #expect(failure?.code == .validationFailed)
            let found = try await harness.store.tenant(made.id)
            #expect(found == made)
        }
    }

    @Test("changes of one tenant at the same time leave one subscription in force")
    func together() async throws {
        try await AdministrationHarness.with { harness in
            let codes = ["plain", "a", "b", "c"]
            for code in codes { try await harness.makeTier(code) }
            let made = try await harness.makeTenant()
            try await withThrowingTaskGroup(of: Void.self) { group in
                for index in 0..<12 {
                    group.addTask {
                        _ = try await harness.store.changeTenant(
                            made.id, TenantChange(tierCode: codes[index % 4]), by: .system)
                    }
                }
                try await group.waitForAll()
            }
            let subscriptions = try await harness.texts(Subscriptions())
            #expect(subscriptions.allSatisfy { $0.hasSuffix(" t") }, "\(subscriptions)")
        }
    }
}

/// The refusal that a body ends with; `nil` where it ends well. Any other error is a failure of the test.
func refusal(_ body: () async throws -> Void) async -> Refusal? {
    do {
        try await body()
        return nil
    } catch AdministrationFailure.refused(let refusal) {
        return refusal
    } catch {
        Issue.record(error)
        return nil
    }
}
