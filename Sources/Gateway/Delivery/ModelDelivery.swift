internal import Domain
internal import Logging
internal import Metrics
internal import Synchronization

/// The replicas of one model as they are called: which one is next, who waits, how many repetitions are left.
final class ModelDelivery: Sendable {
    /// Why there is no replica for a request.
    enum Obstacle: Error {
        /// As many wait as may.
        case lineIsFull
        case waitedTooLong
        case cancelled
    }

    /// One request that waits.
    // SAFETY: `candidates` and `set` never change. The rest is written inside `line.withLock` only; whoever takes the waiter out of the line
    // there is the one that reads its continuation afterwards and resumes it, once.
    private final class Waiter: @unchecked Sendable {
        let candidates: [Replica]
        let set: CandidateSet
        var deadlineMilliseconds: Int64 = 0
        var continuation: CheckedContinuation<Result<ReplicaTurn, Obstacle>, Never>?
        var isCancelled = false

        init(_ candidates: [Replica]) {
            self.candidates = candidates
            set = CandidateSet(candidates)
        }
    }

    /// The replicas that may serve a request, whatever their order. Who has the same ones waits in the same line.
    private struct CandidateSet: Hashable {
        private let states: [ObjectIdentifier]

        init(_ candidates: [Replica]) {
            states = candidates.compactMap { $0.runtime.map { ObjectIdentifier($0) } }.sorted()
        }
    }

    /// A replica of the present table and what is known of it.
    struct Entry: Sendable {
        let replica: Replica
        let state: ReplicaState
    }

    let name: String
    let settings: DeliverySettings
    let policy: DeliveryPolicy
    private let time: any TimeSource
    private let logger: Logger
    private let roster = Mutex<[Entry]>([])
    private let line: Mutex<WaitingLine<CandidateSet, Waiter>>
    /// Read before every call, so that nobody overtakes those who wait.
    private let waitingCount = Atomic(0)
    private let budget: Mutex<RetryBudget>
    private let draws: Atomic<UInt64>
    private let metrics: DeliveryMetrics
    private let deepest = Atomic<Int64>(0)

    init(
        name: String, settings: DeliverySettings, policy: DeliveryPolicy, time: any TimeSource, logger: Logger,
        seed: UInt64
    ) {
        self.name = name
        self.settings = settings
        self.policy = policy
        self.time = time
        self.logger = logger
        line = Mutex(WaitingLine(limit: Int(policy.queueDepth)))
        budget = Mutex(RetryBudget(percent: policy.retryPercent))
        draws = Atomic(seed)
        metrics = DeliveryMetrics(model: name)
    }

    var nowMilliseconds: Int64 { Int64(time.monotonicNanoseconds / 1_000_000) }
    var entries: [Entry] { roster.withLock { $0 } }
    var waiting: Int { waitingCount.load(ordering: .relaxed) }
    /// The greatest depth of this instant and of those at which ``keep(at:elapsedMilliseconds:)`` looked since it was last asked for.
    func takeDeepest() -> Int64 { max(deepest.exchange(0, ordering: .relaxed), depth) }

    /// Requests that wait for a replica or are with one. A process that serves several versions is asked once.
    var depth: Int64 {
        var states: [ReplicaState] = []
        for entry in entries where !states.contains(where: { $0 === entry.state }) { states.append(entry.state) }
        return Int64(waiting) + states.reduce(0) { $0 + $1.outstanding }
    }
    var isStranded: Bool {
        let entries = entries
        return !entries.isEmpty && !entries.contains { $0.state.condition.isAvailable }
    }

    /// The replicas of a new table.
    func set(_ entries: [Entry]) {
        // Under the lock, so that nobody records a replica after it was forgotten.
        roster.withLock { roster in
            for old in roster where !entries.contains(where: { $0.state === old.state }) { metrics.forget(old.state) }
            roster = entries
        }
    }

    // MARK: choosing

