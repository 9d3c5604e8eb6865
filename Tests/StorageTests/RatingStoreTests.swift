import Domain
import PostgresDriver
import Storage
import TestSupport
import Testing

@Suite("what is rated")
struct RatingStoreTests {
    private static let rich = TierVersionID(high: 0x0190_0000_0000_7003, low: 0x8000_0000_0000_0010)
    private static let march = PeriodCalendar.utc.period(
        containing: instant("2026-03-10T00:00:00Z"), frequency: .month)

    private static func instant(_ text: String) -> Timestamp {
        Timestamp(rfc3339: text) ?? Timestamp(microsecondsSince1970: 0)
    }

    /// A version with every kind of term.
    private static let terms = """
        INSERT INTO tiers (code, name) VALUES ('rich', 'Rich');
        INSERT INTO tier_versions (tier_version_id, tier_code, version, currency, base_fee_micros, minimum_commitment_micros,
            included_requests, included_tokens) VALUES ('\(rich)', 'rich', 3, 'USD', 5000000, 7000000, 100, 2000);
        INSERT INTO tier_prices (tier_version_id, meter, model, unit_price, price_model, package_size) VALUES
            ('\(rich)', 'request', '*', 0.25, 'package', 1000), ('\(rich)', 'input_token', '*', 0, 'graduated', NULL),
            ('\(rich)', 'output_token', 'iris', 0, 'volume', NULL), ('\(rich)', 'output_token', '*', 0.000001, 'flat', NULL);
        INSERT INTO tier_price_bands (tier_version_id, meter, model, band, up_to, unit_price) VALUES
            ('\(rich)', 'input_token', '*', 2, NULL, 0.000001), ('\(rich)', 'input_token', '*', 1, 500, 0.000002),
            ('\(rich)', 'output_token', 'iris', 1, NULL, 0.5);
        INSERT INTO tier_multipliers VALUES ('\(rich)', 'input_token', 'iris', 2.5);
        """

    private static func entry(
        _ at: String, model: String = "iris", tier: TierVersionID = Seed.tier, tenant: TenantID = Seed.tenantA,
        input: Int = 10, output: Int = 1
    ) -> String {
        """
        INSERT INTO ledger (entry_id, request_id, tenant_id, key_id, kind, model, tier_version_id, requests, input_tokens,
            cached_input_tokens, output_tokens, token_source, occurred_at)
        SELECT id, id, '\(tenant)', '\(Seed.keyA)', 'usage', '\(model)', '\(tier)', 1, \(input), 3, \(output), 'worker', '\(at)'
        FROM gen_random_uuid() AS id;
        """
    }

    private func with(_ script: String, _ body: (StorageHarness, RatingStore) async throws -> Void) async throws {
        try await StorageHarness.with { harness in
            try await harness.run(script)
            try await harness.withPool("weir_reports") { try await body(harness, RatingStore(pool: $0)) }
        }
    }

