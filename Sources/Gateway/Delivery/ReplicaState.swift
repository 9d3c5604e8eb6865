internal import Domain
internal import Synchronization

/// What this process knows of one replica of one model: calls under way, health, speed, share. Shared by all event loops.
///
/// A call that goes well at a replica that is well changes one word, twice. Everything else is behind a lock and happens only after a
/// failure or with the upkeep.
final class ReplicaState: ReplicaRuntime {
    /// How it may be used, in the order of preference where all are bad.
    enum Condition: UInt8, AtomicRepresentable {
        case clear
        /// Well, but its last call failed or was overtaken.
        case suspect
        /// May be tried with one call.
        case trial
        /// That one call is under way.
        case trialUnderWay
        case ejected
        /// Does not answer probes.
        case down

        var isAvailable: Bool { self == .clear || self == .suspect }
    }

    /// What became of a call, as far as it concerns the replica.
    enum Verdict {
        case good
        /// - Parameter mayEject: whether others are left to bear the load.
        case failed(mayEject: Bool)
        /// A second replica had answered before this one said anything. Some in a row, and a trial at once, are failures: a replica that
        /// hangs would otherwise never be found where nobody waits for it.
        case overtaken(mayEject: Bool)
        /// Says nothing: the caller gave up, or nothing was asked of the replica.
        case neutral
    }

    /// What changed, for the log.
    enum Transition: String {
        case ejected, trial, restored, down, up
    }

    private struct Health {
        var breaker: CircuitBreaker
        var probe = ProbeTally()
        var isTrialTaken = false
        /// Calls that had ended when the upkeep last looked.
        var seenEnded: UInt64 = 0
        /// Those of them that were no successes.
        var othersSinceUpkeep: Int64 = 0
        /// In a row.
        var overtakings = 0
        var admittedMilliseconds: Int64
        var measuredMilliseconds: Int64
        var nextProbeMilliseconds: Int64
        var isProbing = false
    }

    /// So many calls in a row that a hedge overtook count as a failure, and each one after them.
    static let overtakingsToFail = 3
    private static let outstandingBits: UInt64 = 24
    private static let outstandingMask: UInt64 = 1 << outstandingBits - 1

    let model: ModelDelivery
    let address: WorkerAddress
    /// Calls under way in the lower bits, calls that have ended above them: one word, so that the end of a call is one instruction.
    private let calls = Atomic<UInt64>(0)
    private let published = Atomic<Condition>(.clear)
    private let latency = Atomic<Int64>(0)
    private let share = Atomic<Int64>(SlowStart.whole)
    private let health: Mutex<Health>

    /// - Parameters:
    ///   - startsSlowly: false where there was nobody before it who could have borne the load.
    ///   - now: milliseconds of the monotonic clock.
    init(at address: WorkerAddress, model: ModelDelivery, startsSlowly: Bool, at now: Int64, firstProbeAt: Int64) {
        self.model = model
        self.address = address
        let slowStart = model.policy.slowStartMilliseconds
        health = Mutex(
            Health(
                breaker: CircuitBreaker(model.policy.breaker),
                admittedMilliseconds: startsSlowly ? now : now - slowStart, measuredMilliseconds: now,
                nextProbeMilliseconds: firstProbeAt))
        if startsSlowly { share.store(SlowStart.share(elapsedMilliseconds: 0, of: slowStart), ordering: .relaxed) }
    }

    // MARK: what requests read

    var condition: Condition { published.load(ordering: .relaxed) }
    var outstanding: Int64 { Int64(calls.load(ordering: .relaxed) & Self.outstandingMask) }
    var latencyMicroseconds: Int64 { latency.load(ordering: .relaxed) }
    /// In thousandths. The weight is the row's of the table: a process that serves several versions may have one for each.
    func weight(of replica: Replica) -> Int64 { Int64(max(1, replica.weight)) * share.load(ordering: .relaxed) }

    func load(of replica: Replica) -> ReplicaLoad {
        ReplicaLoad(
            weight: weight(of: replica), outstanding: outstanding, latencyMicroseconds: latencyMicroseconds)
    }

    // MARK: calls

    /// Takes a place for one call.
    /// - Returns: whether there was one.
    func take() -> Bool {
        let before = calls.wrappingAdd(1, ordering: .sequentiallyConsistent).oldValue & Self.outstandingMask
        if before < UInt64(model.policy.replicaConcurrency) { return true }
        calls.wrappingSubtract(1, ordering: .sequentiallyConsistent)
        return false
    }

    /// Takes the one call that shows whether the replica is well again.
    func takeTrial() -> Bool {
        health.withLock { health in
            guard health.breaker.phase == .halfOpen, !health.probe.isDown, !health.isTrialTaken, take() else {
                return false
            }
            health.isTrialTaken = true
            publish(health)
            return true
        }
    }

    /// Gives the place of a call back that was never made.
    func giveBack(isTrial: Bool) {
        calls.wrappingSubtract(1, ordering: .sequentiallyConsistent)
        if isTrial { endTrial() }
    }

    /// Gives the place of a call back.
    ///
    /// - Parameters:
    ///   - isTrial: as it was taken.
    ///   - now: asked for only where something may change.
    /// - Returns: what changed, if anything.
    func end(_ verdict: Verdict, isTrial: Bool, at now: @autoclosure () -> Int64) -> Transition? {
        calls.wrappingAdd(1 << Self.outstandingBits &- 1, ordering: .sequentiallyConsistent)
        switch verdict {
        case .good:
            if condition == .clear { return nil }
            return handle(.success, isTrial: isTrial, at: now())
        case .failed(let mayEject):
            return handle(.failure(mayOpen: mayEject), isTrial: isTrial, at: now())
        case .overtaken(let mayEject):
            let isFailure = health.withLock { health in
                health.overtakings += 1
                return isTrial || health.overtakings >= Self.overtakingsToFail
            }
            guard isFailure else {
                endWithoutVerdict(isTrial: false)
                return nil
            }
            return handle(.failure(mayOpen: mayEject), isTrial: isTrial, at: now())
        case .neutral:
            endWithoutVerdict(isTrial: isTrial)
            return nil
        }
    }

