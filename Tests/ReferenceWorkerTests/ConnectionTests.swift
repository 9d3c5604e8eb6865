import Foundation
import Logging
import TestSupport
import Testing

@testable import ReferenceWorker

@Suite("Connections")
struct ConnectionTests {
    private static let body = #"{"model":"iris","features":[5.1,3.5,1.4,0.2]}"#

    private static func request(_ body: String = body, fields: String = "") -> String {
        "POST /predict HTTP/1.1\r\nHost: a\r\n\(fields)Content-Length: \(body.utf8.count)\r\n\r\n\(body)"
    }

    @Test("a connection serves one request after the other")
    func keepAlive() async throws {
        try await WorkerUnderTest.run { worker in
            let connection = try RawConnection(port: worker.port)
            for _ in 0..<3 {
                try await connection.write(Self.request())
                let response = try await connection.response()
                #expect(response.status == 200)
                #expect(response.body.contains("setosa"))
                #expect(!response.head.lowercased().contains("connection:"))
            }
        }
    }

    @Test("two pipelined requests are answered in order, also when answers are delayed", arguments: [0, 20] as [Int64])
    func pipelining(delayMilliseconds: Int64) async throws {
        try await WorkerUnderTest.run(nil, .init(delayMilliseconds: delayMilliseconds)) { worker in
            let connection = try RawConnection(port: worker.port)
            let other = #"{"model":"iris","features":[6.3,3.3,6.0,2.5]}"#
            try await connection.write(Self.request() + Self.request(other))
            #expect(try await connection.response().body.contains(#""prediction":"setosa""#))
            #expect(try await connection.response().body.contains(#""prediction":"virginica""#))
        }
    }

    @Test("thousands of requests held back behind a slow one are all answered, on a stack that does not grow")
    func pipelinedFlood() async throws {
        try await WorkerUnderTest.run(nil, .init(delayMilliseconds: 100)) { worker in
            let connection = try RawConnection(port: worker.port)
            let get = "GET /v2 HTTP/1.1\r\nHost:a\r\n\r\n"
            let count = 4_000
            // Large reads first, so that the buffer for the next one is large and takes thousands of requests at once.
            try await connection.write(String(repeating: get, count: count))
            let first = try await connection.response()
            try await connection.skip((count - 1) * (first.head + first.body).utf8.count)

            let last = "GET /v2 HTTP/1.1\r\nHost:a\r\nConnection: close\r\n\r\n"
            try await connection.write(Self.request() + String(repeating: get, count: count) + last)
            let answers = try await connection.rest().components(separatedBy: "HTTP/1.1 200 OK\r\n").dropFirst()
            #expect(answers.count == count + 2)
            #expect(answers.first?.contains("setosa") == true)
        }
    }

    @Test("a request that comes byte by byte, or in chunks, is gathered")
    func fragments() async throws {
        try await WorkerUnderTest.run { worker in
            let connection = try RawConnection(port: worker.port)
            for character in Self.request() { try await connection.write(String(character)) }
            #expect(try await connection.response().body.contains("setosa"))
            let (first, second) = (Self.body.prefix(20), Self.body.dropFirst(20))
            try await connection.write(
                "POST /predict HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
                    + "\(String(first.count, radix: 16))\r\n\(first)\r\n\(String(second.count, radix: 16))\r\n\(second)\r\n0\r\n\r\n"
            )
            #expect(try await connection.response().body.contains("setosa"))
        }
    }

    @Test("a connection is closed when the request asks for it")
    func close() async throws {
        try await WorkerUnderTest.run { worker in
            let connection = try RawConnection(port: worker.port)
            try await connection.write(Self.request(fields: "Connection: close\r\n"))
            let text = try await connection.rest()
            #expect(text.lowercased().contains("connection: close"))
            #expect(text.hasSuffix("}"))
        }
    }