    @Test("terms are read whole, of drafts too, and versions that do not exist are left out")
    func terms() async throws {
        try await with(Self.terms) { _, store in
            let all = try await store.terms([Self.rich, Seed.tier, TierVersionID(high: 1, low: 1)])
            #expect(Set(all.keys) == [Self.rich, Seed.tier])
            let terms = try #require(all[Self.rich])
            #expect(terms.tierCode == "rich" && terms.version == 3 && terms.currency == "USD")
            #expect(terms.baseFee == Micros(5_000_000) && terms.minimumCommitment == Micros(7_000_000))
            #expect(terms.includedRequests == 100 && terms.includedTokens == 2_000)
            let bands = [
                PriceBand(upTo: 500, unitPrice: UnitPrice(picos: 2_000_000)),
                PriceBand(upTo: nil, unitPrice: UnitPrice(picos: 1_000_000)),
            ]
            #expect(terms.rule(of: .inputToken, model: "other").price == .graduated(bands))
            #expect(
                terms.rule(of: .request, model: "x").price
                    == .package(size: 1_000, price: UnitPrice(picos: 250_000_000_000)))
            #expect(
                terms.rule(of: .outputToken, model: "iris").price
                    == .volume([PriceBand(upTo: nil, unitPrice: UnitPrice(picos: 500_000_000_000))]))
            #expect(terms.rule(of: .outputToken, model: "x").price == .flat(UnitPrice(picos: 1_000_000)))
            #expect(terms.multiplier(of: .inputToken, model: "iris") == Multiplier(millionths: 2_500_000))
        }
    }

    @Test("spans are clipped to the period, in order, and a trial is a span of its own")
    func spans() async throws {
        let script =
            Self.terms + """
                DELETE FROM subscriptions WHERE tenant_id = '\(Seed.tenantA)';
                INSERT INTO subscriptions (subscription_id, tenant_id, tier_version_id, starts_at, ends_at, trial_ends_at) VALUES
                    (gen_random_uuid(), '\(Seed.tenantA)', '\(Seed.tier)', '2026-01-05Z', '2026-03-02 10:00:00.000001Z', NULL),
                    (gen_random_uuid(), '\(Seed.tenantA)', '\(Self.rich)', '2026-03-02 10:00:00.000001Z', NULL, '2026-03-16 10:15:00Z');
                """
        try await with(script) { _, store in
            let spans = try await store.input(Seed.tenantA, Self.march).spans
            let change = Self.instant("2026-03-02T10:00:00.000001Z")
            let trial = Self.instant("2026-03-16T10:15:00Z")
            #expect(
                spans == [
                    SubscriptionSpan(tierVersionID: Seed.tier, start: Self.march.start, end: change),
                    SubscriptionSpan(tierVersionID: Self.rich, start: change, end: trial, isTrial: true),
                    SubscriptionSpan(tierVersionID: Self.rich, start: trial, end: Self.march.end),
                ])
            // Another month is all of the one and none of the other.
            let april = PeriodCalendar.utc.period(containing: Self.march.end, frequency: .month)
            let next = try await store.input(Seed.tenantA, april)
            #expect(next.spans.map(\.tierVersionID) == [Self.rich] && next.spans.map(\.isTrial) == [false])
            #expect(Set(next.terms.keys) == [Self.rich])
        }
    }

    @Test("usage counts each entry once, by when it occurred, whether it is rolled up or not")
    func usage() async throws {
        let script =
            Self.terms + """
                DELETE FROM subscriptions WHERE tenant_id = '\(Seed.tenantA)';
                INSERT INTO subscriptions (subscription_id, tenant_id, tier_version_id, starts_at, trial_ends_at) VALUES
                    (gen_random_uuid(), '\(Seed.tenantA)', '\(Self.rich)', '2026-03-02 10:05:00Z', '2026-03-16 10:15:00Z');
                """ + Self.entry("2026-02-28 23:59:59.999999Z") + Self.entry("2026-03-01 00:00:00Z")
            + Self.entry("2026-03-31 23:59:59.999999Z") + Self.entry("2026-04-01 00:00:00Z")
            + Self.entry("2026-03-02 10:06:00Z", tier: Self.rich)
            + Self.entry("2026-03-16 10:14:59.999999Z", tier: Self.rich, output: 5)
            + Self.entry("2026-03-16 10:15:00Z", tier: Self.rich)
            + Self.entry("2026-03-05 00:00:00Z", model: "other", tenant: Seed.tenantB)
        let expected: Set<UsageQuantity> = [
            UsageQuantity(
                tierVersionID: Seed.tier, model: "iris", requests: 2, inputTokens: 20, cachedInputTokens: 6,
                outputTokens: 2),
            UsageQuantity(
                tierVersionID: Self.rich, isTrial: true, model: "iris", requests: 2, inputTokens: 20,
                cachedInputTokens: 6, outputTokens: 6),
            UsageQuantity(
                tierVersionID: Self.rich, model: "iris", requests: 1, inputTokens: 10, cachedInputTokens: 3,
                outputTokens: 1),
        ]
        try await with(script) { harness, store in
            let before = try await store.input(Seed.tenantA, Self.march)
            #expect(Set(before.usage) == expected && before.usage.count == 3)
            #expect(Set(before.terms.keys) == [Seed.tier, Self.rich])
            try await harness.rollUpAll()
            #expect(try await Set(store.input(Seed.tenantA, Self.march).usage) == expected)
            try await harness.run(Self.entry("2026-03-31 12:00:00Z", model: "late"))
            let after = try await store.input(Seed.tenantA, Self.march).usage
            #expect(after.count == 4 && after.contains { $0.model == "late" && $0.requests == 1 })
        }
    }

    @Test("accounts come by tenant in pages")
    func accounts() async throws {
        try await with("") { _, store in
            #expect(
                try await store.account(Seed.tenantA)
                    == BillingAccount(tenantID: Seed.tenantA, name: "Tenant A", timeZone: "Europe/Berlin"))
            #expect(try await store.account(TenantID(high: 1, low: 1)) == nil)
            let first = try await store.accounts(after: nil, limit: 1)
            #expect(first.map(\.tenantID) == [Seed.tenantA])
            #expect(try await store.accounts(after: Seed.tenantA, limit: 5).map(\.tenantID) == [Seed.tenantB])
        }
    }
}
