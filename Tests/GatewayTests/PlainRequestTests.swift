import Domain
import HTTPListener
import NIOCore
import NIOEmbedded
import NIOHTTP1
import TestSupport
import Testing

@testable import Gateway

@Suite("The short cut for plain requests") struct PlainRequestTests {
    private static let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

    private func request(_ fields: [String], body: String = "{}", line: String = "POST /predict/ HTTP/1.1") -> String {
        ([line] + fields + ["", ""]).joined(separator: "\r\n") + body
    }

    private func plain(_ text: String, maximumBodyBytes: Int = 1_000) -> PlainRequest? {
        PlainRequest(ByteBuffer(string: text), maximumBodyBytes: maximumBodyBytes)
    }

    private static let usual = [
        "Host: weir.example:443", "Authorization: Bearer k1", "Content-Type: application/json", "Content-Length: 2",
    ]

    @Test("the usual request is taken, with all that matters of it")
    func usual() throws {
        let fields =
            Self.usual + [
                "user-agent: x/1 (y)", "Accept: */*", "accept-encoding: gzip", "connection: Keep-Alive",
                "traceparent: \(Self.trace)", "tracestate: a=b", "x-request-id: abc",
            ]
        for line in ["POST /predict HTTP/1.1", "POST /predict/ HTTP/1.1"] {
            let request = try #require(plain(request(fields, line: line)))
            #expect(request.credentials == .one(Array("k1".utf8)))
            #expect(request.trace?.parent == Self.trace)
            #expect(request.trace?.state == "a=b")
            #expect(request.clientID?.text == "abc")
            #expect(String(buffer: request.body) == "{}")
        }
    }

    @Test("what is said about the cache is taken as the parser takes it") func cache() throws {
        let fields = [
            "cache-control: no-cache", "X-Weir-Cache: only", "x-weir-cache-ttl: 5", "Cache-Control: max-age=1",
            "x-weir-cache-key: a",
        ]
        let taken = try #require(plain(request(Self.usual + fields))).cacheFields
        #expect(taken == [.control("no-cache"), .use("only"), .ttl("5"), .control("max-age=1"), .label("a")])
        var headers = HTTPHeaders()
        for field in fields {
            let parts = field.split(separator: ":", maxSplits: 1)
            headers.add(name: String(parts[0]), value: parts[1].trimmingPrefix(" ").description)
        }
        #expect(RequestFields(headers).cacheFields == taken)
        #expect(try #require(plain(request(Self.usual))).cacheFields.isEmpty)
    }

    @Test("tags are taken as the parser takes them") func tags() throws {
        let fields = ["x-weir-tags: a=1", "X-Weir-Tags: b=2,c=3"]
        var headers = HTTPHeaders()
        for field in fields {
            let parts = field.split(separator: ":", maxSplits: 1)
            headers.add(name: String(parts[0]), value: parts[1].trimmingPrefix(" ").description)
        }
        #expect(try #require(plain(request(Self.usual + fields))).tagFields == ["a=1", "b=2,c=3"])
        #expect(RequestFields(headers).tagFields == ["a=1", "b=2,c=3"])
        #expect(try #require(plain(request(Self.usual))).tagFields.isEmpty)
    }

    @Test(
        "what is said about the receipt is taken as the parser takes it",
        arguments: [
            [], ["x-weir-receipt: short"], ["X-Weir-Receipt: full"], ["x-weir-receipt: none"], ["x-weir-receipt: all"],
            ["x-weir-receipt: short", "x-weir-receipt: short"], ["x-weir-receipt: SHORT"],
        ])
    func receipt(fields: [String]) throws {
        var headers = HTTPHeaders()
        for field in fields {
            let parts = field.split(separator: ":", maxSplits: 1)
            headers.add(name: String(parts[0]), value: parts[1].trimmingPrefix(" ").description)
        }
        let taken = try #require(plain(request(Self.usual + fields))).receipt
        #expect(taken == ReceiptWish(RequestFields(headers).receipts))
        switch fields.first?.lowercased() {
        case nil: #expect(taken == .unsaid)
        case "x-weir-receipt: full": #expect(taken == .form(.full))
        case "x-weir-receipt: none": #expect(taken == .form(.none))
        case "x-weir-receipt: short" where fields[0].hasSuffix("t") && fields.count == 1:
            #expect(taken == .form(.short))
        default:
            #expect(taken == .unreadable)
            #expect(throws: Refusal.self) { try taken.form(where: .none) }
        }
    }

    @Test("a request without a key is taken as such") func keyless() throws {
        #expect(try #require(plain(request(Self.usual.filter { !$0.hasPrefix("A") }))).credentials == .none)
    }

