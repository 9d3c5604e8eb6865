import Domain
import NIOCore
import Testing

@testable import InferenceClient

@Suite("Writing a request")
struct WorkerRequestTests {
    static let address = WorkerAddress(host: "127.0.0.1", port: 9000)

    static func written(_ request: WorkerRequest, includingBody: Bool = true, to address: WorkerAddress = address)
        -> String?
    {
        let head = RequestHead(
            method: request.method, path: request.path, contentType: request.contentType, address: address)
        guard let head, head.accepts(request) else { return nil }
        var buffer = ByteBuffer(string: "left from the last request")
        head.write(request, includingBody: includingBody, into: &buffer)
        return String(buffer: buffer)
    }

    @Test("head and body are one piece with nothing in it that was not asked for")
    func post() {
        var request = WorkerRequest(
            path: "/v2/models/iris/infer", body: ByteBuffer(string: "{\"a\":1}"), requestID: "r-1")
        #expect(
            Self.written(request) == """
                POST /v2/models/iris/infer HTTP/1.1\r
                host: 127.0.0.1:9000\r
                content-type: application/json\r
                x-request-id: r-1\r
                content-length: 7\r
                \r
                {"a":1}
                """)
        request.traceParent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        request.traceState = "a=b, c=d"
        #expect(
            Self.written(request, includingBody: false) == """
                POST /v2/models/iris/infer HTTP/1.1\r
                host: 127.0.0.1:9000\r
                content-type: application/json\r
                x-request-id: r-1\r
                traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r
                tracestate: a=b, c=d\r
                content-length: 7\r
                \r

                """)
    }

    @Test("a GET has neither a type nor a length, and an IPv6 host has brackets")
    func get() {
        let request = WorkerRequest(method: .get, path: "/v2/health/ready", requestID: "r-1")
        #expect(
            Self.written(request, to: WorkerAddress(host: "::1", port: 80)) == """
                GET /v2/health/ready HTTP/1.1\r
                host: [::1]:80\r
                x-request-id: r-1\r
                \r

                """)
    }

    @Test("the length is written in full", arguments: [0, 1, 9, 10, 11, 99, 100, 12_345])
    func length(count: Int) throws {
        let request = WorkerRequest(path: "/", body: ByteBuffer(repeating: 0x20, count: count), requestID: "r")
        let text = try #require(Self.written(request, includingBody: false))
        #expect(text.hasSuffix("\r\ncontent-length: \(count)\r\n\r\n"))
    }

    @Test(
        "a path that could not be a request target is refused",
        arguments: [
            "", "predict", "*", "http://h/", "/a b", "/a\r\nx: y", "/a\n", "/a\t", "/\u{7F}", "/ä", "/a#b", "/a\u{0}",
            "/" + String(repeating: "a", count: 2048),
        ])
    func badPath(path: String) {
        #expect(!WorkerRequest.isValid(path: path))
        #expect(Self.written(WorkerRequest(path: path, requestID: "r")) == nil)
    }

    @Test("other paths are not", arguments: ["/", "/predict/", "/v2/models/a.b-c_d/infer?x=%20&y=1", "/a:b@c", "//"])
    func goodPath(path: String) {
        #expect(WorkerRequest.isValid(path: path))
        #expect(Self.written(WorkerRequest(path: path, requestID: "r"))?.hasPrefix("POST \(path) HTTP/1.1\r\n") == true)
    }

    @Test(
        "an identifier that could end its line is refused",
        arguments: ["", "a b", "a\r\nx: y", "ä", String(repeating: "a", count: 257)])
    func badIdentifier(requestID: String) {
        #expect(Self.written(WorkerRequest(path: "/", requestID: requestID)) == nil)
    }

    @Test("a content type that could end its line is refused", arguments: ["", " a/b", "a/b\r\nx: y", "a/b\n"])
    func badType(contentType: String) {
        #expect(Self.written(WorkerRequest(path: "/", contentType: contentType, requestID: "r")) == nil)
    }

    @Test("a trace context that could end its line is left out")
    func badTrace() throws {
        let bad = WorkerRequest(path: "/", requestID: "r", traceParent: "00\r\nx: y", traceState: "a=b")
        #expect(Self.written(bad) == Self.written(WorkerRequest(path: "/", requestID: "r")))
        let half = WorkerRequest(path: "/", requestID: "r", traceParent: "00-1-2-01", traceState: "a=b\n")
        #expect(Self.written(half) == Self.written(WorkerRequest(path: "/", requestID: "r", traceParent: "00-1-2-01")))
    }

    @Test("a GET with a body is refused")
    func getWithBody() {
        #expect(
            Self.written(WorkerRequest(method: .get, path: "/", body: ByteBuffer(string: "x"), requestID: "r")) == nil)
    }

    @Test("labels of failures are distinct, and what may have been worked on is not safe to retry")
    func failures() {
        #expect(Set(WorkerFailure.allCases.map(\.metricLabel)).count == WorkerFailure.allCases.count)
        #expect(
            Set(WorkerFailure.allCases.filter(\.isSafeToRetry))
                == [.connectRefused, .connectTimeout, .unreachable, .tls, .overloaded])
    }
}
