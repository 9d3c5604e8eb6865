import Domain
import PostgresDriver
import Storage
import Testing

/// What the roles see of each other's, by the database's own rules and whatever a statement forgets.
@Suite("Isolation of what the administration writes")
struct AdministrationIsolationTests {
    private struct Seen: TextStatement {
        static let sql = """
            SELECT concat_ws(' ', (SELECT count(*) FROM tenants), (SELECT count(*) FROM api_keys), (SELECT count(*) FROM subscriptions),
                (SELECT count(*) FROM quotas), (SELECT count(*) FROM audit_log), (SELECT string_agg(name, ',') FROM tenants))
            """
    }

    private struct ReadDigest: PostgresStatement {
        static let sql = "SELECT digest FROM api_keys"
    }

    private struct MakeTenant: PostgresStatement {
        static let sql = "INSERT INTO tenants (tenant_id, name) VALUES (gen_random_uuid(), 'mine')"
    }

    private struct WriteAudit: PostgresStatement {
        static let sql = """
            INSERT INTO audit_log (audit_id, actor, action, subject_type, subject_id) VALUES (gen_random_uuid(), 'a', 'a.b', 'c', 'd')
            """
    }

    private func fill(_ harness: AdministrationHarness) async throws -> (TenantRow, TenantRow) {
        try await harness.makeTier()
        let one = try await harness.makeTenant("one")
        let two = try await harness.makeTenant("two")
        for tenant in [one, two, two] {
            _ = try await harness.store.createKey(
                NewKey(
                    tenantID: tenant.id, name: "", environment: .live, scopes: [.read], allowedModels: nil,
                    expiresAt: nil),
                by: .system)
        }
        return (one, two)
    }

    @Test("a reader sees its own tenant's rows")
    func ownRows() async throws {
        try await AdministrationHarness.with { harness in
            let (one, two) = try await fill(harness)
            try await harness.asRole("weir_reader") { pool in
                let ofOne = try await pool.pipeline(PostgresLocalSetting("weir.tenant_id", one.id.description), Seen())
                    .1
                #expect(ofOne == ["1 1 1 1 2 one"])
                let ofTwo = try await pool.pipeline(PostgresLocalSetting("weir.tenant_id", two.id.description), Seen())
                    .1
                #expect(ofTwo == ["1 2 1 1 3 two"])
            }
        }
    }

    @Test("a reader without a tenant, and one of an unknown tenant, see nothing")
    func noRows() async throws {
        try await AdministrationHarness.with { harness in
            _ = try await fill(harness)
            try await harness.asRole("weir_reader") { pool in
                let nobody = try await pool.execute(Seen())
                #expect(nobody == ["0 0 0 0 0"])
                let stranger = try await pool.pipeline(
                    PostgresLocalSetting("weir.tenant_id", TenantID(high: 1, low: 1).description), Seen()
                ).1
                #expect(stranger == ["0 0 0 0 0"])
            }
        }
    }

    @Test("a reader sees no digest and writes nothing", arguments: ["weir_reader", "weir_reports"])
    func readOnly(role: String) async throws {
        try await AdministrationHarness.with { harness in
            _ = try await fill(harness)
            try await harness.asRole(role) { pool in
                for statement in [ReadDigest(), MakeTenant(), WriteAudit()] as [any PostgresStatement] {
                    let error = await #expect(throws: PostgresError.self) {
                        _ = try await pool.affectedRows(by: statement)
                    }
                    #expect(error?.sqlState == "42501", "\(type(of: statement))")
                }
            }
        }
    }
}
