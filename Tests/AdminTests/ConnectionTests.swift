import Domain
import TestSupport
import Testing

@testable import Admin

@Suite("Connections of the admin listener", .serialized, .timeLimit(.minutes(2)))
struct ConnectionTests {
    private static func post(_ fields: [String], _ body: String = "") -> String {
        let all = ["host: a", "authorization: Bearer admin", "content-type: application/json"] + fields
        return (["POST /admin/v1/models HTTP/1.1"] + all + ["", ""]).joined(separator: "\r\n") + body
    }

    /// An answer with this status that is a problem, names itself, and is the last of its connection.
    private func expectRefusal(
        _ connection: RawConnection, _ status: Int, _ code: FailureCode,
        location: SourceLocation = #_sourceLocation
    ) async throws -> RawConnection.Response {
        let answer = try await connection.response()
        #expect(answer.status == status && answer.code == code.rawValue, sourceLocation: location)
        #expect(answer.field("content-type") == "application/problem+json", sourceLocation: location)
        #expect(answer.field("connection") == "close", sourceLocation: location)
        #expect(answer.field("x-request-id")?.hasPrefix("req_") == true, sourceLocation: location)
        #expect(answer.body.contains("urn:uuid:"), sourceLocation: location)
        #expect(try await connection.rest() == "", "one answer and no more", sourceLocation: location)
        return answer
    }

    @Test(
        "what cannot be read in one way only is refused, and the connection ends",
        arguments: [
            ("GET /metrics HTTP/1.1\r\n\r\n", 400, .badRequest),
            ("GET /metrics HTTP/1.1\r\nhost: a\r\nhost: a\r\n\r\n", 400, .badRequest),
            ("GET /metrics HTTP/1.1\r\nhost: a b\r\n\r\n", 400, .badRequest),
            ("GET http://a/metrics HTTP/1.1\r\nhost: a\r\n\r\n", 400, .badRequest),
            (Self.post(["content-length: 2", "transfer-encoding: chunked"], "0\r\n\r\n"), 400, .badRequest),
            (Self.post(["transfer-encoding: gzip, chunked"], "0\r\n\r\n"), 400, .badRequest),
            (Self.post(["transfer-encoding: chunked"], "1;\(String(repeating: "e", count: 20_000))"), 400, .badRequest),
            (Self.post(["transfer-encoding: chunked"], "00000000000000001\r\nx"), 400, .badRequest),
            ("GET /\(String(repeating: "a", count: 9_000)) HTTP/1.1\r\nhost: a\r\n\r\n", 414, .uriTooLong),
            ("GET /\(String(repeating: "a", count: 40_000)) HTTP/1.1\r\nhost: a\r\n\r\n", 414, .uriTooLong),
            ("GET / HTTP/1.1\r\nhost: a\r\nexpect: 200-ok\r\n\r\n", 417, .expectationFailed),
            (
                "GET / HTTP/1.1\r\nhost: a\r\nx: \(String(repeating: "a", count: 17_000))\r\n\r\n", 431,
                .headersTooLarge
            ),
            ("GET / HTTP/1.0\r\nhost: a\r\n\r\n", 505, .httpVersionNotSupported),
            ("GET / HTTP/2.0\r\nhost: a\r\n\r\n", 505, .httpVersionNotSupported),
            ("GET / HTTP/3.0\r\nhost: a\r\n\r\n", 505, .httpVersionNotSupported),
            ("GET / HTTP/1.10\r\nhost: a\r\n\r\n", 400, .badRequest),
            ("TRACE / HTTP/1.1\r\nhost: a\r\n\r\n", 405, .methodNotAllowed),
        ] as [(String, Int, FailureCode)])
    func broken(request: String, status: Int, code: FailureCode) async throws {
        try await RunningAdmin.with { admin in
            let connection = try admin.connect()
            try await connection.write(request)
            _ = try await expectRefusal(connection, status, code)
            let next = try admin.connect()
            try await next.write(admin.good)
            #expect(try await next.response().status == 200)
        }
    }

    @Test("a method that a path has not is answered with those that it has, and the connection goes on")
    func method() async throws {
        try await RunningAdmin.with { admin in
            let connection = try admin.connect()
            try await connection.write(admin.head("DELETE /admin/v1/tenants"))
            let answer = try await connection.response()
            #expect(answer.status == 405 && answer.code == "method_not_allowed")
            #expect(answer.field("allow") == "GET, POST" && answer.field("connection") == nil)
            try await connection.write(admin.good)
            #expect(try await connection.response().status == 200)
        }
    }

