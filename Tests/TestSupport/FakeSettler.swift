public import Domain
internal import Synchronization

/// Settles in memory: keeps what it was given and answers as scripted.
public final class FakeSettler: Settler {
    private struct State {
        var isAccepting = true
        var script: [SettlementResult] = []
        var settlements: [Settlement] = []
    }

    private let state = Mutex(State())
    private let keys: FakeIdempotencyStore?

    /// - Parameter keys: where the answers of claimed requests are kept.
    public init(keys: FakeIdempotencyStore? = nil) { self.keys = keys }

    public var isAccepting: Bool {
        get { state.withLock { $0.isAccepting } }
        set { state.withLock { $0.isAccepting = newValue } }
    }

    /// Everything that was submitted, in order, whatever it was answered.
    public var settlements: [Settlement] { state.withLock { $0.settlements } }

    /// The next answers; after them everything is committed.
    public func answer(_ results: SettlementResult...) {
        state.withLock { $0.script += results }
    }

    public func submit(
        _ settlement: Settlement, on lane: any CompletionLane,
        completion: @escaping @Sendable (SettlementResult) -> Void
    ) {
        let result = state.withLock { state -> SettlementResult in
            state.settlements.append(settlement)
            return state.script.isEmpty ? .committed : state.script.removeFirst()
        }
        guard result == .committed, let answer = settlement.answer, let keys else {
            return lane.run { completion(result) }
        }
        let isOwn = keys.answer(answer, status: Int(settlement.httpStatus))
        lane.run { completion(isOwn ? .committed : .claimLost) }
    }
}
