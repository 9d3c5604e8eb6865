import Domain
import PostgresDriver
import Storage
import TestSupport
import Testing

@Suite("Administration of rate limits")
struct AdministrationRateLimitTests {
    private static let tierLimits = [
        RateLimitRule(scope: .key, unit: .concurrency, amount: 4),
        RateLimitRule(scope: .key, unit: .requests, amount: 60, burst: 10),
        RateLimitRule(scope: .tenant, unit: .requests, amount: 600, burst: 100),
        RateLimitRule(scope: .tenant, unit: .tokens, amount: 90_000),
    ]

    private func makeTier(_ harness: AdministrationHarness, _ code: String, _ limits: [RateLimitRule])
        async throws
        -> TierRow
    {
        try await harness.store.createTier(
            NewTier(
                code: code, name: code, currency: "EUR", baseFee: .zero, prices: [], quotas: [], rateLimits: limits),
            by: AdministrationHarness.actor)
    }

    private func newKey(_ tenant: TenantID, _ limits: [RateLimitRule] = []) -> NewKey {
        NewKey(
            tenantID: tenant, name: "k", environment: .live, scopes: [.predict], allowedModels: nil, expiresAt: nil,
            rateLimits: limits)
    }

    /// The limits that the gateway's directory finds for a key.
    private func inForce(_ harness: AdministrationHarness, _ key: CreatedKey) async throws -> RateLimits? {
        let records = try await harness.asRole("weir_directory") { pool in
            try await KeyStore(pool: pool).find([key.key.publicID])
        }
        guard case .customer(let principal, .active) = try #require(records.first).holder else { return nil }
        return principal.rateLimits
    }

    private func generation(_ harness: AdministrationHarness) async throws -> Int64 {
        try await harness.asRole("weir_directory") { pool in try await KeyStore(pool: pool).generation() }
    }