    @Test("a body over the limit is refused with the limit in the text, whether it is declared or counted")
    func tooLarge() async throws {
        let configure: @Sendable (inout AdminServer.Configuration) -> Void = { $0.maximumBodyBytes = 2_000 }
        let body = String(repeating: " ", count: 2_001)
        try await RunningAdmin.with(configure: configure) { admin in
            for request in [
                Self.post(["content-length: 2001"]), Self.post(["content-length: 2001", "expect: 100-continue"]),
                Self.post(["transfer-encoding: chunked"], "7d1\r\n\(body)\r\n"),
            ] {
                let connection = try admin.connect()
                try await connection.write(request)
                let answer = try await expectRefusal(connection, 413, .requestTooLarge)
                #expect(answer.body.contains("2000 bytes"))
            }
            let connection = try admin.connect()
            try await connection.write(Self.post(["content-length: 2000"], String(body.dropLast())))
            let answer = try await connection.response()
            #expect(answer.status == 400 && answer.code == "invalid_json" && answer.field("connection") == nil)
        }
    }

    @Test("who is refused before its body has arrived is not read on")
    func unreadBody() async throws {
        try await RunningAdmin.with { admin in
            let connection = try admin.connect()
            try await connection.write(
                admin.head(
                    "POST /admin/v1/models", ["host: a", "content-type: application/json", "content-length: 100000"])
                    + "{")
            _ = try await expectRefusal(connection, 401, .missingKey)
        }
    }

    @Test("leave to send a body is given at once, and behind other answers in turn")
    func expectation() async throws {
        try await RunningAdmin.with { admin in
            let connection = try admin.connect()
            for pipelined in [false, true] {
                try await connection.write(
                    (pipelined ? admin.good : "") + Self.post(["content-length: 2", "expect: 100-continue"]))
                if pipelined { #expect(try await connection.response().status == 200) }
                #expect(try await connection.response(hasBody: false).status == 100)
                try await connection.write("{}")
                #expect(try await connection.response().status == 422)
            }
        }
    }

    @Test("a head or a body that does not arrive is timed out", arguments: [false, true])
    func slow(isReused: Bool) async throws {
        let configure: @Sendable (inout AdminServer.Configuration) -> Void = {
            $0.headTimeoutMilliseconds = 150
            $0.bodyTimeoutMilliseconds = 150
        }
        try await RunningAdmin.with(configure: configure) { admin in
            for unfinished in [
                "GET /metr", "GET /metrics HTTP/1.1\r\nhost: a\r\nx: ", Self.post(["content-length: 10"], "{"),
                Self.post(["transfer-encoding: chunked"], "a\r\n{"),
            ] {
                let connection = try admin.connect()
                if isReused {
                    try await connection.write(admin.good)
                    #expect(try await connection.response().status == 200)
                }
                try await connection.write(unfinished)
                _ = try await expectRefusal(connection, 408, .requestTimeout)
            }
        }
    }

    @Test("a body that comes byte by byte has ten times the wait for its next bytes and no more")
    func endless() async throws {
        let configure: @Sendable (inout AdminServer.Configuration) -> Void = { $0.bodyTimeoutMilliseconds = 100 }
        try await RunningAdmin.with(configure: configure) { admin in
            let connection = try admin.connect()
            try await connection.write(Self.post(["content-length: 10000"]))
            async let answer = connection.response()
            // Until the answer's connection takes no more.
            while (try? await connection.write(" ")) != nil { try await Task.sleep(for: .milliseconds(20)) }
            #expect(try await answer.status == 408)
        }
    }

    @Test("an idle connection is closed without a word")
    func idle() async throws {
        try await RunningAdmin.with(configure: { $0.idleTimeoutMilliseconds = 100 }) { admin in
            let connection = try admin.connect()
            try await connection.write(admin.good)
            #expect(try await connection.response().status == 200)
            #expect(try await connection.rest() == "")
        }
    }

    @Test("requests sent in one write are answered in order, and a broken one behind them in its turn")
    func pipelined() async throws {
        try await RunningAdmin.with { admin in
            let connection = try admin.connect()
            let requests = (0..<20).map { index in
                admin.head(
                    "GET /metrics", ["host: a", "authorization: Bearer operator", "x-request-id: r\(index)"])
            }
            try await connection.write(requests.joined() + "GET / HTTP/1.1\r\n\r\n")
            for index in 0..<20 {
                let answer = try await connection.response()
                #expect(answer.status == 200 && answer.field("x-client-request-id") == "r\(index)")
            }
            _ = try await expectRefusal(connection, 400, .badRequest)
        }
    }
}
