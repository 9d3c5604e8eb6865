import Domain
import HTTPListener
import Hummingbird
import Testing

@testable import Admin

/// One request that each route accepts, and what it answers.
struct SampleRequest: Sendable, CustomTestStringConvertible {
    let entry: AdminRouteCatalog.Entry

    var testDescription: String { "\(entry.method) \(entry.path)" }

    static let all = AdminRouteCatalog.routes.map(SampleRequest.init)

    var path: String {
        if entry.path.hasPrefix("/admin/v1/exports/") {
            return entry.path.replacing("{id}", with: FakeAdministration.exportID.publicText).replacing(
                "{part}", with: "1")
        }
        if entry.operation == .distrustSigningKey {
            return entry.path.replacing("{id}", with: "9f86d081884c7d65")
        }
        return entry.path.replacing("{id}", with: FakeAdministration.tenantID.description)
            .replacing("{key_id}", with: FakeAdministration.keyID.description).replacing("{model}", with: "iris")
            .replacing("{quota_id}", with: FakeAdministration.quotaID.description)
            .replacing("{worker_id}", with: FakeAdministration.workerID.description)
            .replacing("{code}", with: "plain")
            .replacing("{version}", with: entry.path.hasPrefix("/admin/v1/tiers") ? "2" : "1.0.0").replacing(
                "{alias}", with: "flowers"
            )
            .replacing("{issuer}", with: "default")
    }

    /// What the route cannot do without.
    var query: String {
        switch entry.operation {
        case .exportUsage: "?start=2026-03-01T00:00:00Z&end=2026-03-02T00:00:00Z"
        case .getSubscription, .listCredits, .verifyLedger: "?tenant=\(FakeAdministration.tenantID)"
        default: ""
        }
    }

    var body: String? {
        switch entry.operation {
        case .createTenant: #"{"name": "Example", "tier": "plain"}"#
        case .changeTenant: #"{"state": "suspended"}"#
        case .createKey: #"{"scopes": ["predict"]}"#
        case .changeKey: #"{"rate_limits": []}"#
        case .createTier:
            #"{"code": "plain", "name": "Plain", "version": {"currency": "EUR", "prices": [], "quotas": []}}"#
        case .draftTierVersion: #"{"currency": "EUR", "prices": [], "quotas": []}"#
        case .changeTierVersion: #"{"base_fee_micros": 5}"#
        case .publishTierVersion: #"{"confirm": null}"#
        case .replayTierVersion: #"{"periods": 1}"#
        case .setQuota: #"{"unit": "tokens", "frequency": "month", "amount": 5}"#
        case .raiseQuota: #"{"amount": 5}"#
        case .createModel: #"{"name": "iris"}"#
        case .setDelivery: #"{"attempts": 2}"#
        case .setModelCache: #"{"enabled": true}"#
        case .clearCache: #"{"model": "iris"}"#
        case .rebuildUsage: #"{"from": "2026-03-01T00:00:00Z", "to": "2026-03-02T00:00:00Z"}"#
        case .createExport: #"{"format": "csv", "incremental": true}"#
        case .runReconciliation: #"{"tenant": null}"#
        case .setStripeCustomer: #"{"customer_id": "cus_1"}"#
        case .retryStripeDelivery: #"{"identifier": "a:b:request:1"}"#
        case .setRoute: #"{"replicas": [{"address": "127.0.0.1:9000", "protocol": "oip"}]}"#
        case .changeModelRouting: #"{"default_version": "1.0.0"}"#
        case .setModelVersion: #"{"state": "active"}"#
        case .setAlias: #"{"model": "iris"}"#
        case .draftInvoice: #"{"tenant": "\#(FakeAdministration.tenantID)", "month": "2026-01"}"#
        case .voidInvoice: #"{"reason": "A mistake"}"#
        case .creditInvoice: #"{"amount_micros": 5, "reason": "An outage"}"#
        case .setIssuer: #"{"name": "Example"}"#
        case .grantCredit:
            #"{"tenant": "\#(FakeAdministration.tenantID)", "currency": "EUR", "amount_micros": 5, "reason": "Welcome"}"#
        case .changeSubscription: #"{"tenant": "\#(FakeAdministration.tenantID)", "tier": "plain"}"#
        case .cancelSubscriptionChange: #"{"tenant": "\#(FakeAdministration.tenantID)"}"#
        case .postAdjustment:
            #"{"request_id": "\#(FakeAdministration.tenantID)", "requests": -1, "reason": "It was ours"}"#
        case .setPrepaid: #"{"prepaid": true}"#
        case .rotateSigningKey: #"{"compromised": false}"#
        case .registerWorker: #"{"model": "iris", "address": "127.0.0.1:9000", "protocol": "oip"}"#
        default: nil
        }
    }

