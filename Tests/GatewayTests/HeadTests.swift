import Domain
import NIOCore
import NIOHTTP1
import TestSupport
import Testing

@testable import Gateway

@Suite("Request heads") struct HeadTests {
    private func head(
        _ method: HTTPMethod = .GET, _ uri: String = "/", version: HTTPVersion = .http1_1,
        _ fields: [(String, String)] = [("host", "weir.example")]
    ) -> HTTPRequestHead {
        HTTPRequestHead(version: version, method: method, uri: uri, headers: HTTPHeaders(fields))
    }

    private func refusal(_ head: HTTPRequestHead) -> Refusal? {
        RequestRules().check(head, RequestFields(head.headers))
    }

    private func code(_ head: HTTPRequestHead) -> FailureCode? { refusal(head)?.code }

    @Test(
        "a request needs exactly one host",
        arguments: [
            (["weir.example"], nil as FailureCode?), (["127.0.0.1:8080"], nil), (["[::1]:8080"], nil),
            (["a_b-c.d"], nil), ([], .badRequest), ([""], .badRequest), (["a", "b"], .badRequest),
            (["a", "a"], .badRequest),
            (["a,b"], .badRequest), (["a b"], .badRequest), (["user@a"], .badRequest), (["a/b"], .badRequest),
            (["a?b"], .badRequest), (["é"], .badRequest), ([String(repeating: "a", count: 256)], .badRequest),
        ] as [([String], FailureCode?)])
    func host(hosts: [String], expected: FailureCode?) {
        #expect(code(head(.GET, "/", hosts.map { ("Host", $0) })) == expected)
    }

