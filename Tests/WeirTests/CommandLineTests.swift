import ArgumentParser
import Foundation
import Testing

@testable import weir

@Suite("Command line")
struct CommandLineTests {
    @Test(
        "every command has help with an explanation",
        arguments: [
            "dev", "serve", "worker", "migrate", "migrate up", "migrate status", "doctor", "tenants list",
            "tenants create", "tenants show",
            "tenants suspend", "tenants resume", "keys list", "keys create", "keys revoke", "tiers list",
            "tiers create", "routes list",
            "routes set", "routes delete", "models list", "models create", "usage report",
        ])
    func help(command: String) throws {
        let text = try helpText(command.split(separator: " ").map(String.init))
        #expect(text.contains("OVERVIEW:") && text.contains("USAGE: weir \(command)"))
    }

    @Test(
        "the commands that run things show examples",
        arguments: [
            "dev", "serve", "worker", "migrate", "doctor", "tenants", "keys", "tiers", "routes", "models", "usage",
        ])
    func examples(command: String) throws {
        let text = try helpText([command])
        let behind = try #require(text.range(of: "Examples:")).upperBound
        #expect(text[behind...].contains("weir \(command)"))
    }

    /// What `weir … --help` prints; it ends with success.
    private func helpText(_ words: [String]) throws -> String {
        let error = #expect(throws: (any Error).self) {
            var command = try Weir.parseAsRoot(words + ["--help"])
            try command.run()
        }
        #expect(Weir.exitCode(for: try #require(error)) == .success)
        return Weir.fullMessage(for: try #require(error))
    }

    @Test(
        "wrong usage exits with 64",
        arguments: [
            ["serve", "--nonsense"], ["cook"], ["dev", "--port", "70000"], ["dev", "--port", "1", "--admin-port", "1"],
            ["worker", "--port", "-1"],
            ["worker", "--delay-ms", "x"], ["serve", "--set", "WEIR_PORT"], ["serve", "--set", "WEIR_PROT=1"],
            ["serve", "--set", "WEIR_KEY_PEPPER=x"], ["routes", "set", "iris"], ["routes", "set", "iris", "nowhere"],
            ["routes", "set", "iris", "127.0.0.1:1*0"], ["routes", "set", "iris", "127.0.0.1:1", "--protocol", "smtp"],
            ["tiers", "create", "t", "--price", "smile=1"], ["tiers", "create", "t", "--price", "request=1e-5"],
            ["tiers", "create", "t", "--failed-request", "dear"], ["tiers", "create", "t", "--cache-hit-request", "0"],
            ["tiers", "create", "t", "--quota", "requests=5"], ["models", "create", "Iris"],
            ["usage", "report", "--group-by", "mood"],
            ["usage", "report", "--tenant", "x", "--group-by", "tenant"], ["tenants", "list", "--limit", "0"],
            ["keys", "create"],
        ])
    func usageErrors(words: [String]) throws {
        let error = #expect(throws: (any Error).self) { try Weir.parseAsRoot(words) }
        #expect(Weir.exitCode(for: try #require(error)).rawValue == 64)
    }