    /// A place at one of the candidates, now or as soon as one is free.
    ///
    /// - Throws: ``Obstacle``; then nothing is held.
    func turn(among candidates: [Replica]) async throws(Obstacle) -> ReplicaTurn {
        if waitingCount.load(ordering: .sequentiallyConsistent) == 0 {
            if let turn = choose(among: candidates, excluding: [], mayForce: true) { return turn }
            return try await wait(Waiter(candidates)).get()
        }
        let waiter = Waiter(candidates)
        // Those who wait for other replicas, as of another version, are not overtaken.
        if line.withLock({ $0.isEmpty(for: waiter.set) }),
            let turn = choose(among: candidates, excluding: [], mayForce: true)
        {
            return turn
        }
        return try await wait(waiter).get()
    }

    /// A place at a candidate that is well, at once and where nobody waits; or `nil`.
    func turnForCopy(among candidates: [Replica]) -> ReplicaTurn? {
        guard waitingCount.load(ordering: .sequentiallyConsistent) == 0 else { return nil }
        return choose(among: candidates, excluding: [], mayForce: false, mayTry: false)
    }

    /// A place at once, or `nil`.
    ///
    /// - Parameters:
    ///   - tried: replicas that have failed the request already.
    ///   - mayForce: where no candidate is well, the least bad one is taken: refusing outright would fail for certain.
    ///   - mayTry: whether it may be the call that shows if a replica is well again.
    func choose(
        among candidates: [Replica], excluding tried: [ReplicaState], mayForce: Bool, mayTry: Bool = true
    ) -> ReplicaTurn? {
        if candidates.count == 1, let only = candidates.first {
            guard let state = only.runtime as? ReplicaState, !tried.contains(where: { $0 === state }) else {
                return nil
            }
            if mayTry, state.condition == .trial, state.takeTrial() {
                return ReplicaTurn(replica: only, state: state, isTrial: true)
            }
            guard mayForce || state.condition.isAvailable, state.take() else { return nil }
            return ReplicaTurn(replica: only, state: state, isTrial: false)
        }
        return ReplicaChoice(candidates, excluding: tried, balancing: policy.balancing, draw: draw())
            .taken(mayForce: mayForce, mayTry: mayTry)
    }

