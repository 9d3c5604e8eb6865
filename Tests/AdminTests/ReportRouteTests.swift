import Domain
import Hummingbird
import Synchronization
import Testing

@testable import Admin

/// Reports of figures that a test made up, and what was asked for.
final class FakeReports: ReportRecords {
    struct State {
        var usage: [ReportRow] = []
        var latencies: [LatencyCount] = []
        var outcomes: [OutcomeCount] = []
        var names: [TenantID: String] = [:]
        var invoiced: [InvoicedAmount] = []
        var queries: [ReportQuery] = []
        var isAway = false
    }

    private let state = Mutex(State())
    var queries: [ReportQuery] { state.withLock { $0.queries } }
    func set(_ change: (inout State) -> Void) { state.withLock { change(&$0) } }

    private func arrive() throws(StoreUnavailable) {
        if state.withLock({ $0.isAway }) { throw StoreUnavailable(cause: "connection refused to the-secret-host") }
    }

    func usage(_ query: ReportQuery) async throws(StoreUnavailable) -> [ReportRow] {
        try arrive()
        return state.withLock { state in
            state.queries.append(query)
            return state.usage
        }
    }

    func latencies(from start: Timestamp, to end: Timestamp) async throws(StoreUnavailable) -> [LatencyCount] {
        try arrive()
        return state.withLock { $0.latencies }
    }

    func outcomes(from start: Timestamp, to end: Timestamp) async throws(StoreUnavailable) -> [OutcomeCount] {
        try arrive()
        return state.withLock { $0.outcomes }
    }

    func invoiced(from start: Timestamp, to end: Timestamp) async throws(StoreUnavailable) -> [InvoicedAmount] {
        try arrive()
        return state.withLock { $0.invoiced }
    }

    func names(of tenants: [TenantID]) async throws(StoreUnavailable) -> [TenantID: String] {
        try arrive()
        return state.withLock { $0.names }
    }

    func hours(
        of tenant: TenantID, from start: Timestamp, to end: Timestamp
    ) async throws(StoreUnavailable) -> [HourlyUsage] {
        try arrive()
        return []
    }
}

@Suite("Reports on the admin listener")
struct ReportRouteTests {
    private let admin = AdminUnderTest()
    private let one = TenantID(high: 0x0195_0000_0000_7000, low: 0x8000_0000_0000_0001)
    private let two = TenantID(high: 0x0195_0000_0000_7000, low: 0x8000_0000_0000_0002)

    private func row(
        _ tenant: TenantID?, day: Int = 0, version: TierVersionID = FakePrices.euro, requests: Int64 = 2,
        model: String = "iris", tag: String? = nil, key: UInt64? = nil, user: UInt64? = nil
    ) -> ReportRow {
        ReportRow(
            tenantID: tenant,
            usage: UsageRow(
                day: day, model: model, tierVersionID: version, keyID: key.map { KeyID(high: 7, low: $0) },
                userID: user.map { UserID(high: 8, low: $0) }, tag: tag, requests: requests, inputTokens: 10,
                cachedInputTokens: 0, outputTokens: 5))
    }

    @Test("usage is grouped as asked, time first, and days are cut where the zone's clocks change")
    func usage() async throws {
        admin.reports.set {
            $0.usage = [row(one, day: 1), row(two, day: 0), row(two, day: 1, version: FakePrices.dollar)]
        }
        let answer = try await admin.send(
            "GET",
            "/admin/v1/reports/usage?group_by=day,tenant&time_zone=Europe/Berlin&start=2026-03-28T23:00:00Z&end=2026-03-30T22:00:00Z",
            key: "read")
        #expect(answer.status == 200)
        let data = answer.json["data"]
        #expect(data.count == 3)
        #expect((0..<3).map { data[$0]["day"].text } == ["2026-03-29", "2026-03-30", "2026-03-30"])
        #expect((0..<3).map { data[$0]["tenant_id"].text } == [two.description, one.description, two.description])
        #expect((0..<3).map { data[$0]["currency"].text } == ["EUR", "EUR", "USD"])
        #expect(data[0]["cost_micros"] == .number("3"))
        let query = try #require(admin.reports.queries.first)
        #expect(query.groupsByTenant && !query.groupsByTag)
        #expect(query.stretches.map(\.end.description) == ["2026-03-29T22:00:00Z", "2026-03-30T22:00:00Z"])
    }

