import Gateway
import NIOCore
import Synchronization
import TestSupport

/// A worker in memory: remembers what it was sent and answers as scripted.
final class FakeBackend: InferenceBackend {
    private struct State {
        var calls: [WorkerCall] = []
        var script: [Result<WorkerAnswer, BackendFailure>] = []
        var isOnLoop = true
    }

    static let answer =
        #"{"prediction":"setosa","probabilities":[0.9,0.1],"usage":{"input_tokens":7,"output_tokens":3}}"#

    private let state = Mutex(State())
    /// Every call passes it.
    let gate: Gate

    init(gate: Gate = Gate(isOpen: true)) { self.gate = gate }

    var calls: [WorkerCall] { state.withLock { $0.calls } }
    /// Whether every call came on the event loop that it named.
    var wasOnLoop: Bool { state.withLock { $0.isOnLoop } }

    /// The next answers; after them ``answer``.
    func answer(_ text: String, status: Int = 200) {
        state.withLock { $0.script.append(.success(WorkerAnswer(status: status, body: ByteBuffer(string: text)))) }
    }

    func fail(_ failures: BackendFailure...) { state.withLock { $0.script += failures.map { .failure($0) } } }

    func send(_ call: WorkerCall, on eventLoop: any EventLoop) async throws(BackendFailure) -> WorkerAnswer {
        let isOnLoop = eventLoop.inEventLoop
        let result = state.withLock { state -> Result<WorkerAnswer, BackendFailure> in
            state.calls.append(call)
            state.isOnLoop = state.isOnLoop && isOnLoop
            return state.script.isEmpty
                ? .success(WorkerAnswer(status: 200, body: ByteBuffer(string: Self.answer)))
                : state.script.removeFirst()
        }
        await gate.pass()
        return try result.get()
    }
}
