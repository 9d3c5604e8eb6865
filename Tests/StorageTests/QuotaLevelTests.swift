import Domain
import PostgresDriver
import Storage
import TestSupport
import Testing

@Suite("quotas of tenants, users and keys")
struct QuotaLevelTests {
    private static let ofUser = QuotaID(high: 0x0190_0000_0000_7004, low: 0x8000_0000_0000_00C1)
    private static let ofKey = QuotaID(high: 0x0190_0000_0000_7004, low: 0x8000_0000_0000_00C2)

    private func addQuotas(_ harness: StorageHarness) async throws {
        try await harness.run(
            """
            INSERT INTO quotas (quota_id, tenant_id, user_id, key_id, unit, frequency, amount, anchor) VALUES
                ('\(Self.ofUser)', '\(Seed.tenantA)', '\(Seed.userA)', NULL, 'tokens', 'month', 7, '2026-01-31T09:15:30Z'),
                ('\(Self.ofKey)', '\(Seed.tenantA)', NULL, '\(Seed.keyA2)', 'requests', 'day', 8, NULL)
            """)
    }

    private func quotas(_ publicID: String, _ pool: PostgresPool) async throws -> [Quota] {
        let id = try #require(APIKey.PublicID(publicID))
        let record = try #require(try await KeyStore(pool: pool).find([id]).first)
        guard case .customer(let principal, _) = record.holder else { throw NeverHappened(description: "a customer") }
        return principal.quotas
    }

    @Test("a key has the quotas of its tenant, of its user and its own, in the order of their ids")
    func principal() async throws {
        try await StorageHarness.with { harness in
            try await addQuotas(harness)
            try await harness.withPool("weir_directory") { pool in
                let tenants = [Seed.tokenQuotaA, Seed.requestQuotaA]
                let ofUser = Quota(
                    id: Self.ofUser, unit: .tokens, frequency: .month, amount: 7, mode: .hard, level: .user,
                    anchor: Timestamp(rfc3339: "2026-01-31T09:15:30Z"))
                let ofKey = Quota(
                    id: Self.ofKey, unit: .requests, frequency: .day, amount: 8, mode: .hard, level: .key)
                try await #expect(quotas("AAAAAAAAAAAA", pool) == tenants + [ofUser])
                try await #expect(quotas("A2A2A2A2A2A2", pool) == tenants + [ofKey])
                try await #expect(quotas("BBBBBBBBBBBB", pool) == [Seed.tokenQuotaB])
            }
        }
    }

    @Test(
        "a raise that is in force counts for keys, for what is leased and for what is shown; one that is over does not")
    func raised() async throws {
        try await StorageHarness.with { harness in
            let period = Seed.period(Seed.tokenQuotaA)
            func raise(_ amount: Int64, _ start: Timestamp, _ end: Timestamp) async throws {
                try await harness.run(
                    """
                    INSERT INTO quota_raises (raise_id, quota_id, tenant_id, amount, starts_at, ends_at)
                    VALUES (gen_random_uuid(), '\(Seed.tokensA)', '\(Seed.tenantA)', \(amount), '\(start)', '\(end)')
                    """)
            }
            try await harness.run("UPDATE quotas SET amount = 100 WHERE quota_id = '\(Seed.tokensA)'")
            try await raise(7, period.start, period.end)
            try await raise(1_000, period.start.advanced(byMilliseconds: -86_400_000), period.start)
            try await raise(1_000, period.end, period.end.advanced(byMilliseconds: 86_400_000))
            try await harness.withPool("weir_directory") { pool in
                try await #expect(quotas("AAAAAAAAAAAA", pool).map(\.amount) == [107, 100_000])
            }
            try await harness.withLeases { leases in
                guard
                    case .granted(let grants, _) = try await leases.acquire(
                        Seed.request([(Seed.tokenQuotaA, 107, 107)]))
                else { throw NeverHappened(description: "a grant") }
                #expect(grants.map(\.slice.quota.amount) == [107])
                guard case .refused = try await leases.acquire(Seed.request([(Seed.tokenQuotaA, 1, 1)])) else {
                    throw NeverHappened(description: "a refusal")
                }
            }
            try await harness.withPool("weir_reader") { pool in
                let states = try await CustomerStore(pool: pool).quotaStates(
                    tenantID: Seed.tenantA, periods: [(Seed.tokensA, period)])
                #expect(states.map(\.quota.amount) == [107] && states.map(\.held) == [107])
            }
        }
    }