    @Test("usage is told apart by user and key, nobody's keys first, and each row is rated alone")
    func usersAndKeys() async throws {
        admin.reports.set {
            $0.usage = [row(one, key: 2, user: 1), row(two, requests: 3, key: 3), row(one, key: 1, user: 1)]
        }
        let answer = try await admin.send("GET", "/admin/v1/reports/usage?group_by=key,user", key: "read")
        let data = answer.json["data"]
        let (user, keys) = (UserID(high: 8, low: 1), (1...3).map { KeyID(high: 7, low: $0).description })
        #expect(data[0]["user_id"] == .null && data[0]["key_id"].text == keys[2])
        #expect((1...2).map { data[$0]["user_id"].text } == [user.description, user.description])
        #expect((1...2).map { data[$0]["key_id"].text } == [keys[0], keys[1]])
        #expect((0..<3).map { data[$0]["cost_micros"] } == [.number("4"), .number("3"), .number("3")])
        let query = try #require(admin.reports.queries.first)
        #expect(query.groupsByKey && query.groupsByUser && !query.groupsByTenant && !query.groupsByTag)
        let users = try await admin.send("GET", "/admin/v1/reports/usage?group_by=user&format=csv")
        #expect(
            users.text == """
                user_id,currency,requests,input_tokens,cached_input_tokens,output_tokens,cost_micros\r
                ,EUR,3,10,0,5,4\r
                \(user),EUR,4,20,0,10,6\r

                """)
        let last = try #require(admin.reports.queries.last)
        #expect(last.groupsByUser && !last.groupsByKey)
    }

    @Test("customers come in the order of what is compared, with their names")
    func topCustomers() async throws {
        admin.reports.set { [one, two] in
            $0.usage = [
                self.row(one, requests: 4), self.row(two, requests: 40), self.row(one, requests: 4, model: "x"),
            ]
            $0.names = [one: "One", two: "=Two()"]
        }
        let answer = try await admin.send("GET", "/admin/v1/reports/top-customers")
        #expect((0..<2).map { answer.json["data"][$0]["name"].text } == ["=Two()", "One"])
        #expect(answer.json["data"][1]["requests"] == .number("8"))
        let csv = try await admin.send(
            "GET", "/admin/v1/reports/top-customers", headers: [.accept: "text/csv"])
        #expect(csv.headers[.contentType]?.hasPrefix("text/csv") == true)
        let lines = csv.text.split(separator: "\r\n")
        #expect(
            lines.first
                == "tenant_id,name,currency,requests,input_tokens,cached_input_tokens,output_tokens,cost_micros")
        #expect(lines[1] == "\(two),'=Two(),EUR,40,10,0,5,60")
    }

    @Test("of a tier its customers are counted once")
    func tiers() async throws {
        admin.reports.set {
            $0.usage = [row(one), row(two), row(two, model: "x")]
            $0.invoiced = [
                InvoicedAmount(tier: "gone", currency: "EUR", amount: Micros(5), invoices: 1),
                InvoicedAmount(tier: "plain", currency: "EUR", amount: Micros(70), invoices: 2),
                InvoicedAmount(tier: nil, currency: "EUR", amount: Micros(-7), invoices: 1),
            ]
        }
        let answer = try await admin.send("GET", "/admin/v1/reports/revenue-by-tier")
        let data = answer.json["data"]
        #expect(data.count == 3)
        #expect(data[0]["tier"].text == "plain" && data[0]["invoiced_micros"] == .number("70"))
        #expect(data[1]["tier"].text == "gone" && data[1]["invoices"] == .number("1"))
        #expect(data[1]["requests"] == .number("0"))
        #expect(data[2]["tier"] == .null && data[2]["invoiced_micros"] == .number("-7"))
        #expect(answer.json["data"][0]["tenants"] == .number("2"))
        #expect(answer.json["data"][0]["requests"] == .number("6"))
    }

    @Test("errors are told with their share, a model's sum first")
    func errors() async throws {
        admin.reports.set {
            $0.outcomes = [
                OutcomeCount(model: "iris", failure: nil, requests: 997),
                OutcomeCount(model: "iris", failure: .init(code: "bad_upstream", httpStatus: 502), requests: 2),
                OutcomeCount(model: "iris", failure: .init(code: "upstream_timeout", httpStatus: 504), requests: 1),
            ]
        }
        let data = try await admin.send("GET", "/admin/v1/reports/errors").json["data"]
        #expect(data.count == 3 && data[0]["error_code"] == .null && data[0]["errors"] == .number("3"))
        #expect(data[0]["error_share_basis_points"] == .number("30"))
        #expect(data[1]["error_code"].text == "bad_upstream" && data[1]["http_status"] == .number("502"))
    }

    @Test("times are told with the error of their classes")
    func latency() async throws {
        admin.reports.set {
            $0.latencies = [
                LatencyCount(model: "iris", latencyClass: LatencyHistogram.index(ofMicroseconds: 1_000), requests: 99),
                LatencyCount(model: "iris", latencyClass: LatencyHistogram.index(ofMicroseconds: 90_000), requests: 1),
            ]
        }
        let answer = try await admin.send("GET", "/admin/v1/reports/latency")
        #expect(answer.json["error_basis_points"] == .number("1250"))
        #expect(answer.json["data"][0]["p50_us"] == .number("1023"))
        #expect(answer.json["data"][0]["p99_us"] == .number("1023"))
    }

    @Test("pages follow one another, and a page of another question is none")
    func pages() async throws {
        admin.reports.set { $0.usage = [row(one, model: "a"), row(one, model: "b"), row(one, model: "c")] }
        let question = "/admin/v1/reports/usage?group_by=model&start=2026-03-01T00:00:00Z&end=2026-03-02T00:00:00Z"
        let first = try await admin.send("GET", question + "&limit=2")
        #expect(first.json["data"].count == 2 && first.json["has_more"] == .bool(true))
        let page = try #require(first.json["next_page"].text)
        let second = try await admin.send("GET", question + "&limit=2&page=\(page)")
        #expect(second.json["data"][0]["model"].text == "c" && second.json["next_page"] == .null)
        for forged in [
            question.replacing("model&", with: "tier&") + "&page=\(page)", question + "&page=\(page)x",
            question + "&page=page_1_1", question + "&page=", question + "&page=page_0_\(page.suffix(5))",
        ] {
            let answer = try await admin.send("GET", forged)
            #expect(answer.status == 422 && answer.locations == ["page"], "\(forged)")
        }
    }

    @Test(
        "a range that is turned round, empty or too long, a zone that there is not, and too many groups are refused",
        arguments: [
            ("usage?start=2026-03-02T00:00:00Z&end=2026-03-01T00:00:00Z", "end"),
            ("usage?start=2026-03-02T00:00:00Z&end=2026-03-02T00:00:00Z", "end"),
            ("errors?start=2024-01-01T00:00:00Z&end=2026-03-02T00:00:00Z", "start"),
            ("latency?start=2025-03-01T00:00:00Z&end=2025-08-01T00:00:00Z", "start"),
            ("usage?time_zone=Mars/Olympus", "time_zone"), ("usage?start=2026-03-02T00:01:00Z", "start"),
            ("usage?group_by=day,hour", "group_by"), ("usage?group_by=day,day", "group_by"),
            ("usage?group_by=tag,key", "group_by"), ("usage?group_by=user,tag", "group_by"),
            ("usage?group_by=week", "group_by"), ("usage?format=xml", "format"), ("usage?limit=0", "limit"),
            ("top-customers?order_by=name", "order_by"), ("errors?group_by=model", "group_by"),
        ])
    func refused(target: String, location: String) async throws {
        let answer = try await admin.send("GET", "/admin/v1/reports/\(target)")
        #expect(answer.status == 422 && answer.locations == [location])
    }

    @Test("a day on which the clocks change is a day like others")
    func clockChange() async throws {
        let day = "start=2026-03-28T23:00:00Z&end=2026-03-29T22:00:00Z"
        let answer = try await admin.send(
            "GET", "/admin/v1/reports/usage?group_by=hour&time_zone=Europe/Berlin&\(day)")
        #expect(answer.status == 200)
        #expect(try #require(admin.reports.queries.first).stretches.count == 23)
    }
}

