import Domain
import Hummingbird
import Testing

@testable import Admin

@Suite("Usage and the audit log on the admin listener")
struct UsageAndAuditRouteTests {
    private let admin = AdminUnderTest()
    private let ofTenant = "/admin/v1/tenants/\(FakeAdministration.tenantID)/usage"
    private let other = TenantID(high: 0x0195_0000_0000_7000, low: 0x8000_0000_0000_00FF)

    private func row(
        _ tenantID: TenantID = FakeAdministration.tenantID, day: Int = 0, version: TierVersionID = FakePrices.euro,
        requests: Int64 = 1,
        model: String = "iris"
    ) -> TenantUsageRow {
        TenantUsageRow(
            tenantID: tenantID,
            usage: UsageRow(
                day: day, model: model, tierVersionID: version, keyID: nil, requests: requests, inputTokens: 10,
                cachedInputTokens: 0,
                outputTokens: 5))
    }

    @Test("without a range it is the current month in the tenant's time zone")
    func month() async throws {
        let answer = try await admin.send("GET", ofTenant, key: "read")
        #expect(answer.json["start"].text == "2026-02-28T23:00:00Z")
        #expect(answer.json["end"].text == "2026-03-31T22:00:00Z")
        #expect(answer.json["time_zone"].text == "Europe/Berlin")
        let query = try #require(admin.administration.last.usageQuery)
        #expect(query.tenantID == FakeAdministration.tenantID)
        #expect(query.stretches.count == 1)
        #expect(query.stretches[0].timeZone == nil)
    }

    @Test("nothing used has the currency of the tenant's tier and sums of zero")
    func nothing() async throws {
        let answer = try await admin.send("GET", ofTenant)
        #expect(answer.json["currency"].text == "EUR")
        #expect(answer.json["data"].count == 0)
        #expect(answer.json["total"]["requests"] == .number("0"))
    }

    @Test("nothing used without a tier has no currency")
    func noCurrency() async throws {
        admin.administration.set { $0.hasTier = false }
        let answer = try await admin.send("GET", ofTenant)
        #expect(answer.status == 200)
        #expect(answer.json.keys.contains("currency") && answer.json["currency"] == .null)
    }

    @Test("lines are rated, each rounded once to the even micro-unit, and sum to the total")
    func rated() async throws {
        // 1.5 micro-units a request: one is 2, three are 4.5 and so 4.
        admin.administration.set { $0.usage = [row(requests: 1, model: "a"), row(requests: 3, model: "b")] }
        let answer = try await admin.send("GET", ofTenant + "?group_by=model")
        #expect(answer.json["data"][0]["cost_micros"] == .number("2"))
        #expect(answer.json["data"][1]["cost_micros"] == .number("4"))
        #expect(answer.json["total"]["cost_micros"] == .number("6"))
        #expect(answer.json["data"][0]["model"].text == "a")
        #expect(answer.json["data"][0].keys.contains("day") == false)
    }

    @Test("days are those of the tenant's time zone, also where one is an hour short")
    func days() async throws {
        try await admin.send("GET", ofTenant + "?group_by=day&start=2026-03-28T23:00:00Z&end=2026-03-30T12:00:00Z")
        let stretches = try #require(admin.administration.last.usageQuery).stretches
        #expect(stretches.map(\.start.description) == ["2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z"])
        #expect(stretches.map(\.end.description) == ["2026-03-29T22:00:00Z", "2026-03-30T12:00:00Z"])
        #expect(Set(stretches.map(\.timeZone)) == ["Europe/Berlin"])
    }

    @Test("rows above the limit are left out, but not out of the total")
    func limit() async throws {
        admin.administration.set { $0.usage = [row(model: "a"), row(model: "b"), row(model: "c")] }
        let answer = try await admin.send("GET", ofTenant + "?group_by=model&limit=2")
        #expect(answer.json["data"].count == 2)
        #expect(answer.json["has_more"] == .bool(true))
        #expect(answer.json["total"]["requests"] == .number("3"))
    }

    @Test(
        "a query that makes no sense is refused",
        arguments: [
            ("start=2026-03-01", "start"), ("start=2026-03-02T00:00:00Z&end=2026-03-01T00:00:00Z", "end"),
            ("start=2026-03-01T00:00:00Z&end=2026-03-01T00:00:00Z", "end"), ("group_by=week", "group_by"),
            ("group_by=", "group_by"),
            ("group_by=day,day", "group_by"), ("group_by=day,", "group_by"), ("limit=1001", "limit"),
            ("start=2026-03-01T00:07:00Z", "start"), ("end=2026-03-20T12:15:00.000001Z", "end"),
            ("group_by=day&start=1970-01-01T00:00:00Z&end=2100-01-01T00:00:00Z", "start"),
        ])
    func badQuery(query: String, location: String) async throws {
        for path in [ofTenant, "/admin/v1/usage"] {
            let answer = try await admin.send("GET", "\(path)?\(query)")
            #expect(answer.status == 422, "\(path)")
            #expect(answer.locations == [location])
        }
    }

