import Domain
import PostgresDriver
import Storage
import Testing

@Suite("Administration of the versions of tiers")
struct AdministrationTierTests {
    private static let digest = String(repeating: "0", count: 64)

    private static func offer(
        fee: Int64 = 49_000_000, request: Int64 = 100_000_000, currency: String = "EUR"
    ) -> TierOffer {
        TierOffer(
            currency: currency, baseFee: Micros(fee),
            rules: [
                PriceRule(meter: .inputToken, model: "iris", price: .flat(UnitPrice(picos: 1))),
                PriceRule(meter: .request, model: "*", price: .flat(UnitPrice(picos: request))),
            ], quotas: [QuotaRule(unit: .requests, frequency: .month, amount: 1_000, mode: .hard)])
    }

    /// Everything that a version can say, in the order in which the database gives it back.
    private static let rich = TierOffer(
        currency: "EUR", baseFee: Micros(50_000_000), minimumCommitment: Micros(60_000_000), includedRequests: 7,
        includedTokens: 8, trialDays: 14, cacheHitTokenPercent: 50, streamLeave: .drain,
        requestTerms: RequestTerms(cacheHit: .free, failure: .charged), resultTTLSeconds: 60,
        rules: [
            PriceRule(
                meter: .inputToken, model: "iris",
                price: .graduated([
                    PriceBand(upTo: 1_000, unitPrice: UnitPrice(picos: 3)),
                    PriceBand(upTo: nil, unitPrice: UnitPrice(picos: 1)),
                ])),
            PriceRule(
                meter: .outputToken, model: "*",
                price: .volume([
                    PriceBand(upTo: 10, unitPrice: UnitPrice(picos: 4)),
                    PriceBand(upTo: nil, unitPrice: UnitPrice(picos: 2)),
                ])),
            PriceRule(meter: .request, model: "*", price: .package(size: 100, price: UnitPrice(picos: 10_000_000_000))),
        ],
        multipliers: [
            TierTerms.ModelMultiplier(
                meter: .outputToken, model: "big", multiplier: Multiplier(millionths: 2_500_000))
        ], quotas: [QuotaRule(unit: .tokens, frequency: .day, amount: 5, mode: .soft)],
        rateLimits: [RateLimitRule(scope: .tenant, unit: .requests, amount: 600, burst: 50)])

    private static func name(_ number: Int32, code: String = "plain") -> TierVersionName {
        TierVersionName(code: code, number: number)
    }

    private static let publication = TierPublication(factor: 3)

    private func publish(_ harness: AdministrationHarness, _ number: Int32) async throws -> TierRow {
        try await harness.store.publishTierVersion(
            Self.name(number), Self.publication, by: AdministrationHarness.actor)
    }

    @Test("a draft comes back as it was made, changes, and is gone when it is deleted")
    func draft() async throws {
        try await AdministrationHarness.with { harness in
            let (store, actor) = (harness.store, AdministrationHarness.actor)
            try await harness.makeTier()
            let made = try await store.draftTierVersion(of: "plain", Self.rich, by: actor)
            #expect(made.version.number == 2 && made.version.state == .draft && made.version.publishedAt == nil)
            #expect(made.version.offer == Self.rich)
            let changed = try await store.changeTierDraft(Self.name(2), from: Self.rich, to: Self.offer(), by: actor)
            #expect(changed.version.offer == Self.offer() && changed.version.id == made.version.id)
            let stale = await refusal {
                _ = try await store.changeTierDraft(Self.name(2), from: Self.rich, to: Self.offer(fee: 1), by: actor)
            }
            #expect(stale?.code == .conflict)
            #expect(try await store.tier("plain").version.number == 1, "a draft is not in force")
            let page = try await store.tierVersions(of: "plain", PageRequest(limit: 10))
            #expect(page.elements.map(\.version.number) == [2, 1])
            try await store.deleteTierDraft(Self.name(2), by: actor)
            #expect(await refusal { _ = try await store.tierVersion(Self.name(2)) }?.code == .notFound)
            #expect(await refusal { _ = try await store.deleteTierDraft(Self.name(1), by: actor) }?.code == .conflict)
        }
    }