/// Two tenants on one tier, whose period has what a test gives it.
struct FakeMonths: RatingRecords {
    static let accounts = [1, 2, 3].map { (number: UInt64) in
        BillingAccount(
            tenantID: TenantID(high: 0x0195_0000_0000_7000, low: 0x8000_0000_0000_0000 | number),
            name: "Tenant \(number)",
            timeZone: number == 2 ? "Asia/Tokyo" : "UTC")
    }

    func account(_ tenant: TenantID) async throws(StoreUnavailable) -> BillingAccount? {
        Self.accounts.first { $0.tenantID == tenant }
    }

    func currentVersion(of tenant: TenantID) async throws(StoreUnavailable) -> TierVersionID? { nil }

    func accounts(after: TenantID?, limit: Int) async throws(StoreUnavailable) -> [BillingAccount] {
        Array(Self.accounts.filter { account in after.map { account.tenantID > $0 } ?? true }.prefix(limit))
    }

    func input(_ tenant: TenantID, _ period: Period) async throws(StoreUnavailable) -> RatingInput {
        let terms = TierTerms(
            tierVersionID: FakePrices.euro, tierCode: "plain", version: 1, currency: "EUR", baseFee: Micros(7_000_000))
        return RatingInput(
            spans: [SubscriptionSpan(tierVersionID: FakePrices.euro, start: period.start, end: period.end)],
            usage: [
                UsageQuantity(
                    tierVersionID: FakePrices.euro, model: "iris", requests: 10, inputTokens: 40, outputTokens: 2)
            ], terms: [FakePrices.euro: terms])
    }

