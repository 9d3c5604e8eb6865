import Domain
import Foundation
import PostgresDriver
import Storage
import Testing

@Suite("The audit log of the administration")
struct AdministrationAuditTests {
    private struct Change: PostgresStatement {
        static let sql = "UPDATE audit_log SET actor = 'nobody'"
    }

    private struct Remove: PostgresStatement {
        static let sql = "DELETE FROM audit_log"
    }

    private struct Empty: PostgresStatement {
        static let sql = "TRUNCATE audit_log"
    }

    private func document(_ text: String?) throws -> NSDictionary {
        try #require(try JSONSerialization.jsonObject(with: Data((text ?? "").utf8)) as? NSDictionary)
    }

    private let model = ModelProfile(
        name: "iris", version: "1", featureCount: nil, fixedTokensPerRequest: 1, maximumOutputTokens: 64)

    private func replica(_ port: Int) -> Replica {
        Replica(address: WorkerAddress(host: "127.0.0.1", port: port), workerProtocol: .predict, weight: 1, version: "")
    }

    @Test("what was cleared of the cache can be read later")
    func clearing() async throws {
        try await AdministrationHarness.with { harness in
            try await harness.makeTier()
            let tenant = try await harness.makeTenant()
            _ = try await harness.store.clearCache(
                NewCacheClearing(tenantID: tenant.id, model: "iris", pattern: "user1_*"),
                by: AdministrationHarness.actor)
            let entry = try await harness.store.audit(AuditQuery(page: PageRequest(limit: 1))).elements.first
            #expect(entry?.action == "cache.clear" && entry?.tenantID == tenant.id)
            #expect(
                try document(entry?.after)
                    == ["tenant_id": tenant.id.description, "model": "iris", "pattern": "user1_*"])
        }
    }

    @Test("every verb that changes something leaves one entry with its actor and its subject")
    func everyVerb() async throws {
        try await AdministrationHarness.with { harness in
            let store = harness.store
            let actor = AdministrationHarness.actor
            try await harness.makeTier()
            let tenant = try await harness.makeTenant()
            _ = try await store.changeTenant(tenant.id, TenantChange(state: .suspended), by: actor)
            let key = try await store.createKey(
                NewKey(
                    tenantID: tenant.id, name: "", environment: .live, scopes: [.read], allowedModels: nil,
                    expiresAt: nil), by: actor)
            _ = try await store.revokeKey(.id(key.row.id), by: actor)
            _ = try await store.registerModel(model, by: actor)
            _ = try await store.setRoute("iris", [replica(1)], by: actor)
            try await store.deleteRoute("iris", by: actor)
            let entries = try await store.audit(AuditQuery(page: PageRequest(limit: 100))).elements
            #expect(
                entries.reversed().map { "\($0.action) \($0.subjectType) \($0.subjectID)" } == [
                    "tier.publish tier plain", "tenant.create tenant \(tenant.id)", "tenant.change tenant \(tenant.id)",
                    "key.create key \(key.row.id)", "key.revoke key \(key.row.id)", "model.register model iris",
                    "route.set route iris",
                    "route.delete route iris",
                ])
            #expect(entries.allSatisfy { $0.actor == actor.text })
            #expect(
                entries.reversed().map { $0.tenantID == tenant.id } == [
                    false, true, true, true, true, false, false, false,
                ])
            #expect(entries.reversed().map { $0.before == nil } == [true, true, false, true, false, true, true, false])
            #expect(entries.map { $0.after == nil } == [true] + Array(repeating: false, count: 7))
        }
    }

    @Test("an entry tells what a tenant was and what it is, the quotas of its tier included")
    func tenantChange() async throws {
        try await AdministrationHarness.with { harness in
            try await harness.makeTier()
            try await harness.makeTier("large", quotas: [])
            let tenant = try await harness.makeTenant()
            _ = try await harness.store.changeTenant(
                tenant.id, TenantChange(name: "Other \"quoted\" 🥐", state: .suspended, tierCode: "large"), by: .system)
            let entry = try #require(
                try await harness.store.audit(AuditQuery(page: PageRequest(limit: 1))).elements.first)
            #expect(entry.actor == "system")
            let before = try document(entry.before)
            let after = try document(entry.after)
            #expect(before["name"] as? String == "Example")
            #expect(after["name"] as? String == "Other \"quoted\" 🥐")
            #expect(before["state"] as? String == "active")
            #expect(after["state"] as? String == "suspended")
            #expect(before["tier"] as? String == "plain")
            #expect(after["tier"] as? String == "large")
            #expect((before["quotas"] as? NSArray)?.count == 1)
            #expect((after["quotas"] as? NSArray)?.count == 0)
        }
    }

    @Test("an entry tells a tier's prices as exact text and a route's workers before and after")
    func tierAndRoute() async throws {
        try await AdministrationHarness.with { harness in
            try await harness.makeTier()
            _ = try await harness.store.registerModel(model, by: .system)
            _ = try await harness.store.setRoute("iris", [replica(1)], by: .system)
            _ = try await harness.store.setRoute("iris", [replica(2)], by: .system)
            let route = try #require(
                try await harness.store.audit(AuditQuery(page: PageRequest(limit: 1), action: "route.set")).elements
                    .first)
            #expect(route.before?.contains("127.0.0.1:1") == true)
            #expect(route.after?.contains("127.0.0.1:2") == true)
            #expect(route.after?.contains("127.0.0.1:1\"") == false)
            let tier = try #require(
                try await harness.store.audit(AuditQuery(page: PageRequest(limit: 1), action: "tier.publish")).elements
                    .first)
            #expect(tier.after?.contains("\"0.000000000001\"") == true)
        }
    }

    @Test("the log is filtered by tenant and action and read in pages")
    func filters() async throws {
        try await AdministrationHarness.with { harness in
            try await harness.makeTier()
            let one = try await harness.makeTenant("one")
            let two = try await harness.makeTenant("two")
            for state in [TenantState.suspended, .active, .suspended] {
                _ = try await harness.store.changeTenant(one.id, TenantChange(state: state), by: .system)
            }
            let page = try await harness.store.audit(
                AuditQuery(page: PageRequest(limit: 2), tenantID: one.id, action: "tenant.change"))
            #expect(page.elements.count == 2)
            #expect(page.hasMore)
            let rest = try await harness.store.audit(
                AuditQuery(
                    page: PageRequest(limit: 2, after: page.elements[1].id), tenantID: one.id, action: "tenant.change"))
            #expect(rest.elements.count == 1)
            #expect(!rest.hasMore)
            let back = try await harness.store.audit(
                AuditQuery(
                    page: PageRequest(limit: 2, before: rest.elements[0].id), tenantID: one.id, action: "tenant.change")
            )
            #expect(back.elements == page.elements)
            let ofTwo = try await harness.store.audit(AuditQuery(page: PageRequest(limit: 10), tenantID: two.id))
            #expect(ofTwo.elements.map(\.action) == ["tenant.create"])
            let none = try await harness.store.audit(AuditQuery(page: PageRequest(limit: 10), action: "tenant.remove"))
            #expect(none.elements.isEmpty)
        }
    }

    @Test("nobody changes or removes an entry, not even the owner")
    func appendOnly() async throws {
        try await AdministrationHarness.with { harness in
            try await harness.makeTier()
            for change in [Change(), Remove(), Empty()] as [any PostgresStatement] {
                for role in ["weir_admin", nil] {
                    let error = await #expect(throws: PostgresError.self) {
                        try await harness.asRole(role) { pool in _ = try await pool.affectedRows(by: change) }
                    }
                    #expect(error?.sqlState == "42501", "\(type(of: change))")
                }
            }
            let entries = try await harness.store.audit(AuditQuery(page: PageRequest(limit: 10)))
            #expect(entries.elements.count == 1)
        }
    }
}