    @Test(
        "who is subscribed keeps its version; who comes later gets the new one, and never a draft or one of the future")
    func publication() async throws {
        try await AdministrationHarness.with { harness in
            let (store, actor) = (harness.store, AdministrationHarness.actor)
            let first = try await harness.makeTier()
            let old = try await harness.makeTenant("Old")
            _ = try await store.draftTierVersion(of: "plain", Self.offer(fee: 50_000_000), by: actor)
            #expect(try await harness.makeTenant("Meanwhile").tierVersionID == first.version.id)
            let second = try await publish(harness, 2)
            #expect(second.version.state == .published && second.version.publishedAt != nil)
            #expect(try await store.tenant(old.id).tierVersionID == first.version.id)
            #expect(try await harness.makeTenant("New").tierVersionID == second.version.id)
            var future = Self.offer(fee: 51_000_000)
            future.effectiveAt = Timestamp(rfc3339: "2200-01-01T00:00:00Z")
            _ = try await store.draftTierVersion(of: "plain", future, by: actor)
            _ = try await publish(harness, 3)
            #expect(try await harness.makeTenant("Later").tierVersionID == second.version.id)
            #expect(try await store.tier("plain").version.id == second.version.id)
            let twice = await refusal { _ = try await publish(harness, 3) }
            #expect(twice?.code == .conflict)
        }
    }

    @Test("what would begin in the past, is in another currency or older than what is published is refused")
    func refusals() async throws {
        try await AdministrationHarness.with { harness in
            let (store, actor) = (harness.store, AdministrationHarness.actor)
            try await harness.makeTier()
            let currency = await refusal {
                _ = try await store.draftTierVersion(of: "plain", Self.offer(currency: "USD"), by: actor)
            }
            #expect(currency?.code == .validationFailed && currency?.errors.first?.location == "/currency")
            var past = Self.offer()
            past.effectiveAt = Timestamp(rfc3339: "2020-01-01T00:00:00Z")
            _ = try await store.draftTierVersion(of: "plain", past, by: actor)
            let retroactive = await refusal { _ = try await publish(harness, 2) }
            #expect(retroactive?.code == .validationFailed && retroactive?.errors.first?.location == "/effective_at")
            _ = try await store.draftTierVersion(of: "plain", Self.offer(), by: actor)
            _ = try await publish(harness, 3)
            #expect(await refusal { _ = try await publish(harness, 2) }?.code == .conflict)
            #expect(await refusal { _ = try await publish(harness, 9) }?.code == .notFound)
        }
    }