    var status: Int {
        switch entry.operation {
        case .createTenant, .createKey, .createTier, .draftTierVersion, .createModel, .registerWorker, .draftInvoice,
            .creditInvoice, .grantCredit, .postAdjustment, .rotateSigningKey:
            201
        case .createExport: 202
        case .deleteRoute, .deleteQuota, .deleteAlias, .removeWorker, .deleteTierVersion: 204
        default: 200
        }
    }

    /// Whether the route reads a body.
    var takesBody: Bool { body != nil }
    /// Whether the route asks the store for anything.
    var asksStore: Bool {
        ![.getMetrics, .listReplicas, .analyseTiers, .replayIssuedInvoices, .exportUsage].contains(entry.operation)
    }

    func send(to admin: AdminUnderTest, key: String? = "admin") async throws -> Answer {
        try await admin.send(entry.method, path + query, key: key, body: body)
    }
}

@Suite("Who may do what on the admin listener")
struct RouteAccessTests {
    @Test("every route answers an administrator", arguments: SampleRequest.all)
    func success(_ sample: SampleRequest) async throws {
        let answer = try await sample.send(to: AdminUnderTest())
        #expect(answer.status == sample.status, "\(answer.text)")
        #expect(answer.headers[.requestID]?.hasPrefix("req_") == true)
        #expect(answer.headers[.cacheControl] == "no-store")
    }

    @Test("a key does what its scope says and nothing else", arguments: SampleRequest.all)
    func scopes(_ sample: SampleRequest) async throws {
        for scope in Scope.allCases {
            let admin = AdminUnderTest()
            let answer = try await sample.send(to: admin, key: scope.rawValue)
            if sample.entry.scopes.contains(scope) {
                #expect(answer.status == sample.status, "\(scope)")
            } else {
                #expect(answer.status == 403, "\(scope)")
                #expect(answer.code == "insufficient_scope")
                #expect(admin.administration.last.calls.isEmpty, "\(scope)")
            }
        }
    }

    @Test(
        "scopes are as written down",
        arguments: [
            (
                "operator",
                [
                    "getMetrics", "listModels", "createModel", "getModelUsage", "setDelivery", "listRoutes", "setRoute",
                    "deleteRoute",
                    "listReplicas", "getModelRouting", "changeModelRouting", "setModelVersion", "listAliases",
                    "setAlias",
                    "deleteAlias", "listWorkers", "registerWorker", "renewWorker", "removeWorker",
                    "setModelCache", "getCacheStatistics", "clearCache", "getQueue", "listDeadJobs", "retryDeadJob",
                ]
            ),
            (
                "pricing",
                [
                    "listTiers", "createTier", "getTier", "listTierVersions", "draftTierVersion", "getTierVersion",
                    "changeTierVersion", "deleteTierVersion", "publishTierVersion", "retireTierVersion",
                    "replayTierVersion", "listTierReplays", "replayIssuedInvoices", "analyseTiers",
                ]
            ),
            (
                "read",
                [
                    "getAllUsage", "getTenantUsage", "exportUsage", "listExports", "getExport", "getExportManifest",
                    "getExportPart", "listReconciliations", "listStripeDeliveries", "reportUsage", "reportTopCustomers",
                    "reportRevenueByTier", "reportErrors", "reportLatency", "reportForecast", "listInvoices",
                    "getInvoice", "getInvoicePage", "getInvoicePDF", "getInvoiceTable", "listIssuers", "listCredits",
                    "getSubscription",
                ]
            ), ("predict", []), ("billing", []),
            ("admin", Set(AdminRouteCatalog.Operation.allCases.map(\.rawValue))),
        ] as [(String, Set<String>)])
    func duties(scope: String, operations: Set<String>) {
        let allowed = AdminRouteCatalog.routes.filter { $0.scopes.contains { $0.rawValue == scope } }.map(
            \.operation.rawValue)
        #expect(Set(allowed) == operations)
    }

    @Test("without a key, with a bad one and with a customer's, nothing is done", arguments: SampleRequest.all)
    func keys(_ sample: SampleRequest) async throws {
        for (key, status, code) in [
            (nil, 401, "missing_key"), ("nonsense", 401, "invalid_api_key"), ("customer", 403, "wrong_plane"),
            ("none", 403, "insufficient_scope"), ("away", 503, "storage_unavailable"),
        ] as [(String?, Int, String)] {
            let admin = AdminUnderTest()
            let answer = try await sample.send(to: admin, key: key)
            #expect(answer.status == status, "\(code)")
            #expect(answer.code == code)
            #expect(answer.headers[.contentType] == "application/problem+json")
            #expect((answer.headers[.wwwAuthenticate] == "Bearer") == (status == 401))
            #expect((answer.headers[.retryAfter] == nil) == (status != 503))
            #expect(admin.administration.last.calls.isEmpty)
        }
    }

