import Dispatch
import PostgresDriver
import Synchronization

/// A session on a thread of its own, for tests in which one session waits for another. It is driven from a session's thread, which may
/// block.
final class SecondSession: Sendable {
    private let thread: PostgresThread
    private let configuration: PostgresConfiguration

    init(_ configuration: PostgresConfiguration) throws {
        thread = try PostgresThread(name: "test-second")
        self.configuration = configuration
    }

    /// Connects, runs the body and closes.
    func start<T: Sendable>(_ body: @escaping @Sendable (PostgresSession) throws -> T) -> Waiting<T> {
        let waiting = Waiting<T>()
        let configuration = configuration
        thread.submit {
            waiting.finish(
                Result {
                    let session = PostgresSession(configuration: configuration)
                    try session.connect()
                    defer { session.close() }
                    return try body(session)
                })
        }
        return waiting
    }

    final class Waiting<T: Sendable>: Sendable {
        private let outcome = Mutex<Result<T, any Error>?>(nil)
        private let finished = DispatchSemaphore(value: 0)

        fileprivate func finish(_ result: Result<T, any Error>) {
            outcome.withLock { $0 = result }
            finished.signal()
        }

        func isFinished(withinMilliseconds milliseconds: Int) -> Bool {
            guard finished.wait(timeout: .now() + .milliseconds(milliseconds)) == .success else { return false }
            finished.signal()
            return true
        }

        func result() throws -> T {
            guard finished.wait(timeout: .now() + .seconds(60)) == .success, let outcome = outcome.withLock({ $0 })
            else {
                throw NeverHappened(description: "the second session is still waiting")
            }
            return try outcome.get()
        }
    }
}
