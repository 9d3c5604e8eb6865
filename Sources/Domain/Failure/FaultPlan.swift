#if WEIR_FAULTS
    /// Seeded faults, in debug builds only: places at which a process may be made to die, and defects that a test plants to prove that it
    /// would notice them.
    public protocol FaultPlan: Sendable {
        /// Called at every pass of a point; may never return.
        func pass(_ point: FaultPoint)
        /// The defect that is planted, if any.
        var mutant: Mutant? { get }
    }

    /// The named instants of a request's life.
    public enum FaultPoint: String, Sendable, CaseIterable {
        case accepted
        case authenticated
        case held
        case workerCalled = "worker_called"
        case workerAnswered = "worker_answered"
        case settlementQueued = "settlement_queued"
        case batchSent = "batch_sent"
        case batchCommitted = "batch_committed"
        case commitKnown = "commit_known"
        case answered
    }

    /// Defects that have cost others money.
    public enum Mutant: String, Sendable, CaseIterable {
        case answerBeforeCommit = "answer-before-commit"
        case noOnConflict = "no-on-conflict"
        case billFailed = "bill-failed"
        case ignoreCommitLoss = "ignore-commit-loss"
    }

    /// No faults.
    public struct NoFaults: FaultPlan {
        public init() {}
        public func pass(_ point: FaultPoint) {}
        public var mutant: Mutant? { nil }
    }
#endif
