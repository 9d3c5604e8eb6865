import Domain
import PostgresDriver
import Storage
import TestSupport
import Testing

@Suite("keys and prices")
struct DirectoryTests {
    private func find(_ harness: StorageHarness, _ ids: [String]) async throws -> [KeyRecord] {
        try await harness.withPool("weir_directory") { pool in
            try await KeyStore(pool: pool).find(ids.compactMap { APIKey.PublicID($0) })
        }
    }

    private func principal(_ record: KeyRecord?) throws -> (Principal, KeyRecord.TenantState) {
        guard case .customer(let principal, let state) = try #require(record).holder else {
            throw NeverHappened(description: "no customer")
        }
        return (principal, state)
    }

    @Test("a key is found with its tenant, tier and quotas")
    func customer() async throws {
        try await StorageHarness.with { harness in
            let records = try await find(harness, ["AAAAAAAAAAAA"])
            let record = try #require(records.first)
            #expect(records.count == 1)
            #expect(record.digest == [UInt8](repeating: 0xA1, count: 32))
            #expect(record.expiresAt == nil)
            #expect(record.revokedAt == nil)
            let (principal, state) = try principal(record)
            #expect(state == .active)
            #expect(principal.tenantID == Seed.tenantA)
            #expect(principal.keyID == Seed.keyA)
            #expect(principal.userID == Seed.userA)
            #expect(principal.scopes == [.predict, .read])
            #expect(principal.allowedModels == nil)
            #expect(principal.environment == .live)
            #expect(principal.tierVersionID == Seed.tier)
            #expect(Set(principal.quotas) == [Seed.tokenQuotaA, Seed.requestQuotaA])
            #expect(principal.timeZone == "Europe/Berlin")
            #expect(principal.retention == .full)
        }
    }

    @Test("several keys are found at once; unknown ones are left out")
    func several() async throws {
        try await StorageHarness.with { harness in
            let records = try await find(harness, ["AAAAAAAAAAAA", "BBBBBBBBBBBB", "CCCCCCCCCCCC"])
            #expect(Set(records.map(\.publicID.description)) == ["AAAAAAAAAAAA", "BBBBBBBBBBBB"])
            try await #expect(find(harness, []).isEmpty)
        }
    }

    @Test("revoked and expired keys are found, with their times")
    func ended() async throws {
        try await StorageHarness.with { harness in
            try await harness.run(
                "UPDATE api_keys SET revoked_at = '2026-01-02T03:04:05.678901Z', expires_at = '2026-02-01Z' WHERE key_id = '\(Seed.keyA)'"
            )
            let record = try #require(try await find(harness, ["AAAAAAAAAAAA"]).first)
            #expect(record.revokedAt?.description == "2026-01-02T03:04:05.678901Z")
            #expect(record.expiresAt != nil)
        }
    }

    @Test("a tenant that is suspended or has no tier in force is told apart")
    func states() async throws {
        try await StorageHarness.with { harness in
            try await harness.run(
                "UPDATE subscriptions SET ends_at = now() + interval '1 ms' WHERE tenant_id = '\(Seed.tenantB)'")
            try await #expect(principal(find(harness, ["BBBBBBBBBBBB"]).first).1 == .unsubscribed)
            try await harness.run("UPDATE tenants SET state = 'suspended'")
            try await #expect(principal(find(harness, ["BBBBBBBBBBBB"]).first).1 == .suspended)
            try await #expect(principal(find(harness, ["AAAAAAAAAAAA"]).first).1 == .suspended)
        }
    }

    @Test("a scope that this build does not know is left out, and models are limited where the key says so")
    func scopes() async throws {
        try await StorageHarness.with { harness in
            try await harness.run(
                "UPDATE api_keys SET scopes = '{read,everything}', allowed_models = '{iris}' WHERE key_id = '\(Seed.keyA)'"
            )
            let (principal, _) = try principal(try await find(harness, ["AAAAAAAAAAAA"]).first)
            #expect(principal.scopes == [.read])
            #expect(principal.allowedModels == ["iris"])
        }
    }

    @Test("an operator's key belongs to no tenant")
    func admin() async throws {
        try await StorageHarness.with { harness in
            try await harness.run(
                """
                INSERT INTO api_keys (key_id, public_id, digest, environment, last_four, scopes)
                VALUES (gen_random_uuid(), 'OOOOOOOOOOOO', decode(repeat('00', 32), 'hex'), 'admn', 'oooo', '{admin}')
                """)
            guard case .admin(let holder) = try await find(harness, ["OOOOOOOOOOOO"]).first?.holder else {
                Issue.record("a customer, or nobody")
                return
            }
            #expect(holder.scopes == [.admin])
        }
    }

    @Test("a customer's key cannot be without a tenant, nor an operator's with one")
    func keyKinds() async throws {
        try await StorageHarness.with { harness in
            func insert(_ environment: String, _ tenant: String) -> String {
                """
                INSERT INTO api_keys (key_id, tenant_id, public_id, digest, environment, last_four, scopes)
                VALUES (gen_random_uuid(), \(tenant), 'OOOOOOOOOOOO', decode(repeat('00', 32), 'hex'), '\(environment)', 'oooo', '{}')
                """
            }
            try await #expect(harness.sqlState(of: insert("live", "NULL")) == "23514")
            try await #expect(harness.sqlState(of: insert("admn", "'\(Seed.tenantA)'")) == "23514")
        }
    }

    @Test("a published price sheet is read to the last place, a draft and an unknown one are not there")
    func prices() async throws {
        try await StorageHarness.with { harness in
            try await harness.withPool("weir_directory") { pool in
                let store = PriceStore(pool: pool)
                let sheet = try #require(try await store.sheet(Seed.tier))
                #expect(sheet.tierCode == "plain")
                #expect(sheet.version == 1)
                #expect(sheet.currency == "EUR")
                #expect(sheet.price(of: .request, model: "other") == UnitPrice(picos: 100_000_000))
                #expect(sheet.price(of: .inputToken, model: "iris") == UnitPrice(picos: 1))
                #expect(sheet.price(of: .inputToken, model: "other") == .free)
                try await #expect(store.sheet(Seed.draftTier) == nil)
                try await #expect(store.sheet(TierVersionID(high: 1, low: 1)) == nil)
            }
        }
    }

    @Test("a tier without prices is free; one that was retired still has its prices")
    func freeAndRetired() async throws {
        try await StorageHarness.with { harness in
            try await harness.run(
                """
                UPDATE tier_versions SET state = 'published', published_at = now() WHERE tier_version_id = '\(Seed.draftTier)';
                UPDATE tier_versions SET state = 'retired' WHERE tier_version_id = '\(Seed.tier)';
                """)
            try await harness.withPool("weir_directory") { pool in
                let store = PriceStore(pool: pool)
                let free = try #require(try await store.sheet(Seed.draftTier))
                #expect(free.price(of: .request, model: "iris") == .free)
                try await #expect(
                    store.sheet(Seed.tier)?.price(of: .request, model: "iris") == UnitPrice(picos: 100_000_000))
            }
        }
    }

    @Test("a price that this build cannot read is an error and not a free one")
    func unreadablePrice() async throws {
        try await StorageHarness.with { harness in
            try await harness.run(
                """
                ALTER TABLE tier_prices DROP CONSTRAINT tier_prices_meter_check;
                INSERT INTO tier_prices (tier_version_id, meter, unit_price) VALUES ('\(Seed.draftTier)', 'second', 1);
                UPDATE tier_versions SET state = 'published', published_at = now() WHERE tier_version_id = '\(Seed.draftTier)';
                """)
            try await harness.withPool("weir_directory") { pool in
                _ = await #expect(throws: StoreUnavailable.self) {
                    _ = try await PriceStore(pool: pool).sheet(Seed.draftTier)
                }
            }
        }
    }
}
