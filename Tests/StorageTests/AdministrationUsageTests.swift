import Domain
import PostgresDriver
import Storage
import Testing

@Suite("Usage over all tenants")
struct AdministrationUsageTests {
    /// One entry of the ledger, written as the owner.
    private struct Post: PostgresStatement {
        static let sql = """
            INSERT INTO ledger (entry_id, tenant_id, key_id, request_id, kind, model, tier_version_id, requests, input_tokens,
                cached_input_tokens, output_tokens, token_source, occurred_at)
            VALUES ($1, $2, $3, $1, 'usage', $4, $5, 1, 10, 2, 5, 'fixed', $6)
            """
        static let parameters: [PostgresType] = [.uuid, .uuid, .uuid, .text, .uuid, .timestamptz]

        let id: RequestID
        let tenant: TenantRow
        let keyID: KeyID
        let model: String
        let at: Timestamp

        func bind(to binds: inout PostgresBinds) {
            let version = tenant.tierVersionID ?? TierVersionID(high: 0, low: 0)
            binds.append(PostgresUUID(high: id.high, low: id.low))
            binds.append(PostgresUUID(high: tenant.id.high, low: tenant.id.low))
            binds.append(PostgresUUID(high: keyID.high, low: keyID.low))
            binds.append(model)
            binds.append(PostgresUUID(high: version.high, low: version.low))
            binds.append(PostgresTimestamp(microsecondsSince1970: at.microsecondsSince1970))
        }
    }

    private struct RollUp: TextStatement {
        static let sql = "SELECT roll_up_usage()::text"
    }

    private let start = Timestamp(microsecondsSince1970: 1_772_323_200_000_000)
    private var end: Timestamp { start.advanced(byMilliseconds: 86_400_000) }
    private let keyID = KeyID(high: 7, low: 7)

    private func post(_ harness: AdministrationHarness, _ tenant: TenantRow, model: String = "iris", hours: Int64 = 12)
        async throws
    {
        var generator = SystemRandomNumberGenerator()
        let at = start.advanced(byMilliseconds: hours * 3_600_000)
        let statement = Post(
            id: RequestID(at: at, using: &generator), tenant: tenant, keyID: keyID, model: model, at: at)
        _ = try await harness.asRole(nil) { pool in try await pool.execute(statement) }
    }

    private func day(_ timeZone: String? = nil) -> TotalUsageQuery.Stretch {
        .init(timeZone: timeZone, start: start, end: end)
    }

    @Test("usage is the same before, between and after roll-ups, of one tenant and of all")
    func rollUp() async throws {
        try await AdministrationHarness.with { harness in
            try await harness.makeTier()
            let one = try await harness.makeTenant("one")
            let two = try await harness.makeTenant("two")
            try await post(harness, one)
            try await post(harness, two)
            let all = TotalUsageQuery(tenantID: nil, stretches: [day()], groupsByKey: false)
            let fresh = try await harness.store.usage(all)
            #expect(fresh.map(\.tenantID) == [one.id, two.id])
            #expect(fresh.map(\.usage.requests) == [1, 1])
            #expect(fresh.map(\.usage.cachedInputTokens) == [2, 2])
            // The tail can be empty only once no transaction runs that began before the entries.
            _ = try await harness.texts(RollUp())
            let rolledUp = try await harness.store.usage(all)
            #expect(rolledUp == fresh)
            try await post(harness, one)
            let mixed = try await harness.store.usage(all)
            #expect(mixed.map(\.usage.requests) == [2, 1])
            #expect(mixed.map(\.usage.outputTokens) == [10, 5])
            let ofTwo = try await harness.store.usage(
                TotalUsageQuery(tenantID: two.id, stretches: [day()], groupsByKey: true))
            #expect(ofTwo.map(\.usage.requests) == [1])
            #expect(ofTwo.map(\.usage.keyID) == [keyID])
        }
    }

    @Test("a stretch of a time zone counts the tenants of that zone, and its end does not count")
    func zones() async throws {
        try await AdministrationHarness.with { harness in
            try await harness.makeTier()
            let berlin = try await harness.makeTenant("one")
            let tokyo = try await harness.store.changeTenant(
                try await harness.makeTenant("two").id, TenantChange(timeZone: "Asia/Tokyo"), by: .system)
            for tenant in [berlin, tokyo] {
                try await post(harness, tenant, hours: 0)
                try await post(harness, tenant, hours: 24)
            }
            let zones = try await harness.store.timeZones()
            #expect(zones == ["Asia/Tokyo", "Europe/Berlin"])
            let rows = try await harness.store.usage(
                TotalUsageQuery(
                    tenantID: nil, stretches: [day("Asia/Tokyo"), day("UTC"), day("Europe/Berlin")], groupsByKey: false)
            )
            #expect(rows.map(\.tenantID) == [berlin.id, tokyo.id])
            #expect(rows.map(\.usage.day) == [2, 0])
            #expect(rows.map(\.usage.requests) == [1, 1])
        }
    }

    @Test("models and price versions are told apart")
    func models() async throws {
        try await AdministrationHarness.with { harness in
            try await harness.makeTier()
            try await harness.makeTier("large")
            let tenant = try await harness.makeTenant()
            try await post(harness, tenant, model: "a")
            try await post(harness, tenant, model: "b")
            let moved = try await harness.store.changeTenant(tenant.id, TenantChange(tierCode: "large"), by: .system)
            try await post(harness, moved, model: "a")
            let rows = try await harness.store.usage(
                TotalUsageQuery(tenantID: tenant.id, stretches: [day()], groupsByKey: false))
            #expect(rows.map(\.usage.model) == ["a", "a", "b"])
            #expect(
                Set(rows.prefix(2).map(\.usage.tierVersionID))
                    == Set([tenant.tierVersionID, moved.tierVersionID].compactMap(\.self)))
        }
    }
}

@Suite("The administration without a database")
struct AdministrationOutageTests {
    @Test("a database that is away is told as such and not as a refusal")
    func away() async throws {
        let pool = try PostgresPool(
            configuration: PostgresConfiguration(
                url: "postgresql://nobody@127.0.0.1:1/none", connectTimeoutMilliseconds: 500),
            options: PostgresPool.Options(name: "away", maximumConnections: 1, queueTimeoutMilliseconds: 300),
            logger: AdministrationHarness.logger)
        let store = AdministrationStore(
            pool: pool, reports: pool, pepper: AdministrationHarness.pepper, time: HeldTime())
        for verb in [
            { _ = try await store.tenants(PageRequest(limit: 1)) },
            { _ = try await store.changeTenant(TenantID(high: 1, low: 1), TenantChange(name: "x"), by: .system) },
            { _ = try await store.timeZones() },
        ] as [() async throws -> Void] {
            let error = await #expect(throws: AdministrationFailure.self) { try await verb() }
            guard case .unavailable = error else {
                Issue.record("not an outage: \(String(describing: error))")
                continue
            }
        }
        await pool.shutdown()
    }
}
