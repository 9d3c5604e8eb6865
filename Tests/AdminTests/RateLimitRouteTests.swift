import Domain
import Testing

@testable import Admin

@Suite("Rate limits on the admin listener")
struct RateLimitRouteTests {
    private let admin = AdminUnderTest()
    private static let tenants = "/admin/v1/tenants"
    private static let tenant = "/admin/v1/tenants/\(FakeAdministration.tenantID)"
    private static let key = "/admin/v1/keys/\(FakeAdministration.keyID)"

    private func tier(_ limits: String) -> String {
        """
        {"code": "fast", "name": "Fast", "version": {"currency": "EUR", "prices": [], "quotas": [], "rate_limits": \(limits)}}
        """
    }

    @Test("a tier says limits of the tenant and of each key, and shows them")
    func tier() async throws {
        let answer = try await admin.send(
            "POST", "/admin/v1/tiers", key: "pricing",
            body: tier(
                #"[{"scope": "tenant", "unit": "requests", "amount": 600, "burst": 50}, {"scope": "key", "unit": "concurrency", "amount": 0}]"#
            ))
        #expect(answer.status == 201)
        #expect(
            admin.administration.last.newTier?.offer.rateLimits == [
                RateLimitRule(scope: .tenant, unit: .requests, amount: 600, burst: 50),
                RateLimitRule(scope: .key, unit: .concurrency, amount: 0),
            ])
        let shown = answer.json["version"]["rate_limits"]
        #expect(shown[0]["scope"].text == "tenant" && shown[0]["burst"] == .number("50"))
        #expect(shown[1]["amount"] == .number("0") && shown[1]["burst"] == .null)
        try await admin.send(
            "POST", "/admin/v1/tiers", key: "pricing",
            body: #"{"code": "plain", "name": "Plain", "version": {"currency": "EUR", "prices": [], "quotas": []}}"#)
        #expect(
            admin.administration.last.newTier?.offer.rateLimits.isEmpty == true, "without the field nothing is limited")
    }

    @Test(
        "a limit that makes no sense is refused, wherever it stands",
        arguments: [
            (#"[{"unit": "requests", "amount": 5}]"#, "/0/scope"),
            (#"[{"scope": "user", "unit": "requests", "amount": 5}]"#, "/0/scope"),
            (#"[{"scope": "tenant", "amount": 5}]"#, "/0/unit"),
            (#"[{"scope": "tenant", "unit": "requests"}]"#, "/0/amount"),
            (#"[{"scope": "tenant", "unit": "requests", "amount": -1}]"#, "/0/amount"),
            (#"[{"scope": "tenant", "unit": "requests", "amount": 1.5}]"#, "/0/amount"),
            (#"[{"scope": "tenant", "unit": "requests", "amount": "5"}]"#, "/0/amount"),
            (#"[{"scope": "tenant", "unit": "tokens", "amount": 1000000000001}]"#, "/0/amount"),
            (#"[{"scope": "tenant", "unit": "tokens", "amount": 5, "burst": 0}]"#, "/0/burst"),
            (#"[{"scope": "tenant", "unit": "concurrency", "amount": 5, "burst": 5}]"#, "/0/burst"),
            (
                #"[{"scope": "key", "unit": "tokens", "amount": 5}, {"scope": "key", "unit": "tokens", "amount": 6}]"#,
                "/1/unit"
            ),
            (#"{}"#, ""), (#"null"#, ""), (#"[5]"#, ""),
        ])
    func nonsense(limits: String, location: String) async throws {
        let places = [
            ("POST", "/admin/v1/tiers", tier(limits), "/version/rate_limits"),
            ("POST", Self.tenants, #"{"name": "a", "tier": "b", "rate_limits": \#(limits)}"#, "/rate_limits"),
            ("PATCH", Self.tenant, #"{"rate_limits": \#(limits)}"#, "/rate_limits"),
        ]
        for (method, path, body, prefix) in places {
            let answer = try await admin.send(method, path, body: body)
            #expect(answer.status == 422, "\(path)")
            #expect(answer.locations == [prefix + location], "\(path)")
        }
        #expect(admin.administration.last.calls.isEmpty)
    }

    @Test("a tier cannot lift a limit, for there is none above it")
    func liftedTier() async throws {
        let answer = try await admin.send(
            "POST", "/admin/v1/tiers", body: tier(#"[{"scope": "tenant", "unit": "requests", "amount": null}]"#))
        #expect(answer.status == 422 && answer.locations == ["/version/rate_limits/0/amount"])
    }

    @Test("a tenant's limits are replaced as a whole; leaving them out leaves them")
    func tenant() async throws {
        try await admin.send("PATCH", Self.tenant, body: #"{"state": "active"}"#)
        #expect(admin.administration.last.tenantChange == TenantChange(state: .active))
        try await admin.send("PATCH", Self.tenant, body: #"{"rate_limits": []}"#)
        #expect(admin.administration.last.tenantChange == TenantChange(rateLimits: []))
        let lifted = #"[{"scope": "tenant", "unit": "tokens", "amount": null, "burst": null}]"#
        try await admin.send("PATCH", Self.tenant, body: #"{"rate_limits": \#(lifted)}"#)
        #expect(
            admin.administration.last.tenantChange
                == TenantChange(rateLimits: [RateLimitRule(scope: .tenant, unit: .tokens, amount: nil)]))
        try await admin.send("POST", Self.tenants, body: #"{"name": "a", "tier": "b", "rate_limits": \#(lifted)}"#)
        #expect(admin.administration.last.newTenant?.rateLimits.map(\.amount) == [nil])
    }

    @Test("a key's limits are the key's: another scope is refused, and so is a change of nothing")
    func key() async throws {
        let answer = try await admin.send(
            "PATCH", Self.key, body: #"{"rate_limits": [{"unit": "concurrency", "amount": 2}]}"#)
        #expect(answer.status == 200 && answer.json["rate_limits"][0]["scope"].text == "key")
        #expect(
            admin.administration.last.keyChange
                == KeyChange(rateLimits: [RateLimitRule(scope: .key, unit: .concurrency, amount: 2)]))
        for (body, location) in [
            (#"{"rate_limits": [{"scope": "tenant", "unit": "requests", "amount": 2}]}"#, "/rate_limits/0/scope"),
            (#"{}"#, ""),
        ] {
            let refused = try await admin.send("PATCH", Self.key, body: body)
            #expect(refused.status == 422 && refused.locations == [location])
        }
        let unknown = try await admin.send("PATCH", Self.key, body: #"{"scopes": ["read"], "rate_limits": []}"#)
        #expect(unknown.status == 400)
        let nowhere = try await admin.send("PATCH", "/admin/v1/keys/nothing", body: #"{"rate_limits": []}"#)
        #expect(nowhere.status == 404)
        #expect(admin.administration.last.calls == ["changeKey"])
    }
}
