import Domain
import NIOCore
import Testing

@testable import InferenceClient

@Suite("Connections that end", .timeLimit(.minutes(1)))
struct WorkerConnectionTests {
    @Test("a reused connection that closes without a byte is replaced, once and unseen")
    func stale() async throws {
        let script: ScriptedWorker.Script = { $0.connection == 0 && $0.number == 1 ? [.close] : [.send(ok)] }
        try await withWorker(script: script) { calling in
            _ = try await calling.send("first")
            let reply = try await calling.send("second")
            #expect(reply.status == 200)
            #expect(calling.worker.record.received.map(\.body) == ["first", "second", "second"])
            #expect(calling.worker.record.received.map(\.connection) == [0, 0, 1])
            #expect(calling.client.statistics == .init(openConnections: 1, idleConnections: 1, waitingRequests: 0))
        }
    }

    @Test("a request that must not be repeated is not sent again on a fresh connection")
    func staleUnsafe() async throws {
        let script: ScriptedWorker.Script = { $0.connection == 0 && $0.number == 1 ? [.close] : [.send(ok)] }
        try await withWorker(script: script) { calling in
            _ = try await calling.send("first")
            await #expect(throws: WorkerFailure.closedBeforeResponse) {
                try await calling.send("second", isSafeToRepeat: false)
            }
            #expect(calling.worker.record.received.map(\.body) == ["first", "second"])
        }
    }

    @Test("the second attempt has only what is left of the total time")
    func staleDeadline() async throws {
        let script: ScriptedWorker.Script = { received in
            received.number == 0 && received.connection == 0 ? [.send(ok)] : received.connection == 0 ? [.close] : []
        }
        try await withWorker(script: script) { calling in
            _ = try await calling.send("first")
            let deadlines = WorkerDeadlines(
                connectMilliseconds: 5_000, firstByteMilliseconds: 20_000, totalMilliseconds: 5_000)
            let began = ContinuousClock.now
            await #expect(throws: WorkerFailure.totalTimeout) {
                try await calling.send("second", deadlines: deadlines)
            }
            #expect(ContinuousClock.now - began < .seconds(15))
            #expect(calling.worker.record.received.map(\.connection) == [0, 0, 1])
        }
    }

    @Test("a reset counts as a stale connection too")
    func staleReset() async throws {
        let script: ScriptedWorker.Script = { $0.connection == 0 && $0.number == 1 ? [.reset] : [.send(ok)] }
        try await withWorker(script: script) { calling in
            _ = try await calling.send()
            let reply = try await calling.send()
            #expect(reply.status == 200)
            #expect(calling.worker.record.connectionCount == 2)
        }
    }

    @Test("the second attempt is the last, although other connections are idle")
    func staleTwice() async throws {
        let script: ScriptedWorker.Script = { $0.body == "bad" ? [.close] : $0.body == "hold" ? [] : [.send(ok)] }
        try await withWorker(script: script) { calling in
            async let held = calling.send("hold")
            await calling.worker.wait { $0.received.count == 1 }
            _ = try await calling.send("good")
            calling.worker.send(ok, on: 0)
            _ = try await held
            #expect(calling.client.statistics.idleConnections == 2)
            await #expect(throws: WorkerFailure.closedBeforeResponse) { try await calling.send("bad") }
            #expect(calling.worker.record.received.filter { $0.body == "bad" }.map(\.connection) == [0, 2])
            #expect(calling.client.statistics == .init(openConnections: 1, idleConnections: 1, waitingRequests: 0))
        }
    }

    @Test("a fresh connection that closes without a byte is not tried again")
    func freshClosed() async throws {
        try await withWorker(script: { _ in [.close] }) { calling in
            #expect(await calling.failure() == .closedBeforeResponse)
            #expect(calling.worker.record.received.count == 1)
            #expect(calling.client.statistics.openConnections == 0)
        }
    }

    @Test(
        "after a byte of an answer nothing is sent again",
        arguments: ["H", "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf"])
    func cut(text: String) async throws {
        let script: ScriptedWorker.Script = { $0.number == 1 ? [.send(text), .close] : [.send(ok)] }
        try await withWorker(script: script) { calling in
            _ = try await calling.send()
            #expect(await calling.failure() == .closedMidResponse)
            #expect(calling.worker.record.received.count == 2)
        }
    }

    @Test("a connection that the worker closes while idle is forgotten")
    func idleClosed() async throws {
        try await withWorker { calling in
            _ = try await calling.send()
            calling.worker.close(connection: 0)
            try await calling.settle { $0 == .init() }
            _ = try await calling.send()
            #expect(calling.worker.record.received.map(\.connection) == [0, 1])
        }
    }

    @Test("bytes behind an answer close its connection")
    func extraBytes() async throws {
        try await withWorker(script: { _ in [.send(ok + "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nwrong")] }) {
            calling in
            for _ in 0..<3 {
                let reply = try await calling.send()
                #expect(String(buffer: reply.body) == "{}")
            }
            #expect(calling.worker.record.received.map(\.connection) == [0, 1, 2])
        }
    }

    @Test("bytes on an idle connection close it")
    func unsolicited() async throws {
        try await withWorker { calling in
            _ = try await calling.send()
            calling.worker.send("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nwrong", on: 0)
            await calling.worker.wait { $0.closedCount == 1 }
            let reply = try await calling.send()
            #expect(String(buffer: reply.body) == "{}")
            #expect(calling.worker.record.connectionCount == 2)
        }
    }

    static let closingAnswers = [
        "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}",
        "HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\n{}",
    ]

    @Test("an answer that ends its connection is the last on it", arguments: closingAnswers)
    func notReused(text: String) async throws {
        try await withWorker(script: { _ in [.send(text)] }) { calling in
            for _ in 0..<3 {
                let reply = try await calling.send()
                #expect(String(buffer: reply.body) == "{}")
            }
            await calling.worker.wait { $0.closedCount == 3 }
            #expect(calling.worker.record.connectionCount == 3)
            #expect(calling.client.statistics == .init())
        }
    }

    static let unusableAnswers: [(String, WorkerFailure)] = [
        ("SSH-2.0-OpenSSH_9.2p1\r\n", .malformedResponse),
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n{}", .malformedResponse),
        ("HTTP/1.1 200 OK\r\ncontent-length: -2\r\n\r\n{}", .malformedResponse),
        (String(repeating: "HTTP/1.1 100 Continue\r\n\r\n", count: 1000), .malformedResponse),
        ("HTTP/1.1 200 OK\r\nx: " + String(repeating: "y", count: 40_000), .malformedResponse),
        ("HTTP/1.1 302 Found\r\nlocation: http://169.254.169.254/\r\ncontent-length: 0\r\n\r\n", .redirect),
        ("HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n", .responseTooLarge),
        ("HTTP/1.1 200 OK\r\n\r\n" + String(repeating: "z", count: 100_000), .responseTooLarge),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nFFFFF\r\n", .responseTooLarge),
    ]

    @Test("an answer that cannot be used closes its connection and is not asked for again", arguments: unusableAnswers)
    func unusable(text: String, expected: WorkerFailure) async throws {
        try await withWorker(configure: { $0.maximumResponseBytes = 65_536 }, script: { _ in [.send(text)] }) {
            calling in
            #expect(await calling.failure() == expected)
            await calling.worker.wait { $0.closedCount == 1 }
            #expect(calling.worker.record.received.count == 1)
            #expect(calling.client.statistics == .init())
        }
    }

    @Test("idle connections are closed when their time is over")
    func idleTimeout() async throws {
        try await withWorker(configure: { $0.idleTimeoutMilliseconds = 50 }) { calling in
            _ = try await calling.send()
            await calling.worker.wait { $0.closedCount == 1 }
            #expect(calling.client.statistics == .init())
        }
    }

    @Test("a connection that has served long enough is not used again")
    func age() async throws {
        try await withWorker(configure: { $0.maximumConnectionAgeMilliseconds = 0 }) { calling in
            for _ in 0..<3 { _ = try await calling.send() }
            #expect(calling.worker.record.received.map(\.connection) == [0, 1, 2])
            #expect(calling.client.statistics == .init())
        }
    }

    @Test("no more idle connections are kept than configured")
    func idleLimit() async throws {
        try await withWorker(configure: { $0.maximumIdleConnections = 1 }, script: { _ in [] }) { calling in
            async let first = calling.send()
            async let second = calling.send()
            async let third = calling.send()
            await calling.worker.wait { $0.received.count == 3 }
            for connection in 0..<3 { calling.worker.send(ok, on: connection) }
            _ = try await (first, second, third)
            await calling.worker.wait { $0.closedCount == 2 }
            #expect(calling.client.statistics == .init(openConnections: 1, idleConnections: 1, waitingRequests: 0))
        }
    }
}
