import Domain
import Testing

@testable import Admin

@Suite("Quotas on the admin listener")
struct QuotaRouteTests {
    private static let quotas = "/admin/v1/tenants/\(FakeAdministration.tenantID)/quotas"
    private static let one = "/admin/v1/quotas/\(FakeAdministration.quotaID)"
    private static let user = "0195a3c0-1111-7a52-bb10-6d7e8f901a2b"

    @Test("a quota is set for the tenant, a user or a key, hard and by the calendar unless it is said otherwise")
    func set() async throws {
        let rule = #""unit": "requests", "frequency": "day", "amount": 7"#
        let userID = try #require(UserID(Self.user))
        let cases: [(String, QuotaHolder, QuotaRule)] = [
            ("{\(rule)}", .tenant, QuotaRule(unit: .requests, frequency: .day, amount: 7, mode: .hard)),
            (
                "{\(rule), \"user_id\": \"\(Self.user)\", \"key_id\": null, \"mode\": \"soft\"}", .user(userID),
                QuotaRule(unit: .requests, frequency: .day, amount: 7, mode: .soft)
            ),
            (
                "{\(rule), \"key_id\": \"\(FakeAdministration.keyID)\", \"alignment\": \"subscription\"}",
                .key(FakeAdministration.keyID),
                QuotaRule(unit: .requests, frequency: .day, amount: 7, mode: .hard, alignment: .subscription)
            ),
        ]
        for (body, holder, rule) in cases {
            let admin = AdminUnderTest()
            let answer = try await admin.send("PUT", Self.quotas, body: body)
            #expect(answer.status == 200, "\(answer.text)")
            #expect(
                admin.administration.last.newQuota
                    == NewQuota(tenantID: FakeAdministration.tenantID, holder: holder, rule: rule))
            #expect(answer.json["level"].text == holder.level.rawValue)
            #expect(answer.json["user_id"].text == holder.userID?.description)
            #expect(answer.json["key_id"].text == holder.keyID?.description)
            #expect(answer.json["alignment"].text == rule.alignment.rawValue)
            #expect(answer.json.keys.count == 15)
        }
    }

    @Test("thresholds are set in ascending order, and a mode that goes on by its name")
    func thresholds() async throws {
        let rule = #""unit": "requests", "frequency": "day", "amount": 7, "mode": "pay_as_you_go""#
        for (list, percents) in [("[]", []), ("[1, 200, 1000]", [1, 200, 1_000])] as [(String, [Int16])] {
            let admin = AdminUnderTest()
            let answer = try await admin.send(
                "PUT", Self.quotas, body: "{\(rule), \"thresholds_percent\": \(list)}")
            #expect(answer.status == 200, "\(answer.text)")
            #expect(admin.administration.last.newQuota?.rule.thresholds.percents == percents)
            #expect(admin.administration.last.newQuota?.rule.mode == .payAsYouGo)
            #expect(
                answer.text.contains("\"thresholds_percent\":[\(percents.map(String.init).joined(separator: ","))]"))
        }
        for list in ["[0]", "[1001]", "[80, 50]", "[50, 50]", "[1.5]", "50", "[1,2,3,4,5,6,7,8,9,10,11]", "null"] {
            let answer = try await AdminUnderTest().send(
                "PUT", Self.quotas, body: "{\(rule), \"thresholds_percent\": \(list)}")
            #expect(answer.status == 422 && answer.locations == ["/thresholds_percent"], "\(list)")
        }
    }

    @Test("the events of one tenant or of all are listed in pages")
    func events() async throws {
        let admin = AdminUnderTest()
        let answer = try await admin.send(
            "GET",
            "/admin/v1/quotas/events?tenant=\(FakeAdministration.tenantID)&after=\(FakeAdministration.eventID)&limit=7")
        #expect(answer.status == 200, "\(answer.text)")
        #expect(admin.administration.last.calls.first == "quotaEvents \(FakeAdministration.tenantID)")
        #expect(admin.administration.last.page == "7 \(FakeAdministration.eventID) -")
        for part in [
            #""threshold_percent":80"#, #""mode":"pay_as_you_go""#, #""used":1850"#, #""amount":1000"#,
            #""limit":2000"#,
            #""policy":"tokens-month""#,
        ] { #expect(answer.text.contains(part), "\(part)") }
        #expect(try await admin.send("GET", "/admin/v1/quotas/events").status == 200)
        #expect(AdminRouteCatalog.methods(for: "/admin/v1/quotas/events") == ["GET"])
        #expect(AdminRouteCatalog.methods(for: "/admin/v1/quotas/x") == ["DELETE"])
        #expect(try await admin.send("GET", "/admin/v1/quotas/events?tenant=x").status == 422)
        #expect(try await admin.send("GET", "/admin/v1/quotas/events?after=x").status == 422)
    }

    @Test("everything that is wrong with a quota is named at once")
    func wrong() async throws {
        let admin = AdminUnderTest()
        let body =
            #"{"unit": "bytes", "amount": -1, "mode": "firm", "alignment": 1, "user_id": "x", "key_id": 5}"#
        let answer = try await admin.send("PUT", Self.quotas, body: body)
        #expect(answer.status == 422)
        #expect(
            Set(answer.locations) == [
                "/unit", "/frequency", "/amount", "/mode", "/alignment", "/user_id", "/key_id",
            ])
        let both =
            "{\"unit\": \"tokens\", \"frequency\": \"day\", \"amount\": 1, \"user_id\": \"\(Self.user)\", \"key_id\": \"\(Self.user)\"}"
        #expect(try await admin.send("PUT", Self.quotas, body: both).locations == ["/key_id"])
        #expect(admin.administration.last.calls.isEmpty)
    }

    @Test("a raise is for one period unless it is said otherwise")
    func raise() async throws {
        for (body, periods) in [(#"{"amount": 9}"#, 1), (#"{"amount": 9, "periods": 3}"#, 3)] {
            let admin = AdminUnderTest()
            let answer = try await admin.send("POST", Self.one + "/raise", body: body)
            #expect(answer.status == 200 && answer.text.contains(#""raised":9"#))
            #expect(admin.administration.last.raise?.amount == 9 && admin.administration.last.raise?.periods == periods)
            #expect(admin.administration.last.calls == ["raiseQuota \(FakeAdministration.quotaID)"])
        }
        for body in [#"{}"#, #"{"amount": 0}"#, #"{"amount": 1, "periods": 0}"#, #"{"amount": 1, "periods": 1001}"#] {
            #expect(try await AdminUnderTest().send("POST", Self.one + "/raise", body: body).status == 422)
        }
    }

    @Test("a malformed id is unknown")
    func malformed() async throws {
        let admin = AdminUnderTest()
        #expect(try await admin.send("DELETE", "/admin/v1/quotas/x").code == "not_found")
        #expect(try await admin.send("POST", "/admin/v1/quotas/x/raise", body: #"{"amount": 1}"#).code == "not_found")
        #expect(admin.administration.last.calls.isEmpty)
    }
}