    func terms(_ versions: [TierVersionID]) async throws(StoreUnavailable) -> [TierVersionID: TierTerms] { [:] }
}

@Suite("Forecasts on the admin listener")
struct ForecastRouteTests {
    private let admin = AdminUnderTest()

    @Test("each tenant's running month, page by page")
    func pages() async throws {
        let first = try await admin.send("GET", "/admin/v1/reports/forecast?limit=2", key: "read")
        #expect(first.status == 200 && first.json["data"].count == 2)
        #expect(first.json["data"][0]["cost_at_end_micros"] == .number("7000000"))
        #expect(first.json["data"][0]["requests_so_far"] == .number("10"))
        #expect(first.json["data"][1]["period_start"].text == "2026-02-28T15:00:00Z")
        let page = try #require(first.json["next_page"].text)
        let second = try await admin.send("GET", "/admin/v1/reports/forecast?limit=2&page=\(page)")
        #expect(second.json["data"].count == 1 && second.json["data"][0]["name"].text == "Tenant 3")
        #expect(second.json["has_more"] == .bool(false))
    }

    @Test("one tenant alone, and none that there is not")
    func one() async throws {
        let id = FakeMonths.accounts[1].tenantID
        let answer = try await admin.send("GET", "/admin/v1/reports/forecast?tenant_id=\(id)")
        #expect(answer.json["data"].count == 1 && answer.json["data"][0]["tenant_id"].text == id.description)
        let unknown = TenantID(high: 0x0195_0000_0000_7000, low: 0x8000_0000_0000_00FF)
        let missing = try await admin.send("GET", "/admin/v1/reports/forecast?tenant_id=\(unknown)")
        #expect(missing.status == 404)
    }
}