    /// SplitMix64 over a shared counter: cheap, and the same for all loops.
    private func draw() -> UInt64 {
        var mixed = draws.wrappingAdd(0x9E37_79B9_7F4A_7C15, ordering: .relaxed).newValue
        mixed = (mixed ^ mixed >> 30) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ mixed >> 27) &* 0x94D0_49BB_1331_11EB
        return mixed ^ mixed >> 31
    }

    // MARK: the end of a call

    enum CallEnd {
        case good
        case replicasFault
        /// Given up because a second replica had answered.
        case overtaken
        /// Says nothing about the replica.
        case neutral
    }

    func end(_ turn: ReplicaTurn, _ end: CallEnd) {
        let transition =
            switch end {
            case .good: turn.state.end(.good, isTrial: turn.isTrial, at: nowMilliseconds)
            case .neutral: turn.state.end(.neutral, isTrial: turn.isTrial, at: nowMilliseconds)
            // Under one lock with the count of those that are left out, or two failures at once could each take the last place.
            case .replicasFault, .overtaken:
                roster.withLock { entries in
                    let mayEject = Self.mayEject(turn.replica, of: entries)
                    return turn.state.end(
                        end == .overtaken ? .overtaken(mayEject: mayEject) : .failed(mayEject: mayEject),
                        isTrial: turn.isTrial, at: nowMilliseconds)
                }
            }
        if let transition { note(transition, of: turn.state) }
        serveNext()
    }

    /// Whether enough are left of those that could take over: processes, not rows of the table, and only of the replica's own version. One
    /// that names no version serves all.
    private static func mayEject(_ replica: Replica, of entries: [Entry]) -> Bool {
        var states: [ReplicaState] = []
        for entry in entries {
            let version = entry.replica.version
            guard version == replica.version || version.isEmpty || replica.version.isEmpty,
                !states.contains(where: { $0 === entry.state })
            else { continue }
            states.append(entry.state)
        }
        return EjectionRule.mayEject(unavailable: states.count { !$0.condition.isAvailable }, of: states.count)
    }

    func giveBack(_ turn: ReplicaTurn) {
        turn.state.giveBack(isTrial: turn.isTrial)
        serveNext()
    }

    /// - Returns: whether the request may be sent once more.
    func withdrawRetry() -> Bool {
        let isGranted = budget.withLock { $0.withdraw() }
        (isGranted ? metrics.retries : metrics.retriesDenied).increment()
        return isGranted
    }

    // MARK: waiting

    private func wait(_ waiter: Waiter) async -> Result<ReplicaTurn, Obstacle> {
        await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in enter(waiter, continuation) }
        } onCancel: {
            cancel(waiter)
        }
    }

    private func enter(_ waiter: Waiter, _ continuation: CheckedContinuation<Result<ReplicaTurn, Obstacle>, Never>) {
        let obstacle: Obstacle? = line.withLock { line in
            if waiter.isCancelled { return .cancelled }
            waiter.deadlineMilliseconds = nowMilliseconds + policy.queueWaitMilliseconds
            waiter.continuation = continuation
            guard line.enter(waiter, for: waiter.set) else { return .lineIsFull }
            waitingCount.wrappingAdd(1, ordering: .sequentiallyConsistent)
            return nil
        }
        if let obstacle {
            if obstacle == .lineIsFull { metrics.turnedAway.increment() }
            return continuation.resume(returning: .failure(obstacle))
        }
        // A place may have become free after it was looked for and before anybody was seen waiting.
        serveNext()
    }

    private func cancel(_ waiter: Waiter) {
        let continuation = line.withLock { line in
            waiter.isCancelled = true
            if line.leave(waiter, for: waiter.set) {
                waitingCount.wrappingSubtract(1, ordering: .sequentiallyConsistent)
            } else {
                return nil as CheckedContinuation<Result<ReplicaTurn, Obstacle>, Never>?
            }
            return waiter.continuation
        }
        continuation?.resume(returning: .failure(.cancelled))
    }

    /// Gives a free place to whoever has waited longest for it.
    /// - Returns: whether there was one of each.
    @discardableResult
    private func serveNext() -> Bool {
        guard waitingCount.load(ordering: .sequentiallyConsistent) > 0 else { return false }
        let served = line.withLock { line -> (Waiter, ReplicaTurn)? in
            guard let first = line.takeFirst({ choose(among: $0.candidates, excluding: [], mayForce: true) }) else {
                return nil
            }
            waitingCount.wrappingSubtract(1, ordering: .sequentiallyConsistent)
            var turn = first.turn
            turn.hasWaited = true
            return (first.waiter, turn)
        }
        guard let (waiter, turn) = served else { return false }
        waiter.continuation?.resume(returning: .success(turn))
        return true
    }

    // MARK: upkeep

    /// What time moves; several times a second.
    func keep(at now: Int64, elapsedMilliseconds: Int64) {
        var ended: Int64 = 0
        for entry in entries {
            let (count, transition) = entry.state.keep(at: now)
            ended += count
            if let transition { note(transition, of: entry.state) }
        }
        budget.withLock { $0.refill(requests: ended, elapsedMilliseconds: elapsedMilliseconds) }
        let depth = depth
        if depth > deepest.load(ordering: .relaxed) { deepest.store(depth, ordering: .relaxed) }
        guard waiting > 0 else { return }
        let late = line.withLock { line in
            let late = line.takeAll { $0.deadlineMilliseconds <= now }
            waitingCount.wrappingSubtract(late.count, ordering: .sequentiallyConsistent)
            return late
        }
        for waiter in late {
            metrics.turnedAway.increment()
            waiter.continuation?.resume(returning: .failure(.waitedTooLong))
        }
        while serveNext() {}
    }

    func note(_ transition: ReplicaState.Transition, of state: ReplicaState) {
        metrics.changed(transition)
        let level: Logger.Level = transition == .ejected || transition == .down ? .warning : .notice
        logger.log(
            level: level, "a replica changed",
            metadata: ["model": "\(name)", "replica": "\(state.address)", "to": "\(transition.rawValue)"])
    }

    func hedged() { metrics.hedges.increment() }

    /// For the page of metrics, now and then.
    func record() {
        metrics.waiting.record(waiting)
        roster.withLock { for entry in $0 { metrics.record(entry.state) } }
    }
}
