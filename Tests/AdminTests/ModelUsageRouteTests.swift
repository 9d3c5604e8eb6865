import Domain
import Testing

@testable import Admin

@Suite("Usage of models and its rebuilding")
struct ModelUsageRouteTests {
    private static func instant(_ text: String) -> Timestamp { Timestamp(rfc3339: text) ?? unreachable() }

    private static func bucket(_ start: String, busy: Int64) -> ModelUsageBucket {
        ModelUsageBucket(
            start: instant(start), requests: 3, tokens: 30, errors: 1, cacheHits: 2, busyMicroseconds: busy,
            queueDepth: 5)
    }

    @Test(
        "a bucket is shown with all that scaling needs, and the figure follows from the last whole one and the running one"
    )
    func answer() async throws {
        let admin = AdminUnderTest()
        // Now is 12:00, on an edge: 900 seconds are over and none of the running bucket.
        admin.administration.set {
            $0.modelUsage = [
                Self.bucket("2026-03-14T12:00:00Z", busy: 9_000_000_000),
                Self.bucket("2026-03-14T12:15:00Z", busy: 1_234_567),
                Self.bucket("2026-03-15T11:45:00Z", busy: 4_500_000_001),
            ]
        }
        let answer = try await admin.send("GET", "/admin/v1/models/iris/usage")
        #expect(answer.status == 200)
        #expect(answer.json["from"].text == "2026-03-14T12:15:00Z" && answer.json["to"].text == "2026-03-15T12:15:00Z")
        #expect(answer.json["data"].count == 2)
        let first = answer.json["data"][0]
        #expect(
            first.keys == ["start", "requests", "tokens", "errors", "cache_hits", "busy_ms", "queue_depth"])
        #expect(first["busy_ms"] == .number("1234") && first["queue_depth"] == .number("5"))
        // 5.000000001 seconds busy in each second; a replica serves two at once and is to be half used.
        #expect(answer.json["desired_replicas"] == .number("6"))
    }

    @Test(
        "a range that is wrong is refused",
        arguments: [
            ("from=2026-03-01T00:00:01Z", "from"), ("to=yesterday", "to"),
            ("from=2026-03-01T00:00:00Z&to=2026-03-01T00:00:00Z", "to"),
            ("from=2026-01-01T00:00:00Z&to=2026-02-01T00:15:00Z", "from"), ("start=2026-01-01T00:00:00Z", "start"),
        ])
    func badRange(query: String, location: String) async throws {
        let admin = AdminUnderTest()
        let answer = try await admin.send("GET", "/admin/v1/models/iris/usage?\(query)")
        #expect(answer.status == 422 && answer.locations == [location], "\(answer.text)")
        #expect(admin.administration.last.calls.isEmpty)
    }

    @Test("31 days at once are answered, and a name that is none is unknown")
    func limits() async throws {
        let admin = AdminUnderTest()
        let longest = "from=2026-01-01T00:00:00Z&to=2026-02-01T00:00:00Z"
        #expect(try await admin.send("GET", "/admin/v1/models/iris/usage?\(longest)").status == 200)
        #expect(try await admin.send("GET", "/admin/v1/models/Iris!/usage").status == 404)
    }

    @Test("a rebuild names its range and who asked")
    func rebuild() async throws {
        let admin = AdminUnderTest()
        let answer = try await admin.send(
            "POST", "/admin/v1/usage/rebuild",
            body: #"{"from": "2026-03-01T00:00:00Z", "to": "2026-03-02T00:15:00+01:00"}"#)
        #expect(answer.status == 200 && answer.json["buckets"] == .number("7"))
        #expect(answer.json["to"].text == "2026-03-01T23:15:00Z")
        #expect(
            admin.administration.last.ranges
                == [Self.instant("2026-03-01T00:00:00Z")..<Self.instant("2026-03-01T23:15:00Z")])
        #expect(admin.administration.last.actors == [.key(FakeAuthenticator.publicID)])
    }

    @Test(
        "a rebuild's range is checked",
        arguments: [
            (#"{}"#, ["/from", "/to"]),
            (#"{"from": "2026-03-01T00:00:01Z", "to": "2026-03-02T00:07:00Z"}"#, ["/from", "/to"]),
            (#"{"from": "2026-03-02T00:00:00Z", "to": "2026-03-01T00:00:00Z"}"#, ["/to"]),
            (#"{"from": "2024-03-01T00:00:00Z", "to": "2026-03-01T00:00:00Z"}"#, ["/from"]),
        ])
    func badRebuild(body: String, locations: [String]) async throws {
        let admin = AdminUnderTest()
        let answer = try await admin.send("POST", "/admin/v1/usage/rebuild", body: body)
        #expect(answer.status == 422 && answer.locations == locations, "\(answer.text)")
        #expect(admin.administration.last.calls.isEmpty)
    }
}
