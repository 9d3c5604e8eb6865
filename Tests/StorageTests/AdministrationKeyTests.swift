import Domain
import PostgresDriver
import Storage
import Testing

@Suite("Administration of keys")
struct AdministrationKeyTests {
    private func newKey(
        _ tenantID: TenantID, name: String = "ci", models: Set<String>? = ["iris"], expiresAt: Timestamp? = nil
    ) -> NewKey {
        NewKey(
            tenantID: tenantID, name: name, environment: .test, scopes: [.predict, .read], allowedModels: models,
            expiresAt: expiresAt)
    }

    @Test("a new key is what the gateway's directory finds, with the digest under the pepper")
    func create() async throws {
        try await AdministrationHarness.with { harness in
            try await harness.makeTier()
            let tenant = try await harness.makeTenant()
            let expiresAt = Timestamp(microsecondsSince1970: 1_900_000_000_123_456)
            let made = try await harness.store.createKey(newKey(tenant.id, expiresAt: expiresAt), by: .system)
            #expect(made.row.publicID == made.key.publicID.description)
            #expect(made.row.lastFour == made.key.lastFour)
            #expect(made.row.scopes == [.predict, .read])
            #expect(made.row.allowedModels == ["iris"])
            #expect(made.row.expiresAt == expiresAt)
            #expect(made.row.environment == .test)
            let records = try await harness.asRole("weir_directory") { pool in
                try await KeyStore(pool: pool).find([made.key.publicID])
            }
            #expect(records.map(\.digest) == [KeyDigest(pepper: AdministrationHarness.pepper)(made.key)])
            guard case .customer(let principal, .active) = records.first?.holder else {
                Issue.record("not an active customer")
                return
            }
            #expect(principal.tenantID == tenant.id)
            #expect(principal.keyID == made.row.id)
            #expect(principal.allowedModels == ["iris"])
        }
    }

    @Test("the key itself is stored nowhere, the audit log included")
    func secrecy() async throws {
        struct Everything: TextStatement {
            static let sql = "SELECT coalesce(string_agg(k::text || a::text, ''), '') FROM api_keys k, audit_log a"
        }
        try await AdministrationHarness.with { harness in
            try await harness.makeTier()
            let tenant = try await harness.makeTenant()
            let made = try await harness.store.createKey(newKey(tenant.id), by: .system)
            _ = try await harness.store.revokeKey(.id(made.row.id), by: .system)
            let everything = try await harness.texts(Everything()).joined()
            #expect(everything.contains(made.row.publicID))
            #expect(!everything.contains(String(made.key.revealed.dropFirst(23).prefix(32))))
            let audit = try await harness.store.audit(AuditQuery(page: PageRequest(limit: 10)))
            #expect(
                !audit.elements.contains { ($0.before ?? "").contains("digest") || ($0.after ?? "").contains("digest") }
            )
        }
    }

    @Test("a tenant's keys come newest first, and no other tenant's")
    func list() async throws {
        try await AdministrationHarness.with { harness in
            try await harness.makeTier()
            let tenant = try await harness.makeTenant("one")
            let other = try await harness.makeTenant("two")
            for name in ["a", "b", "c"] {
                _ = try await harness.store.createKey(newKey(tenant.id, name: name, models: nil), by: .system)
            }
            _ = try await harness.store.createKey(newKey(other.id, name: "x"), by: .system)
            let page = try await harness.store.keys(of: tenant.id, PageRequest(limit: 2))
            #expect(page.elements.map(\.name) == ["c", "b"])
            #expect(page.hasMore)
            #expect(page.elements[0].allowedModels == nil)
            let rest = try await harness.store.keys(of: tenant.id, PageRequest(limit: 2, after: page.elements[1].id))
            #expect(rest.elements.map(\.name) == ["a"])
            #expect(!rest.hasMore)
            let back = try await harness.store.keys(of: tenant.id, PageRequest(limit: 5, before: rest.elements[0].id))
            #expect(back.elements.map(\.name) == ["c", "b"])
        }
    }

    @Test("a key is revoked once, by either name, and logged once")
    func revoke() async throws {
        try await AdministrationHarness.with { harness in
            try await harness.makeTier()
            let tenant = try await harness.makeTenant()
            let made = try await harness.store.createKey(newKey(tenant.id), by: .system)
            let first = try await harness.store.revokeKey(.publicID(made.key.publicID), by: .system)
            let second = try await harness.store.revokeKey(.id(made.row.id), by: .system)
            #expect(first.revokedAt != nil)
            #expect(second == first)
            let audit = try await harness.store.audit(AuditQuery(page: PageRequest(limit: 10), action: "key.revoke"))
            #expect(audit.elements.count == 1)
        }
    }

    @Test("revocations at the same time are one revocation")
    func revokeTogether() async throws {
        try await AdministrationHarness.with { harness in
            try await harness.makeTier()
            let tenant = try await harness.makeTenant()
            let made = try await harness.store.createKey(newKey(tenant.id), by: .system)
            let rows = try await withThrowingTaskGroup(of: KeyRow.self) { group in
                for _ in 0..<8 { group.addTask { try await harness.store.revokeKey(.id(made.row.id), by: .system) } }
                var rows: [KeyRow] = []
                for try await row in group { rows.append(row) }
                return rows
            }
            #expect(Set(rows).count == 1)
            #expect(rows[0].revokedAt != nil)
            let audit = try await harness.store.audit(AuditQuery(page: PageRequest(limit: 10), action: "key.revoke"))
            #expect(audit.elements.count == 1)
        }
    }

    @Test("an unknown key is not found, and nobody revokes the key in use")
    func refusals() async throws {
        try await AdministrationHarness.with { harness in
            var generator = SystemRandomNumberGenerator()
            let customer = APIKey(environment: .live, using: &generator)
            let administrator = APIKey(environment: .admin, using: &generator)
            _ = try await DemoInstallation.ensure(
                databaseURL: harness.url, pepper: AdministrationHarness.pepper, customerKey: customer.revealed,
                adminKey: administrator.revealed, workerAddress: WorkerAddress(host: "127.0.0.1", port: 1),
                logger: AdministrationHarness.logger)
            let unknown = await refusal {
                _ = try await harness.store.revokeKey(.id(KeyID(high: 1, low: 1)), by: .system)
            }
            #expect(unknown?.code == .notFound)
            let own = await refusal {
                _ = try await harness.store.revokeKey(
                    .publicID(administrator.publicID), by: .key(administrator.publicID))
            }
            #expect(own?.code == .conflict)
            let other = try await harness.store.revokeKey(.publicID(administrator.publicID), by: .system)
            #expect(other.tenantID == nil)
            #expect(other.revokedAt != nil)
        }
    }
}