    @Test("usage is told apart by user, in days too, and what is nobody's is a line without one")
    func users() async throws {
        let user = UserID(high: 8, low: 1)
        func used(by user: UserID?) -> TenantUsageRow {
            TenantUsageRow(
                tenantID: FakeAdministration.tenantID,
                usage: UsageRow(
                    day: 0, model: "iris", tierVersionID: FakePrices.euro, keyID: nil, userID: user, requests: 1,
                    inputTokens: 10, cachedInputTokens: 0, outputTokens: 5))
        }
        admin.administration.set { $0.usage = [used(by: user), used(by: nil), used(by: user)] }
        for path in [ofTenant, "/admin/v1/usage"] {
            let answer = try await admin.send("GET", "\(path)?group_by=day,user")
            #expect(answer.json["data"].count == 2, "\(path)")
            #expect(answer.json["data"][0].keys.contains("user_id") == false)
            #expect(answer.json["data"][1]["user_id"].text == user.description)
            #expect(answer.json["data"][1]["requests"] == .number("2"))
            let query = try #require(admin.administration.last.usageQuery)
            #expect(query.groupsByUser && !query.groupsByKey)
        }
    }

    @Test("one tenant cannot be grouped by tenant")
    func groupOfOneTenant() async throws {
        #expect(try await admin.send("GET", ofTenant + "?group_by=tenant").status == 422)
        #expect(try await admin.send("GET", "/admin/v1/usage?group_by=tenant").status == 200)
    }

    @Test("currencies of one tenant are not added up")
    func mixedCurrencies() async throws {
        admin.administration.set { $0.usage = [row(), row(version: FakePrices.dollar)] }
        let answer = try await admin.send("GET", ofTenant)
        #expect(answer.status == 409)
        #expect(answer.code == "conflict")
    }

    @Test("usage of an unknown price version is an error of ours and never free")
    func unknownVersion() async throws {
        admin.administration.set { $0.usage = [row(version: TierVersionID(high: 9, low: 9))] }
        #expect(try await admin.send("GET", ofTenant).status == 500)
        #expect(try await admin.send("GET", "/admin/v1/usage").status == 500)
    }

    @Test("all tenants have a total for each currency")
    func totals() async throws {
        admin.administration.set {
            $0.usage = [row(requests: 2), row(other, requests: 4), row(other, version: FakePrices.dollar, requests: 6)]
        }
        let byTenant = try await admin.send("GET", "/admin/v1/usage?group_by=tenant")
        #expect(byTenant.json["data"].count == 3)
        #expect(byTenant.json["data"][0]["tenant_id"].text == FakeAdministration.tenantID.description)
        #expect(byTenant.json["totals"].count == 2)
        #expect(byTenant.json["totals"][0]["currency"].text == "EUR")
        #expect(byTenant.json["totals"][0]["requests"] == .number("6"))
        #expect(byTenant.json["totals"][0]["cost_micros"] == .number("9"))
        #expect(byTenant.json["totals"][1]["currency"].text == "USD")
        #expect(byTenant.json["totals"][1]["requests"] == .number("6"))
        let together = try await admin.send("GET", "/admin/v1/usage")
        #expect(together.json["data"].count == 2)
        #expect(together.json["data"][0].keys.contains("tenant_id") == false)
        #expect(together.json["data"][0]["currency"].text == "EUR")
    }

    @Test("one day in two time zones is one line")
    func dayInTwoZones() async throws {
        admin.administration.set { state in
            state.timeZones = ["Asia/Tokyo", "UTC"]
            // Tokyo's days are the stretches 0 and 1, UTC's are 2 and 3.
            state.usage = [row(day: 1), row(other, day: 2)]
        }
        let answer = try await admin.send(
            "GET", "/admin/v1/usage?group_by=day&start=2026-03-01T00:00:00Z&end=2026-03-02T12:00:00Z")
        let stretches = try #require(admin.administration.last.usageQuery).stretches
        #expect(stretches.map(\.timeZone) == ["Asia/Tokyo", "Asia/Tokyo", "UTC", "UTC"])
        #expect(
            stretches.map(\.start.description).dropFirst() == [
                "2026-03-01T15:00:00Z", "2026-03-01T00:00:00Z", "2026-03-02T00:00:00Z",
            ])
        #expect(answer.json["data"].count == 2)
        #expect(answer.json["data"][0]["day"].text == "2026-03-01")
        #expect(answer.json["data"][1]["day"].text == "2026-03-02")
    }

    @Test("the audit log is filtered, and its documents come whole")
    func audit() async throws {
        let answer = try await admin.send(
            "GET", "/admin/v1/audit?tenant_id=\(FakeAdministration.tenantID)&action=tenant.change&limit=5")
        let query = try #require(admin.administration.last.auditQuery)
        #expect(query.tenantID == FakeAdministration.tenantID)
        #expect(query.action == "tenant.change")
        let entry = answer.json["data"][0]
        #expect(entry["before"]["state"].text == "active")
        // Greater than 2⁵³: it must not have passed through floating point.
        #expect(entry["before"]["amount"] == .number("9007199254740993"))
        #expect(entry["after"] == .null)
        #expect(
            entry.keys == [
                "id", "object", "at", "actor", "action", "subject_type", "subject_id", "tenant_id", "before", "after",
            ])
    }

    @Test(
        "a filter that no entry can fit is refused",
        arguments: ["tenant_id=x", "action=tenant", "action=Tenant.Change", "action=a.b.c", "action=.a"])
    func badFilter(query: String) async throws {
        #expect(try await admin.send("GET", "/admin/v1/audit?\(query)").status == 422)
    }
}