    @Test("another scheme than Bearer is no key, and the scheme's case does not matter")
    func scheme() async throws {
        let admin = AdminUnderTest()
        let basic = try await admin.send(
            "GET", "/admin/v1/tenants", key: nil, headers: [.authorization: "Basic YWRtaW46"])
        #expect(basic.code == "invalid_api_key")
        let lower = try await admin.send(
            "GET", "/admin/v1/tenants", key: nil, headers: [.authorization: "bearer admin"])
        #expect(lower.status == 200)
    }

    @Test("two headers Authorization are refused")
    func twoKeys() async throws {
        var headers: HTTPFields = [.authorization: "Bearer admin"]
        headers.append(.init(name: .authorization, value: "Bearer read"))
        let answer = try await AdminUnderTest().send("GET", "/admin/v1/tenants", key: nil, headers: headers)
        #expect(answer.status == 401)
        #expect(answer.code == "invalid_api_key")
    }

    @Test("a store that is away is 503 with a time to wait, on every route", arguments: SampleRequest.all)
    func storeAway(_ sample: SampleRequest) async throws {
        guard sample.asksStore else { return }
        let admin = AdminUnderTest()
        admin.administration.fail(with: .unavailable(StoreUnavailable(cause: "connection refused to the-secret-host")))
        admin.reports.set { $0.isAway = true }
        let answer = try await sample.send(to: admin)
        #expect(answer.status == 503)
        #expect(answer.code == "storage_unavailable")
        #expect(answer.headers[.retryAfter] == "2")
        #expect(!answer.text.contains("the-secret-host"))
    }

    @Test("what the store refuses reaches the caller with its status", arguments: SampleRequest.all)
    func storeRefuses(_ sample: SampleRequest) async throws {
        // What reports are read from refuses nothing.
        guard sample.asksStore, !sample.entry.path.hasPrefix("/admin/v1/reports/") else { return }
        for (code, status) in [
            (FailureCode.notFound, 404), (.conflict, 409), (.validationFailed, 422), (.internalError, 500),
        ] {
            let admin = AdminUnderTest()
            admin.administration.fail(with: .refused(Refusal(code, "What the store said.", cause: "a secret cause")))
            let answer = try await sample.send(to: admin)
            #expect(answer.status == status)
            #expect(answer.code == code.rawValue)
            #expect(answer.json["detail"].text == "What the store said.")
            #expect(!answer.text.contains("secret cause"))
        }
    }

    @Test("a change is made in the name of the key")
    func actor() async throws {
        // A heartbeat changes nothing that anybody decided.
        for sample in SampleRequest.all
        where sample.entry.method != "GET" && sample.entry.operation != .renewWorker {
            let admin = AdminUnderTest()
            _ = try await sample.send(to: admin)
            #expect(admin.administration.last.actors == [.key(FakeAuthenticator.publicID)], "\(sample.entry.operation)")
        }
    }

    @Test("a path that is not there is 404, with and without a key")
    func unknownPath() async throws {
        for path in [
            "/", "/admin/v1", "/admin/v1/nothing", "/admin/v1/tenants/a/b", "/admin/v2/tenants", "/api/v1/usage",
            "/health",
        ] {
            for key in ["admin", nil] {
                let answer = try await AdminUnderTest().send("GET", path, key: key)
                #expect(answer.status == 404, "\(path)")
                #expect(answer.code == "not_found")
                #expect(answer.headers[.requestID] != nil)
            }
        }
    }

    @Test("a method that a path does not have is 405 with those that it has")
    func wrongMethod() async throws {
        for (method, path, allow) in [
            ("DELETE", "/admin/v1/tenants", "GET, POST"), ("POST", "/metrics", "GET"),
            ("GET", "/admin/v1/routes/iris", "PUT, DELETE"),
            ("PUT", "/admin/v1/tenants/\(FakeAdministration.tenantID)", "GET, PATCH"),
            ("TRACE", "/admin/v1/audit", "GET"),
            ("HEAD", "/admin/v1/tiers", "GET, POST"), ("GET", "/admin/v1/keys/x", "PATCH, DELETE"),
        ] {
            let answer = try await AdminUnderTest().send(method, path)
            #expect(answer.status == 405, "\(method) \(path)")
            #expect(answer.headers[.allow] == allow)
            if method != "HEAD" { #expect(answer.code == "method_not_allowed") }
        }
    }

    @Test("metrics are text, and not there where they are switched off")
    func metrics() async throws {
        var admin = AdminUnderTest()
        let answer = try await admin.send("GET", "/metrics", key: "operator")
        #expect(answer.text == "weir_up 1\n")
        #expect(answer.headers[.contentType] == "text/plain; version=0.0.4; charset=utf-8")
        admin.metrics = nil
        let off = try await admin.send("GET", "/metrics", key: "operator")
        #expect(off.status == 404)
        #expect(off.code == "not_found")
    }
}
