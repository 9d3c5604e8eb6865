import Domain
import Hummingbird
import Testing

@testable import Admin

@Suite("Tenants and keys on the admin listener")
struct TenantAndKeyRouteTests {
    private let admin = AdminUnderTest()
    private let keys = "/admin/v1/tenants/\(FakeAdministration.tenantID)/keys"

    @Test("a tenant is made with what was sent, and with defaults for the rest")
    func createTenant() async throws {
        let answer = try await admin.send(
            "POST", "/admin/v1/tenants", body: #"{"name": "Bäckerei 🥐", "tier": "basic"}"#)
        #expect(
            admin.administration.last.newTenant
                == NewTenant(name: "Bäckerei 🥐", timeZone: "UTC", state: .active, retention: .none, tierCode: "basic"))
        #expect(answer.headers[.location] == "/admin/v1/tenants/\(FakeAdministration.tenantID)")
        #expect(
            answer.json.keys
                == [
                    "id", "object", "name", "time_zone", "state", "retention", "result_ttl_seconds",
                    "retention_max_bytes", "receipts", "erasing", "tier", "price_version", "rate_limits",
                    "created_at",
                ])
        #expect(answer.json["price_version"].text == "pv_\(FakePrices.euro)")
        try await admin.send(
            "POST", "/admin/v1/tenants",
            body:
                #"{"name": "a", "tier": "b", "time_zone": "Asia/Kathmandu", "state": "suspended", "retention": "hashed"}"#
        )
        #expect(
            admin.administration.last.newTenant
                == NewTenant(
                    name: "a", timeZone: "Asia/Kathmandu", state: .suspended, retention: .hashed, tierCode: "b"))
    }

    @Test(
        "a tenant that cannot be is refused",
        arguments: [
            (#"{"tier": "basic"}"#, "/name"), (#"{"name": "a"}"#, "/tier"), (#"{"name": "", "tier": "b"}"#, "/name"),
            (#"{"name": "a\u0000b", "tier": "b"}"#, "/name"), (#"{"name": "a\u001b[2Jb", "tier": "b"}"#, "/name"),
            (#"{"name": "a\u0085b", "tier": "b"}"#, "/name"), (#"{"name": 5, "tier": "b"}"#, "/name"),
            (#"{"name": null, "tier": "b"}"#, "/name"), (#"{"name": "a", "tier": "B"}"#, "/tier"),
            (#"{"name": "a", "tier": "b", "time_zone": "Mars/Olympus"}"#, "/time_zone"),
            (#"{"name": "a", "tier": "b", "time_zone": null}"#, "/time_zone"),
            (#"{"name": "a", "tier": "b", "state": "Active"}"#, "/state"),
            (#"{"name": "a", "tier": "b", "retention": "forever"}"#, "/retention"),
        ])
    func badTenant(body: String, location: String) async throws {
        let answer = try await admin.send("POST", "/admin/v1/tenants", body: body)
        #expect(answer.status == 422)
        #expect(answer.locations == [location])
        #expect(admin.administration.last.calls.isEmpty)
    }

    @Test("a name has at most two hundred characters")
    func longName() async throws {
        for (count, status) in [(200, 201), (201, 422)] {
            let answer = try await admin.send(
                "POST", "/admin/v1/tenants", body: #"{"name": "\#(String(repeating: "ä", count: count))", "tier": "b"}"#
            )
            #expect(answer.status == status)
        }
    }

    @Test("a change names what changes; one that names nothing is refused")
    func changeTenant() async throws {
        let path = "/admin/v1/tenants/\(FakeAdministration.tenantID)"
        try await admin.send("PATCH", path, body: #"{"tier": "premium", "time_zone": "Europe/Paris"}"#)
        #expect(admin.administration.last.tenantChange == TenantChange(timeZone: "Europe/Paris", tierCode: "premium"))
        let empty = try await admin.send("PATCH", path, body: "{}")
        #expect(empty.status == 422)
        #expect(admin.administration.last.calls == ["changeTenant"])
    }

    @Test(
        "a malformed id is an unknown one",
        arguments: ["x", "0195", "0195000000007000800000000000000a", "..%2Ftenants"])
    func malformedID(id: String) async throws {
        for (method, path, body) in [
            ("GET", "", nil), ("PATCH", "", #"{"name": "a"}"#), ("GET", "/keys", nil),
            ("POST", "/keys", #"{"scopes": ["read"]}"#),
            ("GET", "/usage", nil),
        ] as [(String, String, String?)] {
            let answer = try await admin.send(method, "/admin/v1/tenants/\(id)\(path)", body: body)
            #expect(answer.status == 404, "\(method) \(path)")
        }
        #expect(try await admin.send("DELETE", "/admin/v1/keys/\(id)").status == 404)
        #expect(admin.administration.last.calls.isEmpty)
    }

    @Test("a key is shown whole once, in an answer that nobody may keep, and nowhere else")
    func createKey() async throws {
        let answer = try await admin.send(
            "POST", keys,
            body:
                #"{"name": "ci", "environment": "test", "scopes": ["read", "predict"], "allowed_models": ["iris"], "expires_at": "2026-04-01T00:00:00+02:00"}"#
        )
        let made = try #require(admin.administration.last.newKey)
        #expect(made.tenantID == FakeAdministration.tenantID)
        #expect(made.environment == .test)
        #expect(made.scopes == [.read, .predict])
        #expect(made.allowedModels == ["iris"])
        #expect(made.expiresAt == Timestamp(rfc3339: "2026-03-31T22:00:00Z"))
        let key = try #require(answer.json["key"].text)
        #expect(APIKey(parsing: Array(key.utf8))?.environment == .test)
        #expect(answer.headers[.cacheControl] == "no-store")
        #expect(answer.json["id"].text == FakeAdministration.keyID.description)
        #expect(answer.json["public_id"].text == "ABCDabcd0123")
        #expect(answer.json["last_four"].text == "9xyz")
        for (method, path) in [("GET", keys), ("DELETE", "/admin/v1/keys/\(FakeAdministration.keyID)")] {
            let other = try await admin.send(method, path)
            #expect(other.status == 200)
            #expect(!other.text.contains(#""key":"weir"#))
        }
    }

    @Test("a key has defaults: live, all models, never expiring, without a name")
    func keyDefaults() async throws {
        let answer = try await admin.send(
            "POST", keys, body: #"{"scopes": ["read"], "name": null, "allowed_models": null, "expires_at": null}"#)
        let made = try #require(admin.administration.last.newKey)
        #expect(made.environment == .live)
        #expect(made.name.isEmpty)
        #expect(made.allowedModels == nil)
        #expect(made.expiresAt == nil)
        #expect(answer.json["name"] == .null)
        #expect(answer.json.keys.isSuperset(of: ["name", "allowed_models", "expires_at", "revoked_at", "tenant_id"]))
    }

    @Test(
        "a key that cannot be is refused",
        arguments: [
            (#"{}"#, "/scopes"), (#"{"scopes": []}"#, "/scopes"), (#"{"scopes": ["root"]}"#, "/scopes"),
            (#"{"scopes": ["read", "read"]}"#, "/scopes"), (#"{"scopes": "read"}"#, "/scopes"),
            (#"{"scopes": ["operator"]}"#, "/scopes"), (#"{"scopes": ["pricing"]}"#, "/scopes"),
            (#"{"scopes": ["read"], "environment": "admn"}"#, "/environment"),
            (#"{"scopes": ["read"], "allowed_models": []}"#, "/allowed_models"),
            (#"{"scopes": ["read"], "allowed_models": ["Iris"]}"#, "/allowed_models"),
            (#"{"scopes": ["read"], "expires_at": "2026-04-01"}"#, "/expires_at"),
            (#"{"scopes": ["read"], "expires_at": "2026-03-15T12:00:00Z"}"#, "/expires_at"),
            (#"{"scopes": ["read"], "expires_at": 1772366400}"#, "/expires_at"),
        ])
    func badKey(body: String, location: String) async throws {
        let answer = try await admin.send("POST", keys, body: body)
        #expect(answer.status == 422)
        #expect(answer.locations == [location])
        #expect(admin.administration.last.calls.isEmpty)
    }

    @Test("a key is revoked by its id or by its public part")
    func revoke() async throws {
        try await admin.send("DELETE", "/admin/v1/keys/\(FakeAdministration.keyID)")
        #expect(admin.administration.last.revoked == .id(FakeAdministration.keyID))
        try await admin.send("DELETE", "/admin/v1/keys/ABCDabcd0123")
        #expect(admin.administration.last.revoked == APIKey.PublicID("ABCDabcd0123").map { .publicID($0) })
    }
}

@Suite("Tiers, models and routes on the admin listener")
struct TierModelAndRouteTests {
    private let admin = AdminUnderTest()

    private func tier(
        code: String = "plain", currency: String = #""EUR""#, fee: String = "0", prices: String = "",
        quotas: String = ""
    ) -> String {
        """
        {"code": "\(code)", "name": "Plain", "version": {"currency": \(currency), "base_fee_micros": \(fee),
        "prices": [\(prices)], "quotas": [\(quotas)]}}
        """
    }

    @Test("a tier's prices are exact to twelve places")
    func createTier() async throws {
        let answer = try await admin.send(
            "POST", "/admin/v1/tiers", key: "pricing",
            body: tier(
                fee: "49000000",
                prices:
                    #"{"meter": "request", "model": "*", "unit_price": "0.0001"}, {"meter": "output_token", "model": "iris", "unit_price": "0.000000000001"}"#,
                quotas: #"{"unit": "tokens", "frequency": "month", "amount": 9223372036854775807, "mode": "soft"}"#))
        #expect(answer.status == 201)
        let made = try #require(admin.administration.last.newTier)
        #expect(made.offer.baseFee == Micros(49_000_000))
        #expect(made.offer.rules.map(\.price.unitPrice?.picos) == [100_000_000, 1])
        #expect(made.offer.quotas == [QuotaRule(unit: .tokens, frequency: .month, amount: .max, mode: .soft)])
        #expect(answer.json["version"]["prices"][1]["unit_price"].text == "0.000000000001")
        #expect(answer.json["version"]["base_fee_micros"] == .number("49000000"))
        #expect(answer.json["version"]["quotas"][0]["amount"] == .number("9223372036854775807"))
        #expect(answer.json["version"]["state"].text == "published")
    }

    @Test(
        "a price that is no exact decimal as text is refused",
        arguments: [
            "0.0001", "1e-6", #""1e-6""#, #""-1""#, #""+1""#, #""0.0000000000001""#, #""12345678""#, #"".5""#, #""1.""#,
            #""""#, "null",
            #"" 1""#, #""9999999.999999999999""#,
        ])
    func badPrice(price: String) async throws {
        let answer = try await admin.send(
            "POST", "/admin/v1/tiers",
            body: tier(prices: #"{"meter": "request", "model": "*", "unit_price": \#(price)}"#))
        #expect(answer.status == 422)
        #expect(answer.locations == ["/version/prices/0/unit_price"])
    }

    @Test("how a model's replicas are called is set whole, and shown")
    func setDelivery() async throws {
        let answer = try await admin.send(
            "PUT", "/admin/v1/models/iris/delivery", key: "operator",
            body:
                #"{"balancing": "weighted", "safe_to_repeat": false, "probe_path": "/up", "attempts": 2, "total_ms": null}"#
        )
        #expect(answer.status == 200)
        let set = try #require(admin.administration.last.model)
        #expect(
            set.delivery
                == DeliverySettings(
                    balancing: .weighted, isSafeToRepeat: false, probePath: "/up", numbers: [.attempts: 2]))
        #expect(
            answer.json["delivery"]["attempts"] == .number("2")
                && answer.json["delivery"]["balancing"].text == "weighted")
        #expect(answer.json["delivery"]["safe_to_repeat"] == .bool(false))
    }

    @Test(
        "a setting that cannot be is refused",
        arguments: [
            (#"{"balancing": "random"}"#, "/balancing"), (#"{"attempts": 0}"#, "/attempts"),
            (#"{"attempts": 6}"#, "/attempts"), (#"{"safe_to_repeat": "yes"}"#, "/safe_to_repeat"),
            (#"{"probe_path": "up"}"#, "/probe_path"), (#"{"probe_path": "/a\r\nb: c"}"#, "/probe_path"),
            (#"{"timeout_ms": 5}"#, "/timeout_ms"), (#"{"hedge_after_ms": 1.5}"#, "/hedge_after_ms"),
        ])
    func badDelivery(body: String, location: String) async throws {
        let answer = try await admin.send("PUT", "/admin/v1/models/iris/delivery", body: body)
        #expect((400...422).contains(answer.status) && answer.locations == [location])
        #expect(admin.administration.last.calls.isEmpty)
    }

    @Test("the states of replicas are shown as the gateway says them")
    func replicas() async throws {
        var admin = AdminUnderTest()
        let replica = Replica(
            address: WorkerAddress(host: "10.0.0.1", port: 9_000), workerProtocol: .oip, weight: 3, version: "2")
        admin.replicas = {
            [
                ReplicaReading(
                    model: "iris", replica: replica, condition: .ejected, outstanding: 7, latencyMicroseconds: 1_500,
                    sharePercent: 40, consecutiveFailures: 5, ejectedUntil: Timestamp(rfc3339: "2026-03-01T00:00:00Z"))
            ]
        }
        let answer = try await admin.send("GET", "/admin/v1/replicas", key: "operator")
        #expect(answer.status == 200)
        let item = answer.json["data"][0]
        #expect(item["state"].text == "ejected" && item["address"].text == "10.0.0.1:9000")
        #expect(item["outstanding"] == .number("7") && item["share_percent"] == .number("40"))
        #expect(item["ejected_until"].text?.hasPrefix("2026-03-01T00:00:00") == true)
    }

    @Test("a tier that cannot be is refused")
    func badTier() async throws {
        let price = #"{"meter": "request", "model": "*", "unit_price": "1"}"#
        let quota = #"{"unit": "requests", "frequency": "month", "amount": 1, "mode": "hard"}"#
        for (body, location) in [
            (tier(code: "Plain"), "/code"), (tier(code: "-a"), "/code"),
            (tier(code: String(repeating: "a", count: 65)), "/code"),
            (tier(currency: #""eur""#), "/version/currency"), (tier(currency: "null"), "/version/currency"),
            (tier(fee: "-1"), "/version/base_fee_micros"), (tier(fee: "1.5"), "/version/base_fee_micros"),
            (tier(fee: #""1""#), "/version/base_fee_micros"),
            (tier(fee: "9223372036854775808"), "/version/base_fee_micros"),
            (tier(prices: "\(price), \(price)"), "/version/prices/1/meter"),
            (tier(prices: price.replacing("request", with: "gpu")), "/version/prices/0/meter"),
            (tier(prices: price.replacing("*", with: "A b")), "/version/prices/0/model"),
            (tier(quotas: "\(quota), \(quota)"), "/version/quotas/1/unit"),
            (tier(quotas: quota.replacing("month", with: "decade")), "/version/quotas/0/frequency"),
            (tier(quotas: quota.replacing("1", with: "-1")), "/version/quotas/0/amount"),
            (tier(quotas: quota.replacing("hard", with: "maybe")), "/version/quotas/0/mode"),
            (#"{"code": "a", "name": "a"}"#, "/version"), (#"{"code": "a", "name": "a", "version": []}"#, "/version"),
        ] {
            let answer = try await admin.send("POST", "/admin/v1/tiers", body: body)
            #expect(answer.status == 422, "\(location)")
            #expect(answer.locations == [location])
        }
        #expect(admin.administration.last.calls.isEmpty)
    }

    @Test("an unknown field deep inside is refused like one at the top")
    func unknownFieldInside() async throws {
        let quota = #"{"tenant_id": 1, "unit": "requests", "frequency": "month", "amount": 1, "mode": "hard"}"#
        let answer = try await admin.send("POST", "/admin/v1/tiers", body: tier(quotas: quota))
        #expect(answer.status == 400)
        #expect(answer.code == "unknown_field")
        #expect(answer.locations == ["/version/quotas/0/tenant_id"])
        #expect(admin.administration.last.calls.isEmpty)
    }

    @Test("a model is registered by its name alone, or with all that there is")
    func createModel() async throws {
        try await admin.send("POST", "/admin/v1/models", key: "operator", body: #"{"name": "iris"}"#)
        #expect(
            admin.administration.last.model
                == ModelProfile(
                    name: "iris", version: "", featureCount: nil, fixedTokensPerRequest: 1, maximumOutputTokens: 64))
        let answer = try await admin.send(
            "POST", "/admin/v1/models", key: "operator",
            body:
                #"{"name": "a.b-c_1", "version": "3", "feature_count": 12, "fixed_tokens_per_request": 0, "maximum_output_tokens": 0}"#
        )
        #expect(answer.json["feature_count"] == .number("12"))
        #expect(
            admin.administration.last.model
                == ModelProfile(
                    name: "a.b-c_1", version: "3", featureCount: 12, fixedTokensPerRequest: 0, maximumOutputTokens: 0))
    }

    @Test(
        "a model that cannot be is refused",
        arguments: [
            (#"{"name": "../iris"}"#, "/name"), (#"{"name": "a..b"}"#, "/name"), (#"{"name": "Iris"}"#, "/name"),
            (#"{}"#, "/name"),
            (#"{"name": "a", "version": ""}"#, "/version"), (#"{"name": "a", "version": "../x"}"#, "/version"),
            (#"{"name": "a", "version": "a b"}"#, "/version"),
            (#"{"name": "a", "feature_count": 0}"#, "/feature_count"),
            (#"{"name": "a", "feature_count": 4.5}"#, "/feature_count"),
            (#"{"name": "a", "feature_count": 4097}"#, "/feature_count"),
            (#"{"name": "a", "fixed_tokens_per_request": -1}"#, "/fixed_tokens_per_request"),
            (#"{"name": "a", "maximum_output_tokens": 1000000001}"#, "/maximum_output_tokens"),
        ])
    func badModel(body: String, location: String) async throws {
        let answer = try await admin.send("POST", "/admin/v1/models", body: body)
        #expect(answer.status == 422)
        #expect(answer.locations == [location])
    }

    @Test("a route is set whole, with weights, versions and TLS as they were sent")
    func setRoute() async throws {
        let answer = try await admin.send(
            "PUT", "/admin/v1/routes/iris", key: "operator",
            body:
                #"{"replicas": [{"address": "127.0.0.1:9000", "protocol": "oip", "weight": 3, "version": "1"}, {"address": "https://[::1]:9001", "protocol": "predict"}]}"#
        )
        #expect(answer.status == 200)
        #expect(
            admin.administration.last.replicas == [
                Replica(
                    address: WorkerAddress(host: "127.0.0.1", port: 9_000), workerProtocol: .oip, weight: 3,
                    version: "1"),
                Replica(
                    address: WorkerAddress(host: "::1", port: 9_001, usesTLS: true), workerProtocol: .predict,
                    weight: 1, version: ""),
            ])
        #expect(answer.json["replicas"][1]["address"].text == "https://[::1]:9001")
    }

    @Test(
        "a route to somewhere else than a worker is refused",
        arguments: [
            "10.0.0.1:9000", "169.254.169.254:80", "127.0.0.1", "127.0.0.1:0", "127.0.0.1:65536",
            "http://127.0.0.1:9000/path",
            "http://u:p@127.0.0.1:9000", "file:///etc/passwd", "127.0.0.1:9000?x", "", "gopher://127.0.0.1:1",
        ])
    func badAddress(address: String) async throws {
        let answer = try await admin.send(
            "PUT", "/admin/v1/routes/iris", body: #"{"replicas": [{"address": "\#(address)", "protocol": "oip"}]}"#)
        #expect(answer.status == 422)
        #expect(answer.locations == ["/replicas/0/address"])
        #expect(admin.administration.last.calls.isEmpty)
    }

    @Test("a route without workers, with one twice or with a bad weight is refused")
    func badRoute() async throws {
        let replica = #"{"address": "127.0.0.1:9000", "protocol": "oip"}"#
        for (body, location) in [
            (#"{"replicas": []}"#, "/replicas"), ("{}", "/replicas"), (#"{"replicas": [1]}"#, "/replicas"),
            (#"{"replicas": [\#(replica), \#(replica)]}"#, "/replicas/1/address"),
            (#"{"replicas": [\#(replica.replacing("oip", with: "grpc"))]}"#, "/replicas/0/protocol"),
            (#"{"replicas": [\#(replica.replacing("}", with: #", "weight": 0}"#))]}"#, "/replicas/0/weight"),
            (#"{"replicas": [\#(replica.replacing("}", with: #", "weight": 1001}"#))]}"#, "/replicas/0/weight"),
            (#"{"replicas": [\#(replica.replacing("}", with: #", "version": "1/../.."}"#))]}"#, "/replicas/0/version"),
        ] {
            let answer = try await admin.send("PUT", "/admin/v1/routes/iris", body: body)
            #expect(answer.status == 422, "\(body)")
            #expect(answer.locations == [location])
        }
    }

    @Test("a route of a model whose name cannot be is unknown")
    func badModelInPath() async throws {
        for model in ["Iris", "a..b", "%2e%2e"] {
            #expect(try await admin.send("DELETE", "/admin/v1/routes/\(model)").status == 404)
            #expect(try await admin.send("PUT", "/admin/v1/routes/\(model)", body: #"{"replicas": []}"#).status == 404)
        }
    }

    @Test("a deleted route leaves nothing to say")
    func deleteRoute() async throws {
        let answer = try await admin.send("DELETE", "/admin/v1/routes/iris", key: "operator")
        #expect(answer.status == 204)
        #expect(answer.text.isEmpty)
        #expect(admin.administration.last.calls == ["deleteRoute iris"])
    }
}