    @Test(
        "anything else is left to the parser",
        arguments: [
            "Transfer-Encoding: chunked", "Expect: 100-continue", "Content-Encoding: gzip", "X-Api-Key: k1",
            "api-key: k1", "Connection: close", "Connection: Upgrade", "Upgrade: h2c", "X-Unknown: a", "Host: b",
            "Content-Length: 2", "Authorization: Bearer k2", "content-type: application/json", "X: a\u{e9}", ": a",
            "Accept:", "Accept : a", "Accept:  a", "Accept: a ", "Accept: a\tb", "accept: a\u{0}b", " folded",
            "x-request-id: a\r\nx-request-id: b", "Accept: a\nHost: b", "Trailer: a", "Idempotency-Key: a",
        ])
    func left(field: String) {
        #expect(plain(request(Self.usual + [field])) == nil)
        #expect(plain(request([field] + Self.usual)) == nil)
    }

    @Test(
        "a request that is not whole, or more than one, is left to the parser",
        arguments: [
            ("POST /predict/ HTTP/1.1", "{}x"), ("POST /predict/ HTTP/1.1", "{"), ("POST /predict/x HTTP/1.1", "{}"),
            ("POST /predict?a HTTP/1.1", "{}"), ("GET /predict/ HTTP/1.1", "{}"), ("POST /predict/ HTTP/1.0", "{}"),
            ("POST  /predict/ HTTP/1.1", "{}"), ("post /predict/ HTTP/1.1", "{}"),
            ("\r\nPOST /predict/ HTTP/1.1", "{}"),
        ])
    func other(line: String, body: String) {
        #expect(plain(request(Self.usual, body: body, line: line)) == nil)
    }

    @Test("a request without host, type or length, or with a body that is too long, is left to the parser")
    func missing() {
        for index in [0, 2, 3] {
            var fields = Self.usual
            fields.remove(at: index)
            #expect(plain(request(fields)) == nil)
        }
        #expect(plain(request(Self.usual), maximumBodyBytes: 2) != nil)
        #expect(plain(request(Self.usual), maximumBodyBytes: 1) == nil)
    }

    @Test("every piece of a request is left to the parser") func pieces() {
        let text = request(Self.usual)
        for count in 0..<text.utf8.count {
            #expect(plain(String(decoding: text.utf8.prefix(count), as: UTF8.self)) == nil)
        }
    }

    /// What the parser and the rules make of the same bytes; `nil` where they refuse.
    private func parsed(_ text: String) throws -> (fields: RequestFields, keepsAlive: Bool, body: String)? {
        let channel = EmbeddedChannel()
        defer { _ = try? channel.finish() }
        try channel.pipeline.syncOperations.configureHTTPServerPipeline(
            withPipeliningAssistance: false, withErrorHandling: false)
        do {
            try channel.writeInbound(ByteBuffer(string: text))
        } catch { return nil }
        var head: HTTPRequestHead?
        var body = ""
        var ends = 0
        while let part = try channel.readInbound(as: HTTPServerRequestPart.self) {
            switch part {
            case .head(let next):
                #expect(head == nil)
                head = next
            case .body(let bytes): body += String(buffer: bytes)
            case .end: ends += 1
            }
        }
        guard let head, ends == 1 else { return nil }
        let fields = RequestFields(head.headers)
        guard RequestRules(maximumBodyBytes: 1_048_576).check(head, fields) == nil else { return nil }
        return (fields, head.isKeepAlive, body)
    }

    @Test("what the short cut takes, parser and rules take with the same meaning", arguments: 0..<400 as Range<UInt64>)
    func agreement(seed: UInt64) throws {
        var random = SeededRandom(seed: seed)
        let names = [
            "Host", "host", "authorization", "Authorization", "content-type", "Content-Length", "content-length",
            "accept", "User-Agent", "connection", "traceparent", "tracestate", "x-request-id", "x-other", "expect",
        ]
        let values = [
            "weir", "a:1", "[::1]", "a b", "Bearer k1", "bearer k2", "Bearer  k3", "application/json", "text/plain",
            "2",
            "02", "3", "keep-alive", "close", Self.trace, "a=b", "", " x", "x ", "\t", "é", "a\u{7F}",
        ]
        for _ in 0..<40 {
            var fields = Self.usual.shuffled(using: &random)
            for _ in 0..<Int.random(in: 0...3, using: &random) {
                let name = names.randomElement(using: &random) ?? ""
                let colon = [":", ": ", " :", ":  "].randomElement(using: &random) ?? ""
                let field = name + colon + (values.randomElement(using: &random) ?? "")
                if Bool.random(using: &random) {
                    fields[Int.random(in: 0..<fields.count, using: &random)] = field
                } else {
                    fields.append(field)
                }
            }
            let text = request(fields)
            guard let plain = plain(text) else { continue }
            let parsed = try #require(try parsed(text), "the parser refuses \(text)")
            #expect(plain.credentials == parsed.fields.credentials)
            #expect(
                plain.trace?.parent
                    == parsed.fields.traceParent.flatMap { TraceContext(parent: $0, state: nil) }?.parent)
            #expect(plain.clientID == parsed.fields.requestID.flatMap { ClientRequestID($0) })
            #expect(String(buffer: plain.body) == parsed.body)
            #expect(parsed.keepsAlive && parsed.fields.contentType?.lowercased() == "application/json")
        }
    }
}
