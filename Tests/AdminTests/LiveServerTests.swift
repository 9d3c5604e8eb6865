import Domain
import HTTPListener
import Hummingbird
import HummingbirdTesting
import Testing

@testable import Admin

@Suite("The admin listener over a real socket")
struct LiveServerTests {
    private func live<Value: Sendable>(
        _ admin: AdminUnderTest, _ body: @escaping @Sendable (any TestClientProtocol) async throws -> Value
    ) async throws -> Value {
        // The framework's own threads, which live as long as the process.
        let defaults = Application(
            responder: AdminRouter.underTest(admin.parts).makeResponder())
        let server = AdminServer(
            configuration: AdminServer.Configuration(), parts: admin.parts, eventLoops: defaults.eventLoopGroup,
            logger: defaults.logger)
        return try await server.makeApplication { _ in }.test(.live) { client in try await body(client) }
    }

    @Test("it serves, and a connection serves more than once")
    func serves() async throws {
        let answers = try await live(AdminUnderTest()) { client in
            var answers: [Answer] = []
            for _ in 0..<3 {
                answers.append(
                    Answer(
                        try await client.executeRequest(
                            uri: "/admin/v1/tenants", method: .get, headers: [.authorization: "Bearer admin"], body: nil
                        )))
            }
            return answers
        }
        #expect(answers.map(\.status) == [200, 200, 200])
        #expect(Set(answers.map { $0.headers[.requestID] }).count == 3)
        #expect(answers[0].headers[.server] == nil)
    }

    @Test("a body that is too large is answered, and the connection is to be closed")
    func tooLarge() async throws {
        let admin = AdminUnderTest()
        let answer = try await live(admin) { client in
            Answer(
                try await client.executeRequest(
                    uri: "/admin/v1/models", method: .post,
                    headers: [.authorization: "Bearer admin", .contentType: "application/json"],
                    body: ByteBuffer(repeating: 0x20, count: 400_000)))
        }
        #expect(answer.status == 413)
        #expect(answer.headers[.connection] == "close")
        #expect(admin.administration.last.calls.isEmpty)
    }
}