    func measured(microseconds: Int64) {
        // Two loops at once may lose one of two samples, which a mean can bear.
        latency.store(LatencyAverage.adding(microseconds, to: latency.load(ordering: .relaxed)), ordering: .relaxed)
    }

    private func endWithoutVerdict(isTrial: Bool) {
        health.withLock { health in
            health.othersSinceUpkeep += 1
            if isTrial { health.isTrialTaken = false }
            publish(health)
        }
    }

    private func endTrial() {
        health.withLock { health in
            health.isTrialTaken = false
            publish(health)
        }
    }

    private func handle(_ event: CircuitBreaker.Event, isTrial: Bool, at now: Int64) -> Transition? {
        health.withLock { health in
            if case .failure = event { health.othersSinceUpkeep += 1 } else { health.overtakings = 0 }
            if isTrial { health.isTrialTaken = false }
            defer { publish(health) }
            // Calls from before the ejection must not decide about the trial.
            if health.breaker.phase == .halfOpen, !isTrial { return nil }
            return Self.transition(health.breaker.handle(event, at: now), &health, at: now)
        }
    }

    private static func transition(_ action: CircuitBreaker.Action, _ health: inout Health, at now: Int64)
        -> Transition?
    {
        switch action {
        case .none: return nil
        case .opened: return .ejected
        case .halfOpened: return .trial
        case .closed:
            health.admittedMilliseconds = now
            return .restored
        }
    }

    // MARK: upkeep

    /// Moves what time moves: the breaker, the share and the mean of answer times.
    /// - Returns: calls that ended since the last time, and what changed.
    func keep(at now: Int64) -> (ended: Int64, transition: Transition?) {
        let ended = calls.load(ordering: .relaxed) >> Self.outstandingBits
        return health.withLock { health in
            let wrapping = UInt64(1) << (64 - Self.outstandingBits)
            let new = Int64((ended &+ wrapping &- health.seenEnded) % wrapping)
            health.seenEnded = ended
            let successes = max(0, new - health.othersSinceUpkeep)
            health.othersSinceUpkeep = 0
            let action = health.breaker.handle(.tick(successes: successes), at: now)
            let transition = Self.transition(action, &health, at: now)
            share.store(
                SlowStart.share(
                    elapsedMilliseconds: now - health.admittedMilliseconds, of: model.policy.slowStartMilliseconds),
                ordering: .relaxed)
            if new > 0 {
                health.measuredMilliseconds = now
            } else if now - health.measuredMilliseconds >= 1_000 {
                health.measuredMilliseconds = now
                latency.store(LatencyAverage.faded(latency.load(ordering: .relaxed)), ordering: .relaxed)
            }
            publish(health)
            return (new, transition)
        }
    }

    // MARK: probes

    func isProbeDue(at now: Int64) -> Bool {
        health.withLock { !$0.isProbing && now >= $0.nextProbeMilliseconds }
    }

    /// - Parameter next: when the probe after this one is due.
    /// - Returns: false where one is under way.
    func beginProbe(next: Int64) -> Bool {
        health.withLock { health in
            guard !health.isProbing else { return false }
            health.isProbing = true
            health.nextProbeMilliseconds = next
            return true
        }
    }

    func endProbe(_ event: ProbeTally.Event, at now: Int64) -> Transition? {
        health.withLock { health in
            health.isProbing = false
            let action = health.probe.handle(event)
            defer { publish(health) }
            switch action {
            case .none: return nil
            case .wentDown: return .down
            case .cameUp:
                health.admittedMilliseconds = now
                return .up
            }
        }
    }

    // MARK: -

    /// Always under the lock, so that what is published is what was decided last.
    private func publish(_ health: borrowing Health) {
        let condition: Condition =
            if health.probe.isDown {
                .down
            } else {
                switch health.breaker.phase {
                // Only one that is not clear learns of the success that ends a row.
                case .closed: health.breaker.consecutiveFailures > 0 || health.overtakings > 0 ? .suspect : .clear
                case .open: .ejected
                case .halfOpen: health.isTrialTaken ? .trialUnderWay : .trial
                }
            }
        published.store(condition, ordering: .relaxed)
    }

    /// - Parameter instant: the wall clock's time of a monotonic one.
    func reading(of replica: Replica, instant: (Int64) -> Timestamp) -> ReplicaReading {
        let breaker = health.withLock { $0.breaker }
        var until: Int64?
        if case .open(let end) = breaker.phase { until = end }
        let condition: ReplicaReading.Condition =
            switch self.condition {
            case .clear, .suspect: .healthy
            case .trial, .trialUnderWay: .trial
            case .ejected: .ejected
            case .down: .down
            }
        return ReplicaReading(
            model: model.name, replica: replica, condition: condition, outstanding: outstanding,
            latencyMicroseconds: latencyMicroseconds, sharePercent: share.load(ordering: .relaxed) / 10,
            consecutiveFailures: breaker.consecutiveFailures, ejectedUntil: until.map(instant))
    }
}

/// A place at a replica, held for one call. Ended or given back, once.
struct ReplicaTurn: Sendable {
    let replica: Replica
    let state: ReplicaState
    /// Whether the call decides if the replica is used again.
    let isTrial: Bool
    /// Whether somebody else had to end first.
    var hasWaited = false
}