    @Test("a price that moves far is published only with the digest of a replay of the draft as it is")
    func confirmation() async throws {
        try await AdministrationHarness.with { harness in
            let (store, actor) = (harness.store, AdministrationHarness.actor)
            try await harness.makeTier()
            let dear = Self.offer(request: 301_000_000)
            _ = try await store.draftTierVersion(of: "plain", dear, by: actor)
            let refused = await refusal { _ = try await publish(harness, 2) }
            #expect(refused?.code == .priceChangeTooLarge)
            #expect(refused?.errors.map(\.location) == ["price of request for *"])
            let digest = try await store.recordReplay(
                Self.name(2), of: dear, result: #"{"bills": 0}"#, isWhole: true, by: actor)
            let part = try await store.recordReplay(
                Self.name(2), of: dear, result: #"{"bills": 1}"#, isWhole: false, by: actor)
            let stale = await refusal {
                _ = try await store.recordReplay(Self.name(2), of: Self.offer(), result: "{}", isWhole: true, by: actor)
            }
            #expect(stale?.code == .conflict)
            let dearer = Self.offer(request: 401_000_000)
            _ = try await store.changeTierDraft(Self.name(2), from: dear, to: dearer, by: actor)
            func published(_ digest: String) async -> FailureCode? {
                await refusal {
                    _ = try await store.publishTierVersion(
                        Self.name(2), TierPublication(factor: 3, confirmation: digest), by: actor)
                }?.code
            }
            #expect(await published(digest) == .priceChangeTooLarge, "the draft has changed since")
            _ = try await store.changeTierDraft(Self.name(2), from: dearer, to: dear, by: actor)
            #expect(await published(Self.digest) == .priceChangeTooLarge)
            #expect(await published(part) == .priceChangeTooLarge, "a replay of some bills shows nothing of the others")
            let replays = try await store.tierReplays(of: Self.name(2), PageRequest(limit: 10)).elements
            #expect(replays.map(\.digest) == [part, digest] && replays.map(\.confirms) == [false, true])
            #expect(replays.last?.result == #"{"bills": 0}"#)
            #expect(await published(digest) == nil)
        }
    }

    @Test("a tier of one tenant is nobody else's to take or to see")
    func own() async throws {
        try await AdministrationHarness.with { harness in
            let (store, actor) = (harness.store, AdministrationHarness.actor)
            try await harness.makeTier()
            let (one, other) = (try await harness.makeTenant("One"), try await harness.makeTenant("Other"))
            _ = try await store.createTier(
                NewTier(code: "agreed", name: "Agreed", tenantID: one.id, offer: Self.rich), by: actor)
            let foreign = await refusal {
                _ = try await store.changeTenant(other.id, TenantChange(tierCode: "agreed"), by: actor)
            }
            let unknown = await refusal {
                _ = try await store.changeTenant(other.id, TenantChange(tierCode: "nothing"), by: actor)
            }
            #expect(foreign?.code == unknown?.code && foreign?.code == .validationFailed)
            #expect(
                try await store.changeTenant(one.id, TenantChange(tierCode: "agreed"), by: actor).tierCode == "agreed")
            let (seen, hidden) = try await harness.asRole("weir_reader") { pool in
                let catalog = TierCatalogStore(pool: pool)
                return (
                    try await catalog.tiers(for: one.id).map(\.code), try await catalog.tiers(for: other.id).map(\.code)
                )
            }
            #expect(seen == ["agreed", "plain"] && hidden == ["plain"])
            let nobody = await refusal {
                _ = try await store.createTier(
                    NewTier(code: "x", name: "X", tenantID: TenantID(high: 1, low: 1), offer: Self.rich), by: actor)
            }
            #expect(nobody?.code == .validationFailed)
        }
    }

    private struct SeenByReader: PostgresStatement {
        static let sql = """
            SELECT code FROM tiers UNION ALL SELECT 'version of ' || tier_code FROM tier_versions ORDER BY 1
            """
        static let columns: [PostgresType] = [.text]

        static func row(from row: inout PostgresRow) throws(PostgresError) -> String { try row.text() }
    }

    @Test("row-level security hides the tier of another tenant, whatever is asked")
    func rowSecurity() async throws {
        try await AdministrationHarness.with { harness in
            try await harness.makeTier()
            let one = try await harness.makeTenant("One")
            _ = try await harness.store.createTier(
                NewTier(code: "agreed", name: "Agreed", tenantID: one.id, offer: Self.rich),
                by: AdministrationHarness.actor)
            let seen = try await harness.asRole("weir_reader") { pool in try await pool.execute(SeenByReader()) }
            #expect(seen == ["plain", "version of plain"])
        }
    }

    @Test("a version is taken out of sale, and who has it keeps it; the gateway rates by what follows from its terms")
    func retire() async throws {
        try await AdministrationHarness.with { harness in
            let (store, actor) = (harness.store, AdministrationHarness.actor)
            let tier = try await store.createTier(NewTier(code: "rich", name: "Rich", offer: Self.rich), by: actor)
            let tenant = try await harness.makeTenant("One", tier: "rich")
            let retired = try await store.retireTierVersion(Self.name(1, code: "rich"), by: actor)
            #expect(retired.version.state == .retired)
            #expect(try await store.tenant(tenant.id).tierVersionID == tier.version.id)
            #expect(await refusal { _ = try await harness.makeTenant("Two", tier: "rich") }?.code == .validationFailed)
            let again = await refusal { _ = try await store.retireTierVersion(Self.name(1, code: "rich"), by: actor) }
            #expect(again?.code == .conflict)
            let sheet = try await harness.asRole("weir_directory") { pool in
                try await PriceStore(pool: pool).sheet(tier.version.id)
            }
            #expect(sheet?.price(of: .inputToken, model: "iris") == UnitPrice(picos: 3))
            #expect(sheet?.price(of: .outputToken, model: "big") == UnitPrice(picos: 10))
            #expect(sheet?.price(of: .request, model: "any") == UnitPrice(picos: 100_000_000))
            #expect(sheet?.cacheHitTokenPercent == 50 && sheet?.streamLeave == .drain)
            #expect(sheet?.requestTerms == RequestTerms(cacheHit: .free, failure: .charged))
        }
    }
}
