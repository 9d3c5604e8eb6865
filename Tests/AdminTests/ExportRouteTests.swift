import Domain
import Hummingbird
import Testing

@testable import Admin

@Suite("Exports on the admin listener")
struct ExportRouteTests {
    private static let window = "start=2026-03-01T00:00:00Z&end=2026-03-02T00:00:00Z"

    @Test("a stream has the header, the rows and a name")
    func stream() async throws {
        let answer = try await AdminUnderTest().send("GET", "/admin/v1/usage/export?\(Self.window)")
        #expect(answer.status == 200)
        #expect(answer.text == ExportColumns.entries.joined(separator: ",") + "\r\na\r\nb\r\n")
        #expect(
            answer.headers[.contentDisposition] == "attachment; filename=\"weir-csv-entries-20260301-20260302.csv\"")
        #expect(answer.headers[.contentLength] == nil)
    }

    @Test("lines of JSON end with their number")
    func lines() async throws {
        let answer = try await AdminUnderTest().send("GET", "/admin/v1/usage/export?format=jsonl&\(Self.window)")
        #expect(answer.text == "a\r\nb\r\n{\"object\":\"export_trailer\",\"rows\":2}\n")
    }

    @Test(
        "a stream that cannot be had is refused before anything is sent",
        arguments: [
            (ExportRefusal.tooMany(isOwn: false), 503, "overloaded"), (.tooMany(isOwn: true), 503, "overloaded"),
            (.unknownTenant, 404, "not_found"),
            (.unavailable(StoreUnavailable(cause: "a secret cause")), 503, "storage_unavailable"),
        ])
    func refusals(refusal: ExportRefusal, status: Int, code: String) async throws {
        var admin = AdminUnderTest()
        admin.streams.refusal = refusal
        let answer = try await admin.send("GET", "/admin/v1/usage/export?\(Self.window)")
        #expect(answer.status == status)
        #expect(answer.code == code)
        #expect(!answer.text.contains("a secret cause"))
        if code == "overloaded" { #expect(answer.headers[.retryAfter] != nil) }
    }

    @Test("an export in parts is accepted, with where it is")
    func create() async throws {
        let answer = try await AdminUnderTest().send(
            "POST", "/admin/v1/exports", body: #"{"format": "csv", "incremental": true}"#)
        #expect(answer.status == 202)
        #expect(answer.headers[.location] == "/admin/v1/exports/\(FakeAdministration.exportID.publicText)")
        #expect(answer.json["incremental"] == .bool(true))
        #expect(answer.json["start"] == .null)
    }

    @Test(
        "a window that has not ended, or that does not go with the rest, is refused",
        arguments: [
            (#"{"format": "csv", "start": "2026-03-01T00:00:00Z", "end": "2026-03-16T00:00:00Z"}"#, ["/end"]),
            (#"{"format": "csv"}"#, ["/start", "/end"]),
            (#"{"format": "focus", "incremental": true, "end": "2026-03-01T00:00:00Z"}"#, ["/end", "/format"]),
            (#"{"format": "xml", "incremental": true}"#, ["/format"]),
        ])
    func badWindows(body: String, locations: [String]) async throws {
        let answer = try await AdminUnderTest().send("POST", "/admin/v1/exports", body: body)
        #expect(answer.status == 422)
        #expect(answer.locations == locations)
    }

    @Test("a part comes whole, under its hash")
    func part() async throws {
        let path = "/admin/v1/exports/\(FakeAdministration.exportID.publicText)/parts/1"
        let answer = try await AdminUnderTest().send("GET", path)
        #expect(answer.text == "abc")
        #expect(answer.headers[.eTag] == "\"" + String(repeating: "07", count: 32) + "\"")
        for bad in ["0", "-1", "x"] {
            let unknown = try await AdminUnderTest().send(
                "GET", "/admin/v1/exports/\(FakeAdministration.exportID.publicText)/parts/\(bad)")
            #expect(unknown.status == 404)
        }
    }

    @Test("a comparison without a window takes the last 35 days, on quarters of an hour")
    func reconcile() async throws {
        let answer = try await AdminUnderTest().send("POST", "/admin/v1/reconcile", body: "{}")
        #expect(answer.status == 200)
        #expect(answer.json["end"].text == "2026-03-15T12:00:00Z")
        #expect(answer.json["start"].text == "2026-02-08T12:00:00Z")
        #expect(answer.json["difference_count"] == .number("0"))
    }
}
