import Domain
import PostgresDriver
import Storage
import Testing

@Suite("The demo installation")
struct AdministrationDemoTests {
    private struct CountEverything: TextStatement {
        static let sql = """
            SELECT concat_ws(',', (SELECT count(*) FROM tiers), (SELECT count(*) FROM tier_versions WHERE state = 'published'),
                (SELECT count(*) FROM tenants), (SELECT count(*) FROM users), (SELECT count(*) FROM api_keys),
                (SELECT count(*) FROM subscriptions), (SELECT count(*) FROM quotas), (SELECT count(*) FROM model_registry),
                (SELECT string_agg(address, ' ') FROM routes))
            """
    }

    private struct DigestOf: TextStatement {
        static let sql = "SELECT encode(digest, 'hex') FROM api_keys WHERE public_id = $1"
        static let parameters: [PostgresType] = [.text]
        let publicID: String
        func bind(to binds: inout PostgresBinds) { binds.append(publicID) }
    }

    private struct RevokeAll: PostgresStatement {
        static let sql = "UPDATE api_keys SET revoked_at = now()"
    }

    private struct CountRevoked: TextStatement {
        static let sql = "SELECT count(*)::text FROM api_keys WHERE revoked_at IS NOT NULL"
    }

    private let customerKey: APIKey
    private let adminKey: APIKey

    init() {
        var generator = SystemRandomNumberGenerator()
        customerKey = APIKey(environment: .live, using: &generator)
        adminKey = APIKey(environment: .admin, using: &generator)
    }

    private func ensure(
        _ harness: AdministrationHarness, port: Int = 9_000, pepper: [UInt8] = AdministrationHarness.pepper
    ) async throws -> DemoInstallation.Result {
        try await DemoInstallation.ensure(
            databaseURL: harness.url, pepper: pepper, customerKey: customerKey.revealed, adminKey: adminKey.revealed,
            workerAddress: WorkerAddress(host: "127.0.0.1", port: port), logger: AdministrationHarness.logger)
    }

    @Test("a first start makes everything, a second one changes nothing but the route")
    func twice() async throws {
        try await AdministrationHarness.with { harness in
            let first = try await ensure(harness)
            let rows1 = try await harness.texts(CountEverything())
            #expect(rows1 == ["3,3,1,1,2,1,2,1,127.0.0.1:9000"])
            let second = try await ensure(harness, port: 9_001)
            let rows2 = try await harness.texts(CountEverything())
            #expect(rows2 == ["3,3,1,1,2,1,2,1,127.0.0.1:9001"])
            #expect(first == second)
        }
    }

    @Test("the demo tenant is on premium and keeps everything")
    func tenant() async throws {
        try await AdministrationHarness.with { harness in
            let demo = try await ensure(harness)
            let tenant = try await harness.store.tenant(demo.tenantID)
            #expect(tenant.name == "Demo")
            #expect(tenant.tierCode == "premium")
            #expect(tenant.retention == .full)
            #expect(tenant.timeZone == "UTC")
        }
    }

    @Test("both keys are found with the digest that the gateway computes")
    func keys() async throws {
        try await AdministrationHarness.with { harness in
            let demo = try await ensure(harness)
            try await harness.asRole("weir_directory") { pool in
                let records = try await KeyStore(pool: pool).find([customerKey.publicID, adminKey.publicID])
                #expect(records.count == 2)
                for record in records {
                    let key = record.publicID == customerKey.publicID ? customerKey : adminKey
                    #expect(record.digest == KeyDigest(pepper: AdministrationHarness.pepper)(key))
                    switch record.holder {
                    case .customer(let principal, let state):
                        #expect(state == .active)
                        #expect(principal.tenantID == demo.tenantID)
                        #expect(principal.userID != nil)
                        #expect(principal.scopes == [.predict, .read, .billing, .keys, .webhooks])
                        #expect(principal.quotas.map(\.amount).sorted() == [100_000_000, 100_000_000_000])
                    case .admin(let principal):
                        #expect(principal.scopes == [.admin])
                    }
                }
            }
        }
    }

    @Test("a start with another pepper makes the keys work under it")
    func pepper() async throws {
        try await AdministrationHarness.with { harness in
            _ = try await ensure(harness)
            let before = try await harness.texts(DigestOf(publicID: customerKey.publicID.description))
            _ = try await ensure(harness, pepper: Array("quite another pepper of enough bytes".utf8))
            let after = try await harness.texts(DigestOf(publicID: customerKey.publicID.description))
            #expect(before.count == 1)
            #expect(after.count == 1)
            #expect(before != after)
        }
    }

    @Test("a key that was revoked stays revoked")
    func revoked() async throws {
        try await AdministrationHarness.with { harness in
            _ = try await ensure(harness)
            _ = try await harness.asRole(nil) { pool in try await pool.execute(RevokeAll()) }
            _ = try await ensure(harness)
            let rows3 = try await harness.texts(CountRevoked())
            #expect(rows3 == ["2"])
        }
    }

    @Test("starts at the same time do not get in each other's way")
    func together() async throws {
        try await AdministrationHarness.with { harness in
            try await withThrowingTaskGroup(of: DemoInstallation.Result.self) { group in
                for _ in 0..<3 { group.addTask { try await ensure(harness) } }
                try await group.waitForAll()
            }
            let rows4 = try await harness.texts(CountEverything())
            #expect(rows4 == ["3,3,1,1,2,1,2,1,127.0.0.1:9000"])
        }
    }

    @Test("a text that is no key is refused, and keys do not swap places")
    func unusableKey() async throws {
        try await AdministrationHarness.with { harness in
            for (customer, admin) in [("weir_live_x", adminKey.revealed), (adminKey.revealed, customerKey.revealed)] {
                await #expect(throws: DemoInstallation.Failure.unusableKey(.live)) {
                    _ = try await DemoInstallation.ensure(
                        databaseURL: harness.url, pepper: AdministrationHarness.pepper, customerKey: customer,
                        adminKey: admin,
                        workerAddress: WorkerAddress(host: "127.0.0.1", port: 9_000),
                        logger: AdministrationHarness.logger)
                }
            }
        }
    }
}