    @Test(
        "only known methods are served",
        arguments: [
            (HTTPMethod.GET, nil as FailureCode?), (.HEAD, nil), (.POST, nil), (.PUT, nil), (.PATCH, nil),
            (.DELETE, nil), (.OPTIONS, nil), (.CONNECT, .methodNotAllowed), (.TRACE, .methodNotAllowed),
            (.RAW(value: "BREW"), .methodNotAllowed),
            (.PROPFIND, .methodNotAllowed), (.RAW(value: "get"), .methodNotAllowed),
        ] as [(HTTPMethod, FailureCode?)])
    func method(method: HTTPMethod, expected: FailureCode?) {
        #expect(code(head(method)) == expected)
        if expected != nil { #expect(refusal(head(method))?.allowedMethods.contains("GET") == true) }
    }

    @Test(
        "only HTTP/1.1 is served",
        arguments: [HTTPVersion.http1_0, .http2, HTTPVersion(major: 0, minor: 9), HTTPVersion(major: 1, minor: 2)])
    func version(version: HTTPVersion) {
        #expect(code(head(.GET, "/", version: version)) == .httpVersionNotSupported)
    }

    @Test(
        "a target is a path of visible ASCII",
        arguments: [
            ("/", nil as FailureCode?), ("/a?b=c&d=%20", nil), ("//predict", nil), ("/../x", nil), ("*", .badRequest),
            ("http://other/", .badRequest), ("other:443", .badRequest), ("", .badRequest), ("/a b", .badRequest),
            ("/a#b", .badRequest),
            ("/é", .badRequest), ("/\u{7F}", .badRequest), ("/" + String(repeating: "a", count: 8_191), nil),
            ("/" + String(repeating: "a", count: 8_192), .uriTooLong),
        ] as [(String, FailureCode?)])
    func target(uri: String, expected: FailureCode?) {
        #expect(code(head(.GET, uri)) == expected)
    }

    @Test(
        "the only transfer coding is chunked, once, without a length",
        arguments: [
            (["chunked"], false, nil as FailureCode?), (["Chunked"], false, nil),
            (["gzip, chunked"], false, .badRequest), (["chunked, chunked"], false, .badRequest),
            (["chunked", "chunked"], false, .badRequest), (["identity"], false, .badRequest),
            (["xchunked"], false, .badRequest), (["identity, chunked"], false, .badRequest),
            (["chunked"], true, .badRequest), ([], true, nil),
        ] as [([String], Bool, FailureCode?)])
    func transferCoding(codings: [String], hasLength: Bool, expected: FailureCode?) {
        var fields = [("host", "a")] + codings.map { ("transfer-encoding", $0) }
        if hasLength { fields.append(("content-length", "3")) }
        #expect(code(head(.POST, "/predict", fields)) == expected)
    }

    @Test(
        "the only expectation is 100-continue",
        arguments: [
            ("100-continue", nil as FailureCode?), ("100-Continue", nil), ("200-ok", .expectationFailed),
            ("", .expectationFailed), ("100-continue, x", .expectationFailed),
        ] as [(String, FailureCode?)])
    func expectation(value: String, expected: FailureCode?) {
        #expect(code(head(.POST, "/", [("host", "a"), ("expect", value)])) == expected)
    }

    @Test(
        "a key may come in three fields, and two different ones are no key",
        arguments: [
            ([], Credentials.none), ([("Authorization", "Bearer k1")], .one(Array("k1".utf8))),
            ([("authorization", "bearer   k1")], .one(Array("k1".utf8))),
            ([("AUTHORIZATION", "BEARER k1")], .one(Array("k1".utf8))),
            ([("x-api-key", "k1")], .one(Array("k1".utf8))), ([("API-Key", "k1")], .one(Array("k1".utf8))),
            ([("authorization", "Bearer k1"), ("x-api-key", "k1")], .one(Array("k1".utf8))),
            ([("authorization", "Bearer k1"), ("x-api-key", "k2")], .conflicting),
            ([("authorization", "Bearer k1"), ("authorization", "Bearer k2")], .unusable),
            ([("authorization", "Basic dTpw")], .unusable), ([("authorization", "Bearer")], .unusable),
            ([("authorization", "")], .unusable),
            ([("authorization", "Basic dTpw"), ("x-api-key", "k1")], .conflicting), ([("x-api-key", "")], .one([])),
            ([("my-api-key", "k1"), ("apikey", "k1")], .none), ([("authorization", "Bearerk1")], .unusable),
        ] as [([(String, String)], Credentials)])
    func credentials(fields: [(String, String)], expected: Credentials) {
        #expect(RequestFields(HTTPHeaders(fields)).credentials == expected)
    }

    @Test(
        "a trace is continued only if it is one",
        arguments: [
            ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", true),
            ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00", true), ("", false),
            ("00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", false),
            ("01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", false),
            ("ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", false),
            ("00-00000000000000000000000000000000-b7ad6b7169203331-01", false),
            ("00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01", false),
            ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-1", false),
            ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x", false),
            ("00_0af7651916cd43dd8448eb211c80319c_b7ad6b7169203331_01", false),
            ("00-0af7651916cd43dd8448eb211c80319g-b7ad6b7169203331-01", false),
            ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0\r", false),
        ] as [(String, Bool)])
    func trace(parent: String, isValid: Bool) {
        #expect((TraceContext(parent: parent, state: nil)?.parent == parent) == isValid)
    }

    @Test(
        "a trace's state goes on if it can do no harm",
        arguments: [
            ("a=b,c=d", true), ("a=b\r\nx: y", false), ("é", false), (String(repeating: "a", count: 512), true),
            (String(repeating: "a", count: 513), false),
        ] as [(String, Bool)])
    func traceState(state: String, isKept: Bool) {
        let trace = TraceContext(parent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", state: state)
        #expect(trace?.state == (isKept ? state : nil))
    }

    @Test(
        "a caller's own name for its request is echoed if it can do no harm",
        arguments: [
            ("a", true), ("A-z_0.9", true), (String(repeating: "a", count: 128), true), ("", false),
            (String(repeating: "a", count: 129), false), ("a b", false), ("a\r\nb", false), ("é", false),
            ("a/b", false),
        ] as [(String, Bool)])
    func clientID(text: String, isKept: Bool) {
        #expect((ClientRequestID(text)?.text == text) == isKept)
    }
}

@Suite("Connection deadlines") struct ConnectionDeadlinesTests {
    private typealias Step = (inout ConnectionDeadlines) -> Void
    private static let limits = ConnectionDeadlines.Limits(
        headNanoseconds: 10, bodyNanoseconds: 30, idleNanoseconds: 75)

    private func after(_ steps: (inout ConnectionDeadlines) -> Void) -> ConnectionDeadlines {
        var deadlines = ConnectionDeadlines(limits: Self.limits, now: 100)
        steps(&deadlines)
        return deadlines
    }

    @Test("an idle connection is closed without an answer")
    func idle() {
        let deadlines = after { _ in }
        #expect(deadlines.expiry(now: 174) == .notYet(atNanoseconds: 175))
        #expect(deadlines.expiry(now: 175) == .closeIdle)
    }

    @Test("a head has its time from its first byte, however many follow")
    func head() {
        let deadlines = after {
            $0.bytesArrived(now: 110)
            $0.bytesArrived(now: 118)
        }
        #expect(deadlines.expiry(now: 119) == .notYet(atNanoseconds: 120))
        #expect(deadlines.expiry(now: 120) == .requestTimeout)
        #expect(deadlines.dueNanoseconds == 120)
    }

    @Test("a body has its time from its last bytes")
    func body() {
        let deadlines = after {
            $0.headArrived(now: 110)
            $0.bodyArrived(now: 130)
        }
        #expect(deadlines.expiry(now: 159) == .notYet(atNanoseconds: 160))
        #expect(deadlines.expiry(now: 160) == .requestTimeout)
    }

    @Test("a body that arrives byte by byte has ten times that and no more")
    func endlessBody() {
        let deadlines = after { deadlines in
            deadlines.headArrived(now: 110)
            for now in stride(from: UInt64(120), through: 400, by: 10) { deadlines.bodyArrived(now: now) }
        }
        #expect(deadlines.expiry(now: 409) == .notYet(atNanoseconds: 410))
        #expect(deadlines.expiry(now: 410) == .requestTimeout)
    }

    @Test("while an answer is made nothing is waited for, whatever arrives")
    func answering() {
        var deadlines = after {
            $0.headArrived(now: 110)
            $0.requestComplete()
            $0.bytesArrived(now: 111)
            $0.bodyArrived(now: 112)
        }
        #expect(deadlines.expiry(now: .max) == .none)
        #expect(deadlines.dueNanoseconds == nil)
        deadlines.answerComplete(now: 500)
        #expect(deadlines.expiry(now: 575) == .closeIdle)
    }
}
