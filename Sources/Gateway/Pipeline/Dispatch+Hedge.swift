internal import Domain

extension Dispatch {
    private enum Arrival: Sendable {
        case delayOver
        case ended(AttemptResult)
    }

    /// Calls the replica whose turn it is and, if it has not answered after the model's delay, a second one beside it. The first answer that
    /// can be given is taken and the other call is given up: there is one answer, and one charge.
    func hedge(_ job: Job, _ turn: ReplicaTurn) async -> Attempts {
        let delay = UInt64(max(0, job.model.policy.hedgeAfterMilliseconds ?? 0)) * 1_000_000
        return await withTaskGroup(of: Arrival.self) { group in
            group.addTask { .ended(await attempt(job, turn)) }
            group.addTask {
                try? await Task.sleep(nanoseconds: delay)
                return .delayOver
            }
            var attempts = Attempts(
                last: .failed(FailedAttempt(failure: .cancelled, cause: "given up")), tried: [turn.state])
            var underWay = 1
            while let arrival = await group.next() {
                switch arrival {
                case .delayOver:
                    guard underWay > 0, !Task.isCancelled, let second = secondTurn(job, beside: turn) else { continue }
                    attempts.tried.append(second.state)
                    underWay += 1
                    group.addTask { .ended(await attempt(job, second, isFirst: false)) }
                case .ended(let result):
                    underWay -= 1
                    if underWay > 0, case .failed(let failed) = result, failed.failure.isReplicasFault {
                        // The other one may still answer.
                        attempts.earlier.append(failed.failure)
                        continue
                    }
                    attempts.last = result
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
