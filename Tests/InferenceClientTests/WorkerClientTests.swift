import Domain
import Logging
import NIOCore
import NIOPosix
import Testing

@testable import InferenceClient

@Suite("Calls to a worker", .timeLimit(.minutes(1)))
struct WorkerClientTests {
    @Test("an answer comes back with its status, type and body")
    func answer() async throws {
        try await withWorker { calling in
            let reply = try await calling.send("{\"x\":1}")
            #expect(reply.status == 200)
            #expect(reply.contentType == "application/json")
            #expect(String(buffer: reply.body) == "{}")
            #expect(calling.worker.record.received.map(\.body) == ["{\"x\":1}"])
        }
    }

    @Test("an error of the worker is an answer", arguments: [400, 404, 422, 429, 500, 503])
    func errorStatus(status: Int) async throws {
        try await withWorker(script: { _ in [.send("HTTP/1.1 \(status) No\r\ncontent-length: 4\r\n\r\noops")] }) {
            calling in
            let reply = try await calling.send()
            #expect(reply.status == status)
            #expect(reply.contentType == nil)
            #expect(String(buffer: reply.body) == "oops")
        }
    }

    @Test("100 requests one after the other use one connection")
    func keepAlive() async throws {
        try await withWorker { calling in
            for number in 0..<100 {
                _ = try await calling.send("\(number)")
            }
            #expect(calling.worker.record.connectionCount == 1)
            #expect(calling.worker.record.received.map(\.body) == (0..<100).map(String.init))
            #expect(calling.client.statistics == .init(openConnections: 1, idleConnections: 1, waitingRequests: 0))
        }
    }

