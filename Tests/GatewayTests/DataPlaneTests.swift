import Domain
import Foundation
import NIOCore
import Synchronization
import TestSupport
import Testing

@testable import Gateway

@Suite("Data plane", .serialized, .timeLimit(.minutes(2))) struct DataPlaneTests {
    private func installation(
        backend: FakeBackend = FakeBackend(), records: FakeCustomerRecords = FakeCustomerRecords(),
        settings: Principal = Installation.principal()
    ) async -> Installation {
        await Installation(time: SystemTime(), principal: settings, backend: backend, records: records)
    }

    @Test("a request is answered, and the connection serves the next")
    func keepAlive() async throws {
        try await RunningGateway.with(await installation()) { gateway in
            let connection = try gateway.connect()
            for _ in 0..<3 {
                try await connection.write(gateway.predict(fields: ["x-request-id: mine"]))
                let answer = try await connection.response()
                #expect(answer.status == 200)
                #expect(answer.field("connection") == nil)
                #expect(answer.field("x-client-request-id") == "mine")
                #expect(answer.field("content-type") == "application/json")
                #expect(answer.body.contains(#""prediction":"setosa""#))
            }
            #expect(Set(gateway.parts.settler.settlements.map(\.requestID)).count == 3)
        }
    }

    @Test("a server that has stopped leaves no task behind that waits for a request")
    func nothingLeftBehind() async throws {
        weak var weakBackend: FakeBackend?
        do {
            let backend = FakeBackend()
            weakBackend = backend
            try await RunningGateway.with(await installation(backend: backend)) { gateway in
                for _ in 0..<4 {
                    let connection = try gateway.connect()
                    try await connection.write(gateway.predict() + gateway.predict())
                    #expect(try await connection.response().status == 200)
                    #expect(try await connection.response().status == 200)
                }
            }
        }
        // The pipeline holds it, and each waiting task the pipeline.
        #expect(weakBackend == nil)
    }

    @Test("a client that wants to close is closed after its answer")
    func close() async throws {
        try await RunningGateway.with(await installation()) { gateway in
            let connection = try gateway.connect()
            try await connection.write(gateway.predict(fields: ["connection: close"]))
            let text = try await connection.rest()
            #expect(text.hasPrefix("HTTP/1.1 200 OK") && text.contains("connection: close"))
        }
    }

    @Test("requests sent in one write are answered one after the other, in order")
    func pipelined() async throws {
        try await RunningGateway.with(await installation()) { gateway in
            let connection = try gateway.connect()
            for index in 0..<50 { gateway.parts.backend.answer(#"{"prediction":\#(index)}"#) }
            try await connection.write((0..<50).map { gateway.predict(fields: ["x-request-id: r\($0)"]) }.joined())
            for index in 0..<50 {
                let answer = try await connection.response()
                #expect(answer.field("x-client-request-id") == "r\(index)")
                #expect(answer.body.contains("\"prediction\":\(index),"))
            }
        }
    }

    @Test("one request of a connection is under way at a time")
    func oneAtATime() async throws {
        let gate = Gate()
        try await RunningGateway.with(await installation(backend: FakeBackend(gate: gate))) { gateway in
            let connection = try gateway.connect()
            try await connection.write(gateway.predict() + gateway.predict())
            await gate.arrivals(1)
            #expect(gateway.parts.backend.calls.count == 1)
            gate.open()
            #expect(try await connection.response().status == 200)
            #expect(try await connection.response().status == 200)
        }
    }

    @Test("metered and other requests may be mixed on one connection")
    func mixed() async throws {
        try await RunningGateway.with(await installation()) { gateway in
            let connection = try gateway.connect()
            let requests = [
                gateway.get("/healthz"), gateway.predict(), gateway.get("/api/v1/requests"), gateway.get("/"),
                gateway.predict(), gateway.predict(), gateway.get("/nowhere"), gateway.predict(),
            ]
            try await connection.write(requests.joined())
            var statuses: [Int] = []
            var types: [String?] = []
            for _ in requests {
                let answer = try await connection.response()
                statuses.append(answer.status)
                types.append(answer.field("content-type"))
                #expect(answer.field("x-request-id")?.hasPrefix("req_") == true)
            }
            #expect(statuses == [200, 200, 200, 200, 200, 200, 404, 200])
            #expect(types[6] == "application/problem+json")
        }
    }

    @Test("a request that has half arrived behind another is answered when the rest has come")
    func halfPipelined() async throws {
        let gate = Gate()
        try await RunningGateway.with(await installation(backend: FakeBackend(gate: gate))) { gateway in
            let connection = try gateway.connect()
            let second = gateway.predict(fields: ["x-request-id: second"])
            for cut in [second.count - 5, 20] {
                try await connection.write(gateway.predict() + second.prefix(cut))
                if cut > 20 {
                    await gate.arrivals(1)
                    gate.open()
                }
                #expect(try await connection.response().status == 200)
                try await connection.write(String(second.dropFirst(cut)))
                let answer = try await connection.response()
                #expect(answer.status == 200)
                #expect(answer.field("x-client-request-id") == "second")
            }
        }
    }

    @Test(
        "nonsense behind a good request is refused after its answer, and the connection ends",
        arguments: [
            ("\u{1}\u{2}nonsense\r\n\r\n", 400), ("GET / HTTP/1.1\r\n\r\n", 400),
            ("GET / HTTP/1.0\r\nhost: a\r\n\r\n", 505), ("TRACE / HTTP/1.1\r\nhost: a\r\n\r\n", 405),
        ] as [(String, Int)])
    func garbageBehind(garbage: String, status: Int) async throws {
        let gate = Gate()
        try await RunningGateway.with(await installation(backend: FakeBackend(gate: gate))) { gateway in
            let connection = try gateway.connect()
            try await connection.write(gateway.predict() + garbage)
            await gate.arrivals(1)
            gate.open()
            let answer = try await connection.response()
            #expect(answer.status == 200 && answer.body.contains("setosa"), "the charged answer comes first")
            #expect(try await connection.response().status == status)
            #expect(try await connection.rest() == "")
        }
    }

    @Test("nonsense behind a request of the framework is refused after its answer")
    func garbageBehindControl() async throws {
        let records = FakeCustomerRecords(gate: Gate())
        try await RunningGateway.with(await installation(records: records)) { gateway in
            let connection = try gateway.connect()
            try await connection.write(gateway.get("/api/v1/requests") + "GET / HTTP/1.1\r\n\r\n")
            await records.gate.arrivals(1)
            records.gate.open()
            let answer = try await connection.response()
            #expect(answer.status == 200 && answer.body.contains("has_more"))
            #expect(try await connection.response().status == 400)
            #expect(try await connection.rest() == "")
        }
    }

    @Test("a body that declares too much is refused before it is read, and the connection ends")
    func tooLargeDeclared() async throws {
        try await RunningGateway.with(await installation(), configure: { $0.maximumBodyBytes = 1_000 }) { gateway in
            let connection = try gateway.connect()
            try await connection.write(
                "POST /predict HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: 1001\r\n\r\n")
            let answer = try await connection.response()
            #expect(answer.status == 413 && answer.code == "request_too_large" && answer.field("connection") == "close")
            #expect(try await connection.rest() == "")
        }
    }

    @Test("a body that grows too large is refused when it does")
    func tooLargeChunked() async throws {
        try await RunningGateway.with(await installation(), configure: { $0.maximumBodyBytes = 1_000 }) { gateway in
            let connection = try gateway.connect()
            let chunk = "1f4\r\n" + String(repeating: " ", count: 500) + "\r\n"
            try await connection.write(
                "POST /predict HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
                    + chunk + chunk + chunk)
            #expect(try await connection.response().status == 413)
            #expect(try await connection.rest() == "")
        }
    }

    @Test("a chunked body of the right size is served")
    func chunked() async throws {
        try await RunningGateway.with(await installation()) { gateway in
            let connection = try gateway.connect()
            let body = Installation.body
            let chunks = [body.prefix(7), body.dropFirst(7).prefix(1), body.dropFirst(8)].map {
                "\(String($0.utf8.count, radix: 16))\r\n\($0)\r\n"
            }.joined()
            try await connection.write(
                "POST /predict/?x=1 HTTP/1.1\r\nhost: a\r\nx-api-key: \(gateway.key)\r\ncontent-type: Application/JSON ; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n\(chunks)0\r\n\r\n"
            )
            #expect(try await connection.response().status == 200)
            #expect(gateway.parts.backend.calls.map { String(buffer: $0.body) } == [body])
        }
    }

    @Test(
        "only JSON that is not compressed is read",
        arguments: [
            ("text/plain", "", 415, "unsupported_media_type"), ("application/xml", "", 415, "unsupported_media_type"),
            ("", "", 415, "unsupported_media_type"), ("application/jsonx", "", 415, "unsupported_media_type"),
            ("multipart/form-data; boundary=x", "", 415, "unsupported_media_type"),
            ("application/json", "gzip", 415, "unsupported_encoding"),
            ("application/json", "br, gzip", 415, "unsupported_encoding"), ("application/json", "identity", 200, ""),
        ] as [(String, String, Int, String)])
    func mediaType(type: String, encoding: String, status: Int, code: String) async throws {
        try await RunningGateway.with(await installation()) { gateway in
            let connection = try gateway.connect()
            let typeField = type.isEmpty ? "" : "content-type: \(type)\r\n"
            let encodingField = encoding.isEmpty ? "" : "content-encoding: \(encoding)\r\n"
            try await connection.write(
                "POST /predict HTTP/1.1\r\nhost: a\r\nauthorization: Bearer \(gateway.key)\r\n\(typeField)\(encodingField)content-length: \(Installation.body.utf8.count)\r\n\r\n\(Installation.body)"
            )
            let answer = try await connection.response()
            #expect(answer.status == status && (answer.code ?? "") == code)
        }
    }

    @Test("who expects 100-continue is told to go on if its key looks like one")
    func expectContinue() async throws {
        try await RunningGateway.with(await installation()) { gateway in
            let connection = try gateway.connect()
            let request = gateway.predict(fields: ["expect: 100-continue"])
            try await connection.write(String(request.dropLast(Installation.body.count)))
            #expect(try await connection.response().head == "HTTP/1.1 100 Continue\r\n\r\n")
            try await connection.write(Installation.body)
            #expect(try await connection.response().status == 200)
        }
    }

    @Test(
        "who cannot be a customer is told so instead",
        arguments: [
            ("authorization: Bearer nonsense", 401, "invalid_api_key"), ("x-no: key", 401, "missing_key"),
            ("authorization: Basic dTpw", 401, "invalid_api_key"),
        ] as [(String, Int, String)])
    func expectRefused(field: String, status: Int, code: String) async throws {
        try await RunningGateway.with(await installation()) { gateway in
            let connection = try gateway.connect()
            try await connection.write(
                "POST /predict HTTP/1.1\r\nhost: a\r\n\(field)\r\ncontent-type: application/json\r\ncontent-length: 10\r\nexpect: 100-continue\r\n\r\n"
            )
            let answer = try await connection.response()
            #expect(answer.status == status && answer.code == code)
            #expect(answer.field("www-authenticate") == "Bearer" && answer.field("x-should-retry") == "false")
            #expect(try await connection.rest() == "")
        }
    }

    @Test(
        "a broken request is refused with its status and the connection ends",
        arguments: [
            ("GET / HTTP/1.1\r\n\r\n", 400), ("GET / HTTP/1.1\r\nhost: a\r\nhost: a\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n", 400), ("GET / HTTP/1.1\r\nhost:\r\n\r\n", 400),
            ("GET / HTTP/1.0\r\nhost: a\r\n\r\n", 505),
            ("GET http://a/ HTTP/1.1\r\nhost: a\r\n\r\n", 400), ("OPTIONS * HTTP/1.1\r\nhost: a\r\n\r\n", 400),
            ("CONNECT a:1 HTTP/1.1\r\nhost: a\r\n\r\n", 405), ("TRACE / HTTP/1.1\r\nhost: a\r\n\r\n", 405),
            ("get / HTTP/1.1\r\nhost: a\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nhost : a\r\n\r\n", 400), ("GET / HTTP/1.1\r\nhost: a\r\nx: \u{1}\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nhost: a\r\n folded: x\r\n\r\n", 400),
            ("POST /predict HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n", 400),
            ("POST /predict HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 1\r\n\r\nx", 400),
            ("POST /predict HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nx", 400),
            ("POST /predict HTTP/1.1\r\nhost: a\r\ncontent-length: +2\r\n\r\nxx", 400),
            ("POST /predict HTTP/1.1\r\nhost: a\r\ncontent-length: -1\r\n\r\n", 400),
            ("POST /predict HTTP/1.1\r\nhost: a\r\ncontent-length: 0x2\r\n\r\nxx", 400),
            ("POST /predict HTTP/1.1\r\nhost: a\r\ncontent-length: 99999999999999999999\r\n\r\n", 400),
            ("POST /predict HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip, chunked\r\n\r\n", 400),
            ("POST /predict HTTP/1.1\r\nhost: a\r\ntransfer-encoding: xchunked\r\n\r\n", 400),
            (
                "POST /predict HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n0x5\r\nhello\r\n",
                400
            ), ("GET /\(String(repeating: "a", count: 9_000)) HTTP/1.1\r\nhost: a\r\n\r\n", 414),
            ("POST / HTTP/1.1\r\nhost: a\r\nexpect: magic\r\ncontent-length: 1\r\n\r\n", 417),
            ("GET / HTTP/1.1\r\nhost: a\r\nx: \(String(repeating: "a", count: 17_000))\r\n\r\n", 431),
            ("GET / HTTP/1.1\r\nhost: a\r\n\((0..<101).map { "x\($0): 1\r\n" }.joined())\r\n", 431),
            (
                "GET / HTTP/1.1\r\nhost: a\r\n\((0..<5).map { "x\($0): \(String(repeating: "a", count: 9_000))\r\n" }.joined())\r\n",
                431
            ),
            ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400), ("\u{16}\u{3}\u{1}\u{2}\u{0}\u{1}\r\n\r\n", 400),
        ] as [(String, Int)])
    func broken(request: String, status: Int) async throws {
        try await RunningGateway.with(await installation()) { gateway in
            let connection = try gateway.connect()
            try await connection.write(request)
            let answer = try await connection.response()
            #expect(answer.status == status)
            #expect(answer.field("content-type") == "application/problem+json" && answer.field("connection") == "close")
            #expect(answer.field("x-request-id")?.hasPrefix("req_") == true)
            #expect(try await connection.rest() == "", "one answer and no more")
            #expect(gateway.parts.backend.calls.isEmpty && gateway.parts.settler.settlements.isEmpty)
        }
    }

    @Test(
        "a head or body that does not arrive is timed out, on a new connection and on one that was idle",
        arguments: [false, true])
    func slow(isReused: Bool) async throws {
        let configure: @Sendable (inout GatewayServer.Configuration) -> Void = {
            $0.headTimeoutMilliseconds = 150
            $0.bodyTimeoutMilliseconds = 150
            $0.idleTimeoutMilliseconds = 60_000
        }
        try await RunningGateway.with(await installation(), configure: configure) { gateway in
            for unfinished in [
                "POST /predict HT", String(gateway.predict().dropLast(5)), "GET / HTTP/1.1\r\nhost: a\r\nx: ",
            ] {
                let connection = try gateway.connect()
                if isReused {
                    try await connection.write(gateway.predict())
                    #expect(try await connection.response().status == 200)
                    // Longer than the first look at the clock, so that the timer stands at the end of the idle time.
                    try await Task.sleep(for: .milliseconds(400))
                }
                try await connection.write(unfinished)
                let answer = try await connection.response()
                #expect(answer.status == 408 && answer.code == "request_timeout")
                #expect(try await connection.rest() == "")
            }
            #expect(gateway.parts.backend.calls.count == (isReused ? 3 : 0))
        }
    }

    @Test("an idle connection is closed without a word")
    func idle() async throws {
        try await RunningGateway.with(await installation(), configure: { $0.idleTimeoutMilliseconds = 100 }) {
            gateway in
            let connection = try gateway.connect()
            try await connection.write(gateway.predict())
            #expect(try await connection.response().status == 200)
            #expect(try await connection.rest() == "")
        }
    }

    @Test("a slow worker is no reason to time out the client")
    func slowAnswer() async throws {
        let gate = Gate()
        let configure: @Sendable (inout GatewayServer.Configuration) -> Void = {
            $0.headTimeoutMilliseconds = 50
            $0.bodyTimeoutMilliseconds = 50
            // Not over before a busy machine has written the request, and over while the worker computes.
            $0.idleTimeoutMilliseconds = 1_000
        }
        try await RunningGateway.with(await installation(backend: FakeBackend(gate: gate)), configure: configure) {
            gateway in
            let connection = try gateway.connect()
            // Behind it the half of another request, whose time must not run while the first one is answered.
            try await connection.write(gateway.predict() + gateway.predict().dropLast(3))
            await gate.arrivals(1)
            try await Task.sleep(for: .milliseconds(2_500))
            gate.open()
            #expect(try await connection.response().status == 200)
            #expect(try await connection.response().status == 408)
        }
    }

    @Test("a body that ends before its length calls nobody and bills nothing")
    func cutBody() async throws {
        try await RunningGateway.with(await installation()) { gateway in
            let connection = try gateway.connect()
            try await connection.write(String(gateway.predict().dropLast(5)))
            connection.finish()
            _ = try await connection.rest()
            #expect(gateway.parts.backend.calls.isEmpty && gateway.parts.settler.settlements.isEmpty)
        }
    }

    @Test("a client that goes away while the worker works is settled all the same")
    func clientGone() async throws {
        let gate = Gate()
        let parts = await installation(backend: FakeBackend(gate: gate))
        try await RunningGateway.with(parts) { gateway in
            do {
                let connection = try gateway.connect()
                try await connection.write(gateway.predict())
                await gate.arrivals(1)
            }
            gate.open()
            while gateway.parts.settler.settlements.isEmpty { await Task.yield() }
        }
        #expect(parts.settler.settlements.map(\.outcome) == [.completed])
    }

    @Test("a stop lets the request in flight finish and closes its connection")
    func gracefulStop() async throws {
        let gate = Gate()
        try await RunningGateway.with(await installation(backend: FakeBackend(gate: gate))) { gateway in
            let connection = try gateway.connect()
            let idle = try gateway.connect()
            try await idle.write(gateway.get("/healthz"))
            #expect(try await idle.response().status == 200)
            try await connection.write(gateway.predict())
            await gate.arrivals(1)
            await gateway.beginStop()
            #expect(try await idle.rest() == "", "an idle connection is closed at once")
            gate.open()
            let answer = try await connection.response()
            #expect(answer.status == 200 && answer.field("connection") == "close")
            #expect(try await connection.rest() == "")
        }
    }

    @Test("a flood of requests behind a slow one of the framework waits in the socket")
    func flood() async throws {
        let records = FakeCustomerRecords(gate: Gate())
        try await RunningGateway.with(await installation(records: records)) { gateway in
            let connection = try gateway.connect()
            try await connection.write(gateway.get("/api/v1/requests"))
            await records.gate.arrivals(1)
            // More than socket buffers hold: the write can only end once the gateway reads on.
            let pad = "x-pad: " + String(repeating: "a", count: 15_000)
            let flood = String(repeating: gateway.get("/healthz", fields: [pad]), count: 2_000)
            let written = Mutex(false)
            async let writing: Void = {
                try await connection.write(flood)
                written.withLock { $0 = true }
            }()
            try await Task.sleep(for: .milliseconds(500))
            #expect(written.withLock { $0 } == false)
            records.gate.open()
            for _ in 0...2_000 { #expect(try await connection.response().status == 200) }
            try await writing
        }
    }
}