    @Test("flags of serve become the variables that they stand for, over --set")
    func serveFlags() throws {
        let command = try #require(
            Weir.parseAsRoot([
                "serve", "--port", "9000", "--roles", "gateway", "--set", "WEIR_PORT=1", "--set", "DB_POOL_SIZE=5",
                "--config", "/etc/weir.conf",
            ]) as? ServeCommand)
        #expect(command.ownFlags == ["WEIR_PORT": "9000", "WEIR_ROLES": "gateway"])
        #expect(
            try command.settingsOptions.flags() == [
                "WEIR_PORT": "1", "DB_POOL_SIZE": "5", "WEIR_CONFIG": "/etc/weir.conf",
            ])
    }

    @Test("--print-routes stands alone for the public listener")
    func printRoutes() throws {
        #expect((try Weir.parseAsRoot(["serve", "--print-routes"]) as? ServeCommand)?.printRoutes == .public)
        #expect((try Weir.parseAsRoot(["serve", "--print-routes", "admin"]) as? ServeCommand)?.printRoutes == .admin)
        #expect((try Weir.parseAsRoot(["serve"]) as? ServeCommand)?.printRoutes == nil)
    }

    @Test("the defaults of dev are those of the manual")
    func devDefaults() throws {
        let command = try #require(Weir.parseAsRoot(["dev"]) as? DevCommand)
        #expect(
            command.dataDir == ".weir" && command.port == 8080 && command.adminPort == 8081 && !command.noRedis
                && !command.json)
    }

    @Test("a tier's prices and quotas are read from their short forms")
    func tierWords() throws {
        let command = try #require(
            Weir.parseAsRoot([
                "tiers", "create", "standard", "--price", "request=0.00001", "--price",
                "input_token:iris=0.000000150000", "--quota",
                "requests/minute=600", "--quota", "tokens/month=1000000:soft", "--quota",
                "tokens/year=5:hard:subscription", "--failed-request", "charged", "--cache-hit-request", "free",
            ]) as? TiersCommand.Create)
        let body = try command.body()
        #expect(body.name == "standard" && body.version.currency == "USD")
        #expect(body.version.failedRequest == "charged" && body.version.cacheHitRequest == "free")
        #expect(
            body.version.prices == [
                AdminPrice(meter: "request", model: "*", unitPrice: "0.00001"),
                AdminPrice(meter: "input_token", model: "iris", unitPrice: "0.000000150000"),
            ])
        #expect(
            body.version.quotas == [
                AdminQuota(unit: "requests", frequency: "minute", amount: 600, mode: "hard"),
                AdminQuota(unit: "tokens", frequency: "month", amount: 1_000_000, mode: "soft"),
                AdminQuota(unit: "tokens", frequency: "year", amount: 5, mode: "hard", alignment: "subscription"),
            ])
    }

    @Test("a quota is set for a tenant, a user or a key, and raised for at least one period")
    func quotaWords() throws {
        func body(_ arguments: String...) throws -> QuotasCommand.Set.Body? {
            try (Weir.parseAsRoot(["quotas", "set", "t"] + arguments) as? QuotasCommand.Set)?.body()
        }
        let tenants = try #require(try body("tokens/month=5"))
        #expect(tenants.unit == "tokens" && tenants.frequency == "month" && tenants.amount == 5)
        #expect(tenants.mode == "hard" && tenants.userId == nil && tenants.keyId == nil && tenants.alignment == nil)
        #expect(try body("tokens/month=5:soft:subscription", "--key", "k")?.keyId == "k")
        let paid = try body("tokens/month=5:pay_as_you_go:calendar:80,100,200")
        #expect(paid?.mode == "pay_as_you_go" && paid?.thresholdsPercent == [80, 100, 200])
        #expect(try body("tokens/month=5", "--user", "u")?.userId == "u")
        for wrong in [
            ["quotas", "set", "t", "tokens/month=5", "--user", "u", "--key", "k"], ["quotas", "set", "t", "tokens=5"],
            ["quotas", "set", "t", "tokens/month=5:soft:"],
            ["quotas", "set", "t", "tokens/month=5:soft:calendar:80,50"], ["quotas", "raise", "q", "0"],
            ["quotas", "raise", "q", "5", "--periods", "0"],
        ] {
            #expect(throws: (any Error).self) { try Weir.parseAsRoot(wrong) }
        }
        let raise = try #require(Weir.parseAsRoot(["quotas", "raise", "q", "5"]) as? QuotasCommand.Raise)
        #expect(raise.id == "q" && raise.amount == 5 && raise.periods == 1)
    }

    @Test("how replicas are called is said in words of the registry")
    func deliveryWords() throws {
        func body(_ arguments: String...) throws -> [String: DeliveryWord]? {
            try (Weir.parseAsRoot(["models", "delivery", "iris"] + arguments) as? ModelDeliveryCommand)?.body()
        }
        #expect(
            try body("attempts=2", "balancing=least_latency", "safe_to_repeat=false", "probe_path=/a=b")
                == [
                    "attempts": .number(2), "balancing": .text("least_latency"), "safe_to_repeat": .boolean(false),
                    "probe_path": .text("/a=b"),
                ])
        #expect(try body() == [:])
        for wrong in [
            "attempts", "attempts=0", "attempts=x", "balancing=best", "safe_to_repeat=1", "probe_path=up", "x=1",
        ] {
            #expect(throws: (any Error).self, "\(wrong)") { try body(wrong) }
        }
        #expect(throws: (any Error).self) { try body("attempts=1", "attempts=2") }
    }

    @Test("workers of a route may carry weights, and may be IPv6")
    func routeWords() throws {
        let command = try #require(
            Weir.parseAsRoot(["routes", "set", "iris", "127.0.0.1:9000*3", "[::1]:9001", "--protocol", "predict"])
                as? RoutesCommand.Set)
        #expect(
            try command.replicas() == [
                AdminReplica(address: "127.0.0.1:9000", protocol: "predict", weight: 3, version: nil),
                AdminReplica(address: "[::1]:9001", protocol: "predict", weight: 1, version: nil),
            ])
    }
}