    @Test("calls that overlap have a connection each, and each gets its own answer")
    func concurrent() async throws {
        let script: ScriptedWorker.Script = { received in
            [.send("HTTP/1.1 200 OK\r\ncontent-length: \(received.body.utf8.count)\r\n\r\n\(received.body)")]
        }
        try await withWorker(script: script) { calling in
            try await withThrowingTaskGroup(of: Bool.self) { group in
                for number in 0..<64 {
                    group.addTask {
                        let reply = try await calling.send("call \(number)")
                        return String(buffer: reply.body) == "call \(number)"
                    }
                }
                for try await isOwn in group { #expect(isOwn) }
            }
            #expect(calling.worker.record.received.count == 64)
            #expect(calling.client.statistics.connectionsInUse == 0)
        }
    }

    @Test("the connection that answered last is used next")
    func lastInFirstOut() async throws {
        let script: ScriptedWorker.Script = { received in received.number == 0 ? [] : [.send(ok)] }
        try await withWorker(script: script) { calling in
            async let first = calling.send("0")
            await calling.worker.wait { $0.received.count == 1 }
            async let second = calling.send("1")
            await calling.worker.wait { $0.received.count == 2 }
            async let third = calling.send("2")
            await calling.worker.wait { $0.received.count == 3 }
            calling.worker.send(ok, on: 2)
            _ = try await third
            calling.worker.send(ok, on: 0)
            _ = try await first
            calling.worker.send(ok, on: 1)
            _ = try await second
            for _ in 0..<3 { _ = try await calling.send("again") }
            #expect(calling.worker.record.received.suffix(3).map(\.connection) == [1, 1, 1])
            #expect(calling.client.statistics.idleConnections == 3)
        }
    }

    @Test("an answer that comes byte by byte is put together")
    func trickle() async throws {
        let text = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
        try await withWorker(script: { _ in text.map { .send(String($0)) } }) { calling in
            for _ in 0..<3 {
                let reply = try await calling.send()
                #expect(String(buffer: reply.body) == "abcde")
            }
            #expect(calling.worker.record.connectionCount == 1)
        }
    }

    @Test("a body without a length ends where the worker closes")
    func closeDelimited() async throws {
        let script: ScriptedWorker.Script = { _ in [.send("HTTP/1.1 200 OK\r\n\r\nto the "), .send("end"), .close] }
        try await withWorker(script: script) { calling in
            for _ in 0..<2 {
                let reply = try await calling.send()
                #expect(String(buffer: reply.body) == "to the end")
            }
            #expect(calling.worker.record.connectionCount == 2)
            try await calling.settle { $0.openConnections == 0 }
        }
    }

    @Test("a body without a length that is reset is no answer")
    func reset() async throws {
        let script: ScriptedWorker.Script = { _ in [.send("HTTP/1.1 200 OK\r\n\r\nto the ")] }
        try await withWorker(script: script) { calling in
            async let failure = calling.failure()
            await calling.worker.wait { $0.received.count == 1 }
            calling.worker.reset(connection: 0)
            let seen = await failure
            // A reset may overtake the bytes that were sent before it.
            #expect(seen == .closedMidResponse || seen == .closedBeforeResponse)
        }
    }

    @Test("interim responses are skipped and 204 has no body")
    func noContent() async throws {
        let script: ScriptedWorker.Script = { _ in
            [.send("HTTP/1.1 100 Continue\r\n\r\n"), .send("HTTP/1.1 204 No\r\n\r\n")]
        }
        try await withWorker(script: script) { calling in
            for _ in 0..<2 {
                let reply = try await calling.send()
                #expect(reply.status == 204 && reply.body.readableBytes == 0)
            }
            #expect(calling.worker.record.connectionCount == 1)
        }
    }

    @Test("a body of a megabyte arrives whole in both directions")
    func large() async throws {
        let script: ScriptedWorker.Script = { received in
            [.send("HTTP/1.1 200 OK\r\ncontent-length: \(received.body.utf8.count)\r\n\r\n\(received.body)")]
        }
        try await withWorker(script: script) { calling in
            for count in [16 * 1024, 16 * 1024 + 1, 1024 * 1024] {
                let body =
                    String(repeating: "0123456789abcdef", count: count / 16) + String(repeating: "!", count: count % 16)
                let reply = try await calling.send(body)
                #expect(String(buffer: reply.body) == body)
            }
            #expect(calling.worker.record.received.map(\.body.utf8.count) == [16_384, 16_385, 1_048_576])
        }
    }

    @Test("a request that must not be sent opens no connection")
    func invalid() async throws {
        try await withWorker { calling in
            #expect(await calling.failure(path: "/a\r\nx: y") == .invalidRequest)
            #expect(await calling.failure(path: "") == .invalidRequest)
            await #expect(throws: WorkerFailure.invalidRequest) { try await calling.send(requestID: "a\r\nb") }
            #expect(calling.worker.record.connectionCount == 0)
            _ = try await calling.send()
            await #expect(throws: WorkerFailure.invalidRequest) { try await calling.send(requestID: "") }
            #expect(calling.client.statistics == .init(openConnections: 1, idleConnections: 1, waitingRequests: 0))
        }
    }

    @Test("a caller that is on no loop is served too")
    func offLoop() async throws {
        let worker = ScriptedWorker { _ in [.send(ok)] }
        try await worker.start()
        let client = WorkerClient(eventLoops: ScriptedWorker.group, logger: Logger(label: "test"))
        let calling = Calling(client: client, worker: worker, eventLoop: ScriptedWorker.group.any())
        for _ in 0..<20 {
            let reply = try await calling.send()
            #expect(reply.status == 200)
        }
        #expect(worker.record.connectionCount == 1)
        await client.shutdown()
        await worker.stop()
    }

    @Test("loops do not share connections, and a foreign loop borrows one of the client's")
    func loops() async throws {
        let own = MultiThreadedEventLoopGroup(numberOfThreads: 2)
        let worker = ScriptedWorker { _ in [.send(ok)] }
        try await worker.start()
        let client = WorkerClient(eventLoops: own, logger: Logger(label: "test"))
        for eventLoop in own.makeIterator() {
            let calling = Calling(client: client, worker: worker, eventLoop: eventLoop)
            for _ in 0..<3 { _ = try await calling.send() }
        }
        #expect(worker.record.connectionCount == 2)
        #expect(client.statistics == .init(openConnections: 2, idleConnections: 2, waitingRequests: 0))
        _ = try await Calling(client: client, worker: worker, eventLoop: ScriptedWorker.group.any()).send()
        #expect(worker.record.connectionCount == 2)
        await client.shutdown()
        await worker.stop()
        try await own.shutdownGracefully()
    }

    @Test("replicas do not share connections")
    func replicas() async throws {
        let other = ScriptedWorker { _ in [.send("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nother")] }
        try await other.start()
        try await withWorker { calling in
            for _ in 0..<3 {
                let here = try await calling.send()
                let there = try await calling.send(to: other.address)
                #expect(String(buffer: here.body) == "{}" && String(buffer: there.body) == "other")
            }
            #expect(calling.worker.record.connectionCount == 1 && other.record.connectionCount == 1)
        }
        await other.stop()
    }
}
