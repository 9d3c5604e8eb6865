/// Runs the completions of one batch where the requests live: one event loop, one thread.
public protocol CompletionLane: AnyObject, Sendable {
    /// Runs `work` on the lane, soon, once.
    func run(_ work: @escaping @Sendable () -> Void)
}

/// Writes settlements durably, many in one commit.
public protocol Settler: Sendable {
    /// False once the database has stopped answering or too much is queued: new paid requests are refused before the worker is called,
    /// because their usage could not be recorded.
    var isAccepting: Bool { get }

    /// Queues one settlement. `completion` runs on `lane` after the commit is known, exactly once.
    func submit(
        _ settlement: Settlement, on lane: any CompletionLane,
        completion: @escaping @Sendable (SettlementResult) -> Void)
}