    @Test("a tier's limits are those of its subscribers and of each of their keys")
    func tier() async throws {
        try await AdministrationHarness.with { harness in
            let tier = try await makeTier(harness, "fast", Self.tierLimits)
            #expect(tier.version.offer.rateLimits == Self.tierLimits)
            #expect(
                try await harness.store.tiers(PageRequest(limit: 5)).elements.map(\.version.offer.rateLimits)
                    == [Self.tierLimits])
            let tenant = try await harness.makeTenant(tier: "fast")
            #expect(tenant.rateLimits.isEmpty)
            let key = try await harness.store.createKey(newKey(tenant.id), by: .system)
            #expect(try await inForce(harness, key) == RateLimits(Self.tierLimits))
        }
    }

    @Test("a tenant without limits has none to ask for")
    func none() async throws {
        try await AdministrationHarness.with { harness in
            try await harness.makeTier()
            let key = try await harness.store.createKey(newKey(try await harness.makeTenant().id), by: .system)
            #expect(try await inForce(harness, key) == nil)
        }
    }

    @Test("a subscription says otherwise than its tier, and a key otherwise than both; the audit log says who did it")
    func overrides() async throws {
        try await AdministrationHarness.with { harness in
            _ = try await makeTier(harness, "fast", Self.tierLimits)
            let tenant = try await harness.makeTenant(tier: "fast")
            let key = try await harness.store.createKey(
                newKey(tenant.id, [RateLimitRule(scope: .key, unit: .requests, amount: 5)]), by: .system)
            #expect(key.row.rateLimits == [RateLimitRule(scope: .key, unit: .requests, amount: 5)])
            let before = try await generation(harness)
            let changed = try await harness.store.changeTenant(
                tenant.id,
                TenantChange(rateLimits: [
                    RateLimitRule(scope: .key, unit: .requests, amount: 30),
                    RateLimitRule(scope: .tenant, unit: .requests, amount: 1_200, burst: 7),
                    RateLimitRule(scope: .tenant, unit: .tokens, amount: nil),
                ]), by: AdministrationHarness.actor)
            #expect(changed.rateLimits.count == 3)
            #expect(try await generation(harness) > before, "gateways learn of it")
            let limits = try #require(try await inForce(harness, key))
            #expect(limits.tenant == ScopeLimits(requests: RateLimit(amount: 1_200, burst: 7)))
            #expect(limits.key.requests == RateLimit(amount: 5) && limits.key.concurrency?.amount == 4)
            let entry = try #require(
                try await harness.store.audit(AuditQuery(page: PageRequest(limit: 1))).elements.first)
            #expect(entry.action == "tenant.change" && entry.actor == AdministrationHarness.actor.text)
            #expect(entry.before?.contains(#""rate_limits": []"#) == true)
            #expect(entry.after?.contains(#""amount": 1200"#) == true)
        }
    }

    @Test("a key's limits are replaced as a whole, with an entry in the audit log; the same again makes none")
    func key() async throws {
        try await AdministrationHarness.with { harness in
            try await harness.makeTier()
            let tenant = try await harness.makeTenant()
            let key = try await harness.store.createKey(newKey(tenant.id), by: .system)
            let limits = [RateLimitRule(scope: .key, unit: .concurrency, amount: 2)]
            let before = try await generation(harness)
            for _ in 0..<2 {
                let row = try await harness.store.changeKey(
                    .publicID(key.key.publicID), KeyChange(rateLimits: limits), by: AdministrationHarness.actor)
                #expect(row.rateLimits == limits)
            }
            #expect(try await generation(harness) > before)
            #expect(try await inForce(harness, key) == RateLimits(key: ScopeLimits(concurrency: RateLimit(amount: 2))))
            let audit = try await harness.store.audit(AuditQuery(page: PageRequest(limit: 10), action: "key.change"))
            #expect(audit.elements.count == 1 && audit.elements.first?.subjectID == key.row.id.description)
            _ = try await harness.store.changeKey(.id(key.row.id), KeyChange(rateLimits: []), by: .system)
            #expect(try await inForce(harness, key) == nil)
            await #expect(throws: AdministrationFailure.self) {
                _ = try await harness.store.changeKey(
                    .id(KeyID(high: 1, low: 1)), KeyChange(rateLimits: []), by: .system)
            }
        }
    }

    @Test("another tier begins with its own limits")
    func change() async throws {
        try await AdministrationHarness.with { harness in
            _ = try await makeTier(harness, "fast", Self.tierLimits)
            _ = try await makeTier(harness, "slow", [RateLimitRule(scope: .tenant, unit: .requests, amount: 6)])
            let tenant = try await harness.store.createTenant(
                NewTenant(
                    name: "t", timeZone: "UTC", state: .active, retention: .none, tierCode: "fast",
                    rateLimits: [RateLimitRule(scope: .tenant, unit: .requests, amount: 9)]), by: .system)
            #expect(tenant.rateLimits.count == 1)
            let key = try await harness.store.createKey(newKey(tenant.id), by: .system)
            #expect(try await inForce(harness, key)?.tenant.requests == RateLimit(amount: 9))
            let moved = try await harness.store.changeTenant(tenant.id, TenantChange(tierCode: "slow"), by: .system)
            #expect(moved.rateLimits.isEmpty)
            #expect(
                try await inForce(harness, key)
                    == RateLimits(tenant: ScopeLimits(requests: RateLimit(amount: 6))))
        }
    }

    @Test("a published tier's limits never change, and no table takes what makes no sense")
    func constraints() async throws {
        try await StorageHarness.with { harness in
            #expect(
                try await harness.sqlState(
                    of: "INSERT INTO tier_rate_limits VALUES ('\(Seed.tier)', 'tenant', 'requests', 5)") == "23514")
            try await harness.run(
                "INSERT INTO key_rate_limits VALUES ('\(Seed.keyA)', '\(Seed.tenantA)', 'requests', 5, 5)")
            for values in ["'concurrency', 5, 5", "'requests', -1, NULL", "'tokens', NULL, 5", "'words', 5, NULL"] {
                let state = try await harness.sqlState(
                    of: "INSERT INTO key_rate_limits VALUES ('\(Seed.keyA)', '\(Seed.tenantA)', \(values))")
                #expect(state == "23514", "\(values)")
            }
            let seen = try await harness.ask(
                "SELECT unit FROM key_rate_limits", as: "weir_reader", tenant: Seed.tenantB)
            #expect(seen.isEmpty, "a tenant sees its own alone")
        }
    }
}
