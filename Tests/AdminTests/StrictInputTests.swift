import Domain
import HTTPListener
import Hummingbird
import Testing

@testable import Admin

@Suite("Input of the admin listener is read strictly")
struct StrictInputTests {
    static let writing = SampleRequest.all.filter(\.takesBody)

    @Test(
        "a body that is not one JSON object is refused on every route that reads one",
        arguments: [
            ("", 400, "invalid_json"), ("{", 400, "invalid_json"), ("{} {}", 400, "invalid_json"),
            (#"{"a": 1,}"#, 400, "invalid_json"),
            ("{'a': 1}", 400, "invalid_json"), (#"{"a": 01}"#, 400, "invalid_json"),
            (#"{"a": NaN}"#, 400, "invalid_json"),
            (#"{"a": "\ud800"}"#, 400, "invalid_json"), (#"{"name": "a", "name": "b"}"#, 400, "duplicate_key"),
            (#"{"name": "a", "\u006eame": "b"}"#, 400, "duplicate_key"),
            (#"{"a": "# + String(repeating: "[", count: 40) + String(repeating: "]", count: 40) + "}", 400, "too_deep"),
            ("[]", 400, "invalid_json"), ("null", 400, "invalid_json"), ("7", 400, "invalid_json"),
        ])
    func notAnObject(body: String, status: Int, code: String) async throws {
        for sample in Self.writing {
            let admin = AdminUnderTest()
            let answer = try await admin.send(sample.entry.method, sample.path, body: body)
            #expect(answer.status == status, "\(sample.testDescription)")
            #expect(answer.code == code)
            #expect(admin.administration.last.calls.isEmpty)
        }
    }

    @Test("a field that is not known is refused on every route that reads a body", arguments: writing)
    func unknownField(_ sample: SampleRequest) async throws {
        let admin = AdminUnderTest()
        let body = try #require(sample.body).replacing("{", with: #"{"is_admin": true, "#, maxReplacements: 1)
        let answer = try await admin.send(sample.entry.method, sample.path, body: body)
        #expect(answer.status == 400)
        #expect(answer.code == "unknown_field")
        #expect(answer.locations == ["/is_admin"])
        #expect(answer.json["errors"][0]["fix"].text?.hasPrefix("The fields are ") == true)
        #expect(admin.administration.last.calls.isEmpty)
    }

    @Test(
        "a body of another type is refused",
        arguments: [
            (nil, 415), ("text/plain", 415), ("application/json5", 415), ("application/x-www-form-urlencoded", 415),
            ("application/json; charset=utf-8", 201), ("Application/JSON", 201),
        ] as [(String?, Int)])
    func contentType(type: String?, status: Int) async throws {
        let answer = try await AdminUnderTest().send(
            "POST", "/admin/v1/models", body: #"{"name": "iris"}"#, contentType: type)
        #expect(answer.status == status)
        if status == 415 { #expect(answer.code == "unsupported_media_type") }
    }

    @Test("a compressed body is refused")
    func contentEncoding() async throws {
        let answer = try await AdminUnderTest().send(
            "POST", "/admin/v1/models", body: #"{"name": "iris"}"#, headers: [.contentEncoding: "gzip"])
        #expect(answer.status == 415)
        #expect(answer.code == "unsupported_encoding")
    }

    @Test("a body above the limit is refused, one at the limit is read")
    func size() async throws {
        let frame = #"{"name": "iris"}"#
        let fitting = frame + String(repeating: " ", count: 262_144 - frame.utf8.count)
        let read = try await AdminUnderTest().send("POST", "/admin/v1/models", body: fitting)
        #expect(read.status == 201)
        let admin = AdminUnderTest()
        let refused = try await admin.send("POST", "/admin/v1/models", body: fitting + " ")
        #expect(refused.status == 413)
        #expect(refused.code == "request_too_large")
        #expect(admin.administration.last.calls.isEmpty)
    }

    @Test("a parameter that is not known, or is there twice, is refused on every route", arguments: SampleRequest.all)
    func unknownParameter(_ sample: SampleRequest) async throws {
        let admin = AdminUnderTest()
        let unknown = try await admin.send(sample.entry.method, sample.path + "?verbose=1", body: sample.body)
        #expect(unknown.status == 422)
        #expect(unknown.locations == ["verbose"])
        for name in sample.entry.parameters {
            let twice = try await admin.send(
                sample.entry.method, sample.path + "?\(name)=1&\(name)=1", body: sample.body)
            #expect(twice.status == 422, "\(name)")
            #expect(twice.errors == ["\(name) is given twice"])
        }
        #expect(admin.administration.last.calls.isEmpty)
    }

    @Test(
        "pages are bounded and cursors are checked",
        arguments: [
            "limit=0", "limit=101", "limit=-1", "limit=%2B5", "limit=1.0", "limit=", "limit=99999999999999999999",
            "after=", "after=nonsense", "before=nonsense",
            "after=\(FakeAdministration.tenantID)&before=\(FakeAdministration.tenantID)",
        ])
    func pages(query: String) async throws {
        let answer = try await AdminUnderTest().send("GET", "/admin/v1/tenants?\(query)")
        #expect(answer.status == 422)
        #expect(answer.errors.count == 1)
    }

    @Test("a page is asked for as it was sent, and told as it came")
    func page() async throws {
        let admin = AdminUnderTest()
        try await admin.send("GET", "/admin/v1/tenants")
        #expect(admin.administration.last.page == "20 - -")
        admin.administration.set { state in
            state.hasMore = true
            state.count = 2
        }
        let answer = try await admin.send("GET", "/admin/v1/tenants?limit=2&after=\(FakeAdministration.tenantID)")
        #expect(admin.administration.last.page == "2 \(FakeAdministration.tenantID) -")
        #expect(answer.json["has_more"] == .bool(true))
        #expect(answer.json["first_id"].text == FakeAdministration.tenantID.description)
        #expect(answer.json["last_id"].text == FakeAdministration.tenantID.description)
        #expect(answer.json["data"].count == 2)
    }

    @Test("an empty page has cursors that are null")
    func emptyPage() async throws {
        let admin = AdminUnderTest()
        admin.administration.set { $0.count = 0 }
        for path in ["tenants", "tiers", "models", "routes", "audit"] {
            let answer = try await admin.send("GET", "/admin/v1/\(path)")
            #expect(answer.text == #"{"data":[],"first_id":null,"has_more":false,"last_id":null,"object":"list"}"#)
        }
    }

    @Test("everything that is wrong is told at once, up to a bound")
    func manyErrors() async throws {
        let some = try await AdminUnderTest().send(
            "POST", "/admin/v1/tenants",
            body: #"{"name": "", "time_zone": "Europe/Bonn", "state": "deleted", "tier": 7, "x/y~z": 1}"#)
        #expect(some.code == "unknown_field")
        #expect(some.locations == ["/x~1y~0z", "/name", "/time_zone", "/state", "/tier"])
        #expect(some.json["detail"].text == "5 values are not acceptable.")
        let prices = Array(repeating: "1", count: 100).joined(separator: ",")
        let many = try await AdminUnderTest().send(
            "POST", "/admin/v1/tiers",
            body: #"{"code": "a", "name": "a", "version": {"currency": "EUR", "prices": [\#(prices)], "quotas": []}}"#)
        #expect(many.errors.count == 32)
    }

    @Test("an answer about an error has every field of a problem")
    func problem() async throws {
        let answer = try await AdminUnderTest().send("POST", "/admin/v1/tenants", body: "{}")
        #expect(answer.json.keys == ["type", "title", "status", "detail", "instance", "code", "request_id", "errors"])
        #expect(answer.json["status"] == .number("422"))
        #expect(answer.json["request_id"].text == answer.headers[.requestID])
        #expect(answer.headers[.contentTypeOptions] == "nosniff")
    }
}
