import Domain
import Testing

@testable import Admin

@Suite("Versions, aliases and workers on the admin listener")
struct RoutingRouteTests {
    private let admin = AdminUnderTest()

    @Test("what is named is changed, null takes away, and what is left out stays")
    func change() async throws {
        let path = "/admin/v1/models/iris/routing"
        let answer = try await admin.send(
            "PATCH", path,
            body:
                #"{"default_version": null, "mirror": {"version": "latest", "share": 10}, "split": [{"version": "1.0.0", "weight": 1}]}"#
        )
        #expect(answer.status == 200, "\(answer.text)")
        let change = try #require(admin.administration.last.routingChange)
        #expect(change.defaultVersion == .clear && change.stickiness == nil)
        #expect(change.mirror == .set(MirrorRule(model: nil, version: "latest", share: 10)))
        #expect(change.shares == [TrafficSplit.Share(version: "1.0.0", weight: 1)])
        #expect(answer.json["sticky_by"].text == "session_id")
        #expect(answer.json["versions"][1]["version"].text == "1.1.0")
        #expect(answer.json["aliases"][0]["alias"].text == "flowers")
        _ = try await admin.send("PATCH", path, body: #"{"mirror": null, "split": [], "sticky_by": "key"}"#)
        let second = try #require(admin.administration.last.routingChange)
        #expect(second.mirror == .clear && second.shares == [] && second.stickiness == .key)
        #expect(second.defaultVersion == .keep)
    }

    @Test(
        "routing that cannot be is refused",
        arguments: [
            ("{}", ""), (#"{"default_version": "latest"}"#, "/default_version"),
            (#"{"sticky_by": "features"}"#, "/sticky_by"), (#"{"sticky_by": null}"#, "/sticky_by"),
            (#"{"mirror": {"share": 1}}"#, "/mirror/version"),
            (#"{"mirror": {"model": "iris", "share": 1}}"#, "/mirror/version"),
            (#"{"mirror": {"model": "other", "share": 0}}"#, "/mirror/share"), (#"{"mirror": 1}"#, "/mirror"),
            (#"{"split": [{"version": "1", "weight": 10001}]}"#, "/split/0/weight"),
            (#"{"split": [{"version": "1", "weight": 0}]}"#, "/split"),
            (#"{"split": [{"version": "1", "weight": 1}, {"version": "1", "weight": 1}]}"#, "/split/1/version"),
        ])
    func badChange(body: String, location: String) async throws {
        let answer = try await admin.send("PATCH", "/admin/v1/models/iris/routing", body: body)
        #expect(answer.status == 422, "\(answer.text)")
        #expect(answer.locations == [location])
        #expect(admin.administration.last.calls.isEmpty)
    }

    @Test("a version says what it has of its own; null is the model's")
    func version() async throws {
        let answer = try await admin.send(
            "PUT", "/admin/v1/models/iris/versions/1.0.0-rc.1+b",
            body: #"{"state": "retired", "feature_count": 6, "token_counting": "fixed", "bytes_per_token": null}"#)
        #expect(answer.status == 200, "\(answer.text)")
        let version = try #require(admin.administration.last.version)
        #expect(version.name == "1.0.0-rc.1+b" && version.state == .retired)
        #expect(version.overrides.featureCount == 6 && version.overrides.tokenCounting == .fixed)
        #expect(version.overrides.bytesPerToken == nil)
        for name in ["latest", "a..b", "%20", String(repeating: "1", count: 65)] {
            let refused = try await admin.send("PUT", "/admin/v1/models/iris/versions/\(name)", body: "{}")
            #expect(refused.status == 404, "\(name)")
        }
    }

    @Test("an alias has a model's form and names a version, not the latest")
    func alias() async throws {
        let answer = try await admin.send("PUT", "/admin/v1/aliases/flowers", body: #"{"model": "iris"}"#)
        #expect(answer.status == 200 && answer.json["version"] == .null)
        #expect(admin.administration.last.alias == ModelAlias(name: "flowers", model: "iris"))
        let latest = try await admin.send(
            "PUT", "/admin/v1/aliases/flowers", body: #"{"model": "iris", "version": "latest"}"#)
        #expect(latest.status == 422 && latest.locations == ["/version"])
        let name = try await admin.send("PUT", "/admin/v1/aliases/Flowers", body: #"{"model": "iris"}"#)
        #expect(name.status == 404)
    }

    @Test("a worker gets an id and the time between its heartbeats")
    func worker() async throws {
        let answer = try await admin.send(
            "POST", "/admin/v1/workers",
            body: #"{"model": "iris", "address": "[::1]:9000", "protocol": "predict", "ttl_seconds": 30, "weight": 7}"#)
        #expect(answer.status == 201, "\(answer.text)")
        #expect(answer.json["id"].text == FakeAdministration.workerID.description)
        #expect(answer.json["heartbeat_seconds"] == .number("10"))
        let worker = try #require(admin.administration.last.worker)
        #expect(worker.replica.weight == 7 && worker.replica.version.isEmpty && worker.lifetimeSeconds == 30)
    }

    @Test(
        "a worker somewhere else, or with a time to live that nobody can keep, is refused",
        arguments: [
            ("address", #""169.254.169.254:80""#), ("address", #""10.0.0.1:9000""#), ("ttl_seconds", "1"),
            ("ttl_seconds", "3601"), ("weight", "0"), ("protocol", #""grpc""#), ("version", #""latest""#),
            ("model", #""Iris""#),
        ])
    func badWorker(field: String, value: String) async throws {
        var fields = ["model": #""iris""#, "address": #""127.0.0.1:9000""#, "protocol": #""oip""#]
        fields[field] = value
        let body = "{" + fields.map { "\"\($0)\": \($1)" }.joined(separator: ", ") + "}"
        let answer = try await admin.send("POST", "/admin/v1/workers", body: body)
        #expect(answer.status == 422, "\(answer.text)")
        #expect(answer.locations == ["/\(field)"])
        #expect(admin.administration.last.calls.isEmpty)
    }
}
