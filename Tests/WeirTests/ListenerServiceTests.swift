import Glibc
import NIOCore
import ServiceLifecycle
import Testing

@testable import weir

@Suite("Listeners")
struct ListenerServiceTests {
    private struct Failing: Service {
        let error: CInt
        func run() async throws { throw IOError(errnoCode: error, reason: "bind") }
    }

    private func thrown(after error: CInt, host: String) async -> (any Error)? {
        await #expect(throws: (any Error).self) {
            try await ListenerService(
                listener: Failing(error: error), host: host, port: 8_080, variable: "WEIR_PORT"
            ).run()
        }
    }

    @Test("an address that cannot be had is named with its setting")
    func taken() async throws {
        let error = await thrown(after: EADDRINUSE, host: "::1")
        let failure = try #require(error as? CommandFailure)
        #expect(failure.message.hasPrefix("cannot listen on [::1]:8080, which WEIR_PORT asks for: "))
        #expect(failure.status == .failed)
    }

    @Test("another failure is passed on as it is")
    func other() async {
        let error = await thrown(after: ECONNRESET, host: "127.0.0.1")
        #expect(error is IOError)
    }
}
