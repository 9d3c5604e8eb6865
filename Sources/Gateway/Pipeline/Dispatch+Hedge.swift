internal import Domain
internal import Synchronization

/// Tells a first call why it is given up.
final class HedgeRace: Sendable {
    private let overtaken = Atomic(false)

    var isOvertaken: Bool { overtaken.load(ordering: .acquiring) }
    func overtake() { overtaken.store(true, ordering: .releasing) }
}

extension Dispatch {
    private enum Arrival: Sendable {
        case delayOver
        case ended(AttemptResult<WorkerReading>, isSecond: Bool)
    }

    /// Calls the replica whose turn it is and, if it has not answered after the model's delay, a second one beside it. The first answer that
    /// can be given is taken and the other call is given up: there is one answer, and one charge.
    func hedge(_ job: Job, _ turn: ReplicaTurn) async -> Attempts<WorkerReading> {
        let delay = UInt64(max(0, job.model.policy.hedgeAfterMilliseconds ?? 0)) * 1_000_000
        let race = HedgeRace()
        return await withTaskGroup(of: Arrival.self) { group in
            group.addTask { .ended(await attempt(job, turn, race: race), isSecond: false) }
            group.addTask {
                try? await Task.sleep(nanoseconds: delay)
                return .delayOver
            }
            var attempts = Attempts<WorkerReading>(
                last: .failed(FailedAttempt(failure: .cancelled, cause: "given up")), tried: [turn.state])
            var underWay = 1
            while let arrival = await group.next() {
                switch arrival {
                case .delayOver:
                    guard underWay > 0, !Task.isCancelled, let second = secondTurn(job, beside: turn) else { continue }
                    attempts.tried.append(second.state)
                    underWay += 1
                    group.addTask { .ended(await attempt(job, second, isFirst: false), isSecond: true) }
                case .ended(let result, let isSecond):
                    underWay -= 1
                    if underWay > 0, case .failed(let failed) = result, failed.failure.isReplicasFault {
                        // The other one may still answer.
                        attempts.note(failed)
                        continue
                    }
                    attempts.last = result
                    if isSecond, result.isTheWorkersWord { race.overtake() }
                    group.cancelAll()
                    return attempts
                }
            }
            return attempts
        }
    }

    private func secondTurn(_ job: Job, beside turn: ReplicaTurn) -> ReplicaTurn? {
        guard job.model.policy.isSafeToRepeat,
            let second = job.model.choose(among: job.route.candidates, excluding: [turn.state], mayForce: false)
        else { return nil }
        guard job.model.withdrawRetry() else {
            job.model.giveBack(second)
            return nil
        }
        job.model.hedged()
        return second
    }
}

extension Dispatch.AttemptResult<WorkerReading> {
    /// Whether a worker that is well has answered, be it against the request.
    fileprivate var isTheWorkersWord: Bool {
        switch self {
        case .answered: true
        case .failed(let failed): failed.failure == .callersFault
        }
    }
}
