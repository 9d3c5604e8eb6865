import Domain
import NIOCore
import NIOHTTP1
import Testing

@testable import HTTPListener

@Suite("Request heads") struct RequestRulesTests {
    private func head(
        _ method: HTTPMethod = .GET, _ uri: String = "/", version: HTTPVersion = .http1_1,
        _ fields: [(String, String)] = [("host", "weir.example")]
    ) -> HTTPRequestHead {
        HTTPRequestHead(version: version, method: method, uri: uri, headers: HTTPHeaders(fields))
    }

    private func refusal(_ head: HTTPRequestHead) -> Refusal? {
        RequestRules(maximumBodyBytes: 1_000).check(head, RequestFields(head.headers))
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
        "a body that is declared too long is refused at its head, with the limit in the text",
        arguments: [
            ("1000", nil as FailureCode?), ("0", nil), ("1001", .requestTooLarge),
            ("9223372036854775807", .requestTooLarge),
        ] as [(String, FailureCode?)])
    func declaredLength(length: String, expected: FailureCode?) {
        let refusal = refusal(head(.POST, "/", [("host", "a"), ("content-length", length)]))
        #expect(refusal?.code == expected)
        if let refusal { #expect(refusal.detail.contains("1000 bytes")) }
    }

    @Test("fields behind a body that would change whose it is are refused")
    func trailers() {
        let rules = RequestRules(maximumBodyBytes: 1_000)
        #expect(rules.check(trailers: ["x-sum": "1"])?.code == nil)
        for name in ["Idempotency-Key", "authorization", "Host"] {
            #expect(rules.check(trailers: [name: "k"])?.code == .badRequest)
        }
        #expect(
            rules.check(trailers: ["x-long": String(repeating: "v", count: 9_000)])?.code == .headersTooLarge)
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
