import Domain
import NIOCore
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
}