    @Test("HTTP/1.0 is answered and closed, unless it asks to be kept")
    func oldVersion() async throws {
        try await WorkerUnderTest.run { worker in
            let closed = try RawConnection(port: worker.port)
            try await closed.write("GET /v2 HTTP/1.0\r\n\r\n")
            #expect(try await closed.rest().contains("weir-reference-worker"))
            let kept = try RawConnection(port: worker.port)
            for _ in 0..<2 {
                try await kept.write("GET /v2 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
                #expect(try await kept.response().head.lowercased().contains("connection: keep-alive"))
            }
        }
    }

    @Test("a body that is declared too large is refused before it is sent, and the connection closes")
    func declaredTooLarge() async throws {
        try await WorkerUnderTest.run(nil, .init(maximumBodyBytes: 1000)) { worker in
            let connection = try RawConnection(port: worker.port)
            try await connection.write("POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: 1001\r\n\r\n")
            let text = try await connection.rest()
            #expect(text.hasPrefix("HTTP/1.1 413 "))
            #expect(text.contains(#"{"error":"the body is larger than 1000 bytes"}"#))
        }
    }

    @Test("a body that turns out too large is refused, and the answer reaches a client that goes on sending")
    func chunkedTooLarge() async throws {
        try await WorkerUnderTest.run(nil, .init(maximumBodyBytes: 1000)) { worker in
            let connection = try RawConnection(port: worker.port)
            let chunk = "400\r\n\(String(repeating: " ", count: 1024))\r\n"
            try await connection.write(
                "POST /predict HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
                    + String(repeating: chunk, count: 50))
            #expect(try await connection.rest(mayReset: false).hasPrefix("HTTP/1.1 413 "))
        }
    }

    @Test("a body of exactly the limit is taken")
    func largestBody() async throws {
        try await WorkerUnderTest.run(nil, .init(maximumBodyBytes: 1000)) { worker in
            let padded = Self.body + String(repeating: " ", count: 1000 - Self.body.utf8.count)
            expectStatus(200, of: try await worker.predict(padded))
            expectStatus(413, of: try await worker.predict(padded + " "))
        }
    }

    @Test("a client that waits for it is told to continue")
    func expectContinue() async throws {
        try await WorkerUnderTest.run { worker in
            let connection = try RawConnection(port: worker.port)
            try await connection.write(
                "POST /predict HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: \(Self.body.utf8.count)\r\n\r\n"
            )
            let interim = try await connection.response()
            #expect(interim.status == 100)
            #expect(!interim.head.lowercased().contains("transfer-encoding"))
            try await connection.write(Self.body)
            #expect(try await connection.response().body.contains("setosa"))
        }
    }

    @Test(
        "what is not proper HTTP is refused and the connection closed",
        arguments: [
            "nonsense\r\n\r\n",
            "GET /v2 HTTP/1.1\r\n\r\n",
            "GET /v2 HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
            "POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
            "POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: -5\r\n\r\n",
            "GET /v2 HTTP/1.1\r\nHost: a\r\nx: \(String(repeating: "y", count: 17_000))\r\n\r\n",
        ])
    func malformed(request: String) async throws {
        try await WorkerUnderTest.run { worker in
            let connection = try RawConnection(port: worker.port)
            try await connection.write(request)
            let text = try await connection.rest()
            #expect(text.hasPrefix("HTTP/1.1 400 "), "\(text)")
            #expect(text.lowercased().contains("connection: close"))
        }
    }

    @Test("an idle connection is closed, one that waits for its answer is not")
    func idle() async throws {
        try await WorkerUnderTest.run(nil, .init(delayMilliseconds: 2_000, idleTimeoutMilliseconds: 1_000)) { worker in
            let connection = try RawConnection(port: worker.port)
            try await connection.write(Self.request())
            #expect(try await connection.response().status == 200)
            #expect(try await connection.rest() == "")
        }
    }

    @Test("a connection beyond the bound is closed at once")
    func connectionBound() async throws {
        try await WorkerUnderTest.run(nil, .init(maximumConnections: 1)) { worker in
            let first = try RawConnection(port: worker.port)
            try await first.write(Self.request())
            #expect(try await first.response().status == 200)
            let second = try RawConnection(port: worker.port)
            #expect(try await second.rest() == "")
            try await first.write(Self.request())
            #expect(try await first.response().status == 200)
        }
    }

    @Test("a delay is waited for")
    func delay() async throws {
        try await WorkerUnderTest.run(nil, .init(delayMilliseconds: 200)) { worker in
            let start = ContinuousClock.now
            expectStatus(200, of: try await worker.predict(Self.body))
            #expect(ContinuousClock.now - start >= .milliseconds(200))
            // Only inferences wait.
            expectStatus(200, of: try await worker.get("/v2"))
        }
    }

    @Test("a shutdown lets an answer that is due leave, and then closes")
    func drain() async throws {
        let server = ReferenceWorkerServer(
            models: try LoadedModels.builtIn(), configuration: .init(delayMilliseconds: 1000),
            logger: Logger(label: "test"))
        let port = try await server.start()
        let due = try RawConnection(port: port)
        let idle = try RawConnection(port: port)
        try await idle.write("GET /v2 HTTP/1.1\r\nHost: a\r\n\r\n")
        _ = try await idle.response()
        try await due.write(Self.request())
        try await WorkerUnderTest(port: port).waitForInferences(1)
        await server.shutdown()
        let text = try await due.rest()
        #expect(text.contains("setosa"))
        #expect(try await idle.rest() == "")
        #expect(throws: RawConnection.Failure.self) { try RawConnection(port: port) }
    }

    @Test("a shutdown does not wait longer than it was told to")
    func drainTimeout() async throws {
        let server = ReferenceWorkerServer(
            models: try LoadedModels.builtIn(),
            configuration: .init(delayMilliseconds: 60_000, drainTimeoutMilliseconds: 50), logger: Logger(label: "test")
        )
        let port = try await server.start()
        let connection = try RawConnection(port: port)
        try await connection.write(Self.request())
        try await WorkerUnderTest(port: port).waitForInferences(1)
        let start = ContinuousClock.now
        await server.shutdown()
        #expect(ContinuousClock.now - start < .seconds(30))
        await server.shutdown()
    }

    @Test("a server starts once, and says why it does not")
    func start() async throws {
        let models = try LoadedModels.builtIn()
        func server(_ configuration: ReferenceWorkerServer.Configuration) -> ReferenceWorkerServer {
            ReferenceWorkerServer(models: models, configuration: configuration, logger: Logger(label: "test"))
        }
        let first = server(.init())
        let port = try await first.start()
        await #expect(throws: ReferenceWorkerError.notStartable) { try await first.start() }
        await #expect {
            try await server(.init(port: port)).start()
        } throws: { error in
            guard case .cannotListen("127.0.0.1", port, _)? = error as? ReferenceWorkerError else { return false }
            return true
        }
        await first.shutdown()
        await #expect(throws: ReferenceWorkerError.notStartable) { try await first.start() }
        await #expect(throws: ReferenceWorkerError.invalidConfiguration("eventLoops is not within 1 to 1024")) {
            try await server(.init(eventLoops: 0)).start()
        }
        await #expect(throws: ReferenceWorkerError.invalidConfiguration("delayMilliseconds is not within 0 to a day")) {
            try await server(.init(delayMilliseconds: -1)).start()
        }
        await #expect(throws: ReferenceWorkerError.journalUnavailable(path: "/nowhere/journal", errorNumber: ENOENT)) {
            try await server(.init(journalPath: "/nowhere/journal")).start()
        }
    }
}