@Suite("Admin API client")
struct AdminClientTests {
    @Test("a person's text stays one component of the path and one value of the query")
    func encoding() throws {
        let call = try AdminRequest(.get, ["tenants", "../x?y#z"], query: [("after", "a&b=c"), ("limit", nil)])
        #expect(call.target == "/admin/v1/tenants/..%2Fx%3Fy%23z?after=a%26b%3Dc")
        #expect(call.body == nil)
    }

    @Test("bodies have the contract's names and leave out what is not given")
    func bodies() throws {
        let tenant = try AdminRequest(
            .post, ["tenants"], body: TenantsCommand.Create.Body(name: "A", tier: "basic", timeZone: nil))
        #expect(String(decoding: tenant.body ?? Data(), as: UTF8.self) == #"{"name":"A","tier":"basic"}"#)
        let model = try AdminRequest(
            .post, ["models"],
            body: ModelsCommand.NewModel(
                name: "m", version: "1", featureCount: nil, fixedTokensPerRequest: 2, maximumOutputTokens: nil,
                tokenCounting: nil,
                bytesPerToken: nil))
        #expect(
            String(decoding: model.body ?? Data(), as: UTF8.self)
                == #"{"fixed_tokens_per_request":2,"name":"m","version":"1"}"#
        )
        let route = try AdminRequest(
            .put, ["routes", "m"],
            body: ["replicas": [AdminReplica(address: "h:1", protocol: "oip", weight: 1, version: nil)]])
        #expect(
            String(decoding: route.body ?? Data(), as: UTF8.self)
                == #"{"replicas":[{"address":"h:1","protocol":"oip","weight":1}]}"#)
    }

    @Test("a problem becomes one line, harmless for a terminal")
    func problem() throws {
        let body = """
            {"type":"about:blank","title":"Validation failed","status":422,"detail":"The input is \\u001b[31mbad.","code":"validation_failed",
            "request_id":"req_1","errors":[{"location":"/name","message":"is empty","fix":"give it one"}]}
            """
        let failure = #expect(throws: CommandFailure.self) {
            try AdminAnswer(status: 422, body: Data(body.utf8)).checked()
        }
        #expect(
            failure?.message
                == "Validation failed: The input is  [31mbad.; /name: is empty (give it one) [validation_failed, req_1]"
        )
        #expect(failure?.status == .failed)
    }

    @Test("an unavailable server exits with 69, an answer that is no problem with 1")
    func statuses() {
        let gone = #expect(throws: CommandFailure.self) {
            try AdminAnswer(status: 503, body: Data("{\"title\":\"Gone\"}".utf8)).checked()
        }
        #expect(gone?.status == .unavailable)
        let odd = #expect(throws: CommandFailure.self) {
            try AdminAnswer(status: 404, body: Data("<html>".utf8)).checked()
        }
        #expect(odd?.status == .failed && odd?.message.contains("WEIR_ADMIN_URL") == true)
    }

    @Test("where nobody listens the message says what to do, and the exit code is 69")
    func refused() async throws {
        let port = try FreePort.any()
        let client = AdminClient(baseURL: "http://127.0.0.1:\(port)", key: "k")
        let failure = await #expect(throws: CommandFailure.self) {
            try await client.send(AdminRequest(.get, ["tenants"]))
        }
        #expect(failure?.status == .unavailable)
        #expect(
            failure?.message.contains("http://127.0.0.1:\(port)") == true
                && failure?.message.contains("weir serve") == true)
    }

    @Test("a table aligns words to the left and numbers to the right")
    func table() {
        var table = TextTable(["name", "requests"])
        table.add(["iris", "7"])
        table.add(["a\u{1B}[2J", "12345"])
        table.add([nil, ""])
        #expect(table.text == "NAME   REQUESTS\niris          7\na [2J     12345\n-             -")
    }

    @Test(
        "micro-units are shown as decimals",
        arguments: [(0, "0.000000"), (1, "0.000001"), (-2_500_000, "-2.500000"), (Int64.min, "-9223372036854.775808")])
    func micros(value: Int64, expected: String) {
        #expect(MicrosText.decimal(value) == expected)
    }

    @Test("a tenant without a tier and a key without a tenant are shown like others")
    func absent() throws {
        let tenants = """
            {"object":"list","data":[{"id":"t-1","object":"tenant","name":"A","time_zone":"UTC","state":"active",
            "retention":"none","tier":null,"price_version":null,"created_at":"2026-03-01T00:00:00Z"}],
            "first_id":"t-1","last_id":"t-1","has_more":false}
            """
        let page = try AdminAnswer(status: 200, body: Data(tenants.utf8)).decoded(AdminPage<AdminTenant>.self)
        #expect(TenantsCommand.table(page.data).contains("t-1"))
        let revoked = """
            {"id":"k-1","object":"key","public_id":"ADMINadmin01","tenant_id":null,"name":null,"environment":"admn",
            "last_four":"wxyz","scopes":["admin"],"allowed_models":null,"created_at":"2026-03-01T00:00:00Z",
            "expires_at":null,"revoked_at":"2026-03-02T00:00:00Z"}
            """
        let key = try AdminAnswer(status: 200, body: Data(revoked.utf8)).decoded(AdminKey.self)
        #expect(KeysCommand.table([key]).contains("ADMINadmin01"))
    }

    @Test("a usage report shows its groups, its sums and its time")
    func usage() throws {
        let body = """
            {"object":"list","start":"2026-03-01T00:00:00Z","end":"2026-04-01T00:00:00Z","has_more":false,
            "data":[{"model":"iris","currency":"USD","requests":2,"input_tokens":8,"cached_input_tokens":0,"output_tokens":2,"cost_micros":20}],
            "totals":[{"currency":"USD","requests":2,"input_tokens":8,"cached_input_tokens":0,"output_tokens":2,"cost_micros":20}]}
            """
        let report = try AdminAnswer(status: 200, body: Data(body.utf8)).decoded(AdminUsageReport.self)
        #expect(
            UsageCommand.Report.text(report) == """
                2026-03-01T00:00:00Z to 2026-04-01T00:00:00Z
                MODEL  REQUESTS  INPUT  CACHED  OUTPUT      COST  CURRENCY
                iris          2      8       0       2  0.000020  USD
                total         2      8       0       2  0.000020  USD
                """)
    }
}