    @Test("there is one quota of a unit and frequency for each tenant, user and key, and none of a user and a key")
    func once() async throws {
        try await StorageHarness.with { harness in
            try await addQuotas(harness)
            let insert =
                "INSERT INTO quotas (quota_id, tenant_id, user_id, key_id, unit, frequency, amount) VALUES (gen_random_uuid(), "
            for values in [
                "'\(Seed.tenantA)', NULL, NULL, 'tokens', 'month', 1)",
                "'\(Seed.tenantA)', '\(Seed.userA)', NULL, 'tokens', 'month', 1)",
                "'\(Seed.tenantA)', NULL, '\(Seed.keyA2)', 'requests', 'day', 1)",
            ] {
                try await #expect(harness.sqlState(of: insert + values) == "23505")
            }
            try await #expect(
                harness.sqlState(
                    of: insert + "'\(Seed.tenantA)', '\(Seed.userA)', '\(Seed.keyA)', 'tokens', 'year', 1)") == "23514")
        }
    }

    @Test("every level's numbers are read in one statement, and what is available, held and settled is the limit")
    func states() async throws {
        try await StorageHarness.with { harness in
            try await addQuotas(harness)
            let ofKey = Quota(id: Self.ofKey, unit: .requests, frequency: .day, amount: 8, mode: .hard, level: .key)
            let lease = Seed.request([(Seed.requestQuotaA, 1, 5), (ofKey, 1, 5)])
            try await harness.withLeases { leases in
                _ = try await leases.acquire(lease)
                _ = try await harness.settle([Seed.settlement(key: Seed.keyA2, lease: lease.leaseID)])
            }
            try await harness.withPool("weir_reader") { pool in
                let states = try await CustomerStore(pool: pool).quotaStates(
                    tenantID: Seed.tenantA,
                    periods: [Seed.requestQuotaA, ofKey].map { ($0.id, Seed.period($0)) })
                #expect(states.map(\.quota.level) == [.tenant, .key])
                #expect(states.map(\.settled) == [1, 1])
                // At most a quarter of what is left, and one of it spent.
                #expect(states.map(\.held) == [4, 1])
            }
        }
    }

    @Test("a quota that is aligned to the subscription keeps the start of the first one through changes of the tier")
    func anchor() async throws {
        try await AdministrationHarness.with { harness in
            func rules(_ amount: Int64, _ alignment: QuotaAlignment) -> [QuotaRule] {
                [QuotaRule(unit: .tokens, frequency: .month, amount: amount, mode: .hard, alignment: alignment)]
            }
            for (code, amount, alignment) in [("a", 1, .subscription), ("b", 2, .subscription), ("c", 3, .calendar)]
                as [(String, Int64, QuotaAlignment)]
            {
                let made = try await harness.makeTier(code, quotas: rules(amount, alignment))
                #expect(made.version.offer.quotas == rules(amount, alignment))
            }
            let tenant = try await harness.makeTenant(tier: "a")
            func anchor() async throws -> [String] {
                try await harness.texts(Anchors(tenantID: tenant.id))
            }
            try await #expect(anchor() == ["1 the first subscription's"])
            for (tier, expected) in [
                ("b", "2 the first subscription's"), ("c", "3 none"), ("b", "2 the last subscription's"),
            ] {
                _ = try await harness.store.changeTenant(tenant.id, TenantChange(tierCode: tier), by: .system)
                try await #expect(anchor() == [expected])
            }
        }
    }

    /// The amount and the anchor of the tenant's quota.
    private struct Anchors: TextStatement {
        static let sql = """
            SELECT q.amount || ' ' || CASE q.anchor WHEN NULL THEN 'none'
                WHEN (SELECT min(starts_at) FROM subscriptions WHERE tenant_id = $1) THEN 'the first subscription''s'
                WHEN (SELECT max(starts_at) FROM subscriptions WHERE tenant_id = $1) THEN 'the last subscription''s'
                ELSE 'none' END
            FROM quotas q WHERE q.tenant_id = $1
            """
        static let parameters: [PostgresType] = [.uuid]
        let tenantID: TenantID

        func bind(to binds: inout PostgresBinds) {
            binds.append(PostgresUUID(high: tenantID.high, low: tenantID.low))
        }
    }
}
