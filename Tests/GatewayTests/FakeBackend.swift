import Domain
import Gateway
import NIOCore
import Synchronization
import TestSupport

/// A worker in memory: remembers what it was sent and answers as scripted.
final class FakeBackend: InferenceBackend {
    /// What a replica does that has its own way.
    enum Manner: Sendable {
        case answers(status: Int)
        case fails(BackendFailure)
        /// Answers when the gate opens.
        case waits(Gate)
        /// Fails when the gate opens.
        case stalls(Gate, BackendFailure)
        /// Never answers; ends when the call is given up.
        case hangs
    }

    private struct State {
        var manners: [Int: Manner] = [:]
        var mostAtOnce: [Int: Int] = [:]
        var atOnce: [Int: Int] = [:]
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

    /// From now on the replica on this port does this, whatever the script says.
    func behave(_ port: Int, _ manner: Manner?) { state.withLock { $0.manners[port] = manner } }

    func callCount(_ port: Int) -> Int { state.withLock { $0.calls.count { $0.address.port == port } } }
    /// The most calls that were under way at one time.
    func mostAtOnce(_ port: Int) -> Int { state.withLock { $0.mostAtOnce[port] ?? 0 } }

    private func act(_ manner: Manner) async throws(BackendFailure) -> WorkerAnswer {
        switch manner {
        case .answers(let status): return WorkerAnswer(status: status, body: ByteBuffer(string: Self.answer))
        case .fails(let failure): throw failure
        case .waits(let gate): await gate.pass()
        case .stalls(let gate, let failure):
            await gate.pass()
            throw failure
        case .hangs:
            try? await Task.sleep(for: .seconds(600))
            throw .cancelled
        }
        return WorkerAnswer(status: 200, body: ByteBuffer(string: Self.answer))
    }

    /// Streams are tried with real workers; this one has none.
    func openStream(
        _ call: WorkerCall, gapMilliseconds: Int64, on eventLoop: any EventLoop, receiver: any WorkerStreamReceiver
    ) -> (any WorkerStreamHandle)? {
        state.withLock { $0.calls.append(call) }
        return nil
    }

    func send(_ call: WorkerCall, on eventLoop: any EventLoop) async throws(BackendFailure) -> WorkerAnswer {
        let isOnLoop = eventLoop.inEventLoop
        let port = call.address.port
        let manner = state.withLock { state in
            state.atOnce[port, default: 0] += 1
            state.mostAtOnce[port] = max(state.mostAtOnce[port] ?? 0, state.atOnce[port] ?? 0)
            return state.manners[port]
        }
        defer { state.withLock { $0.atOnce[port, default: 0] -= 1 } }
        if let manner {
            state.withLock { $0.calls.append(call) }
            return try await act(manner)
        }
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