@Suite("Doctor")
struct DoctorTests {
    @Test("one failed check makes the report unhealthy, a warning does not")
    func verdict() {
        #expect(DoctorReport([.fine("a", "x"), .warning("b", "y", "z"), .skipped("c", "w")]).healthy)
        #expect(!DoctorReport([.fine("a", "x"), .failed("b", "y", "z")]).healthy)
    }

    @Test("each failure says what to do")
    func text() {
        let report = DoctorReport([.fine("pepper", "set"), .failed("database", "is away", "start it")])
        #expect(report.text == "ok       pepper    set\nFAILED   database  is away\n         -> start it")
    }

    @Test("a doctor without any configuration names the database and the pepper and skips the rest")
    func nothingConfigured() async throws {
        let settings = try Settings.load(SettingsSource(environment: ["WEIR_PORT": "0", "WEIR_ADMIN_PORT": "0"]))
        let findings = await DoctorChecks(settings: settings).run()
        #expect(findings.filter { $0.status == .failed }.map(\.check) == ["pepper", "database"])
        #expect(findings.first { $0.check == "redis" }?.status == .skipped)
        #expect(findings.first { $0.check == "admin" }?.status == .skipped)
    }

    @Test(
        "addresses in disguise are no names",
        arguments: [
            ("worker.internal", true), ("127.1", false), ("2130706433", false), ("0x7f.0x1", false), ("::1", false),
        ])
    func names(host: String, expected: Bool) {
        #expect(NetworkName.isName(host) == expected)
    }
}
