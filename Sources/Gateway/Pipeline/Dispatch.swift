internal import Domain
internal import NIOCore

/// Calls one of a model's replicas, another one where that may help, and says in the product's words what went wrong.
///
/// With one replica that is well, the whole of it is a place taken and given back.
struct Dispatch: Sendable {
    let backend: any InferenceBackend
    let time: any TimeSource

    /// - Parameter startedAt: monotonic nanoseconds; where the model's total deadline begins.
    /// - Throws: what the caller is told; none of it is billed.
    func call(
        _ request: InferenceRequest, route: ResolvedRoute, call: InferenceCall, startedAt: UInt64,
        on eventLoop: any EventLoop
    ) async throws(Refusal) -> WorkerReading {
        guard let model = (route.candidates.first?.runtime as? ReplicaState)?.model else {
            throw Refusal(
                .noHealthyWorker,
                "No worker serves the model \(route.profile.name) at the moment. Try again in a few seconds.",
                retryAfterSeconds: 2)
        }
        let job = Job(
            request: request, call: call, route: route, model: model, startedAt: startedAt,
            totalMilliseconds: model.policy.totalMilliseconds, eventLoop: eventLoop)
        let turn: ReplicaTurn
        do throws(ModelDelivery.Obstacle) {
            turn = try await model.turn(among: route.candidates)
        } catch {
            throw DeliveryRefusals.busy(error, model: model.name)
        }
        if model.policy.hedgeAfterMilliseconds != nil, route.candidates.count > 1 {
            return try await elsewhere(job, after: await hedge(job, turn)) { await attempt(job, $0, isFirst: false) }
        }
        switch await attempt(job, turn) {
        case .answered(let reading): return reading
        case .failed(let failed):
            return try await elsewhere(job, after: Attempts(last: .failed(failed), tried: [turn.state])) {
                await attempt(job, $0, isFirst: false)
            }
        }
    }

    /// Calls one of a mirror's replicas with the copy of a request, if one that is well has a place at once.
    ///
    /// A copy must not cost the requests beside it anything: it waits in no line, tries no replica that was left out, and is not repeated.
    /// - Parameter limitMilliseconds: holds where it is shorter than the model's total deadline.
    /// - Returns: `nil` where there was no place.
    func copy(
        _ request: InferenceRequest, route: ResolvedRoute, call: InferenceCall, limitMilliseconds: Int64,
        on eventLoop: any EventLoop
    ) async -> AttemptResult<WorkerReading>? {
        guard let model = (route.candidates.first?.runtime as? ReplicaState)?.model,
            let turn = model.turnForCopy(among: route.candidates)
        else { return nil }
        let job = Job(
            request: request, call: call, route: route, model: model, startedAt: time.monotonicNanoseconds,
            totalMilliseconds: min(model.policy.totalMilliseconds, limitMilliseconds), eventLoop: eventLoop)
        return await attempt(job, turn)
    }

    /// A request on its way to some replica.
    struct Job: Sendable {
        let request: InferenceRequest
        let call: InferenceCall
        let route: ResolvedRoute
        let model: ModelDelivery
        let startedAt: UInt64
        /// For all attempts together.
        let totalMilliseconds: Int64
        let eventLoop: any EventLoop
    }

    enum AttemptResult<Answer: Sendable>: Sendable {
        case answered(Answer)
        case failed(FailedAttempt)
    }

    struct FailedAttempt: Sendable {
        let failure: AttemptFailure
        /// Where the worker answered.
        var status: Int?
        /// Whether that says that the worker has looked at the input and will not have it.
        var isRefusedInput = false
        /// For the log.
        let cause: String

        /// Whether a worker, or something before it, took the request and did not say that it would not run it.
        var mayHaveRun: Bool {
            switch failure {
            case .notSent, .crowded, .cancelled: false
            case .busy: status != 429
            case .silent, .broken, .nonsense, .serverError, .callersFault: true
            }
        }
    }

    /// What was tried for a request so far.
    struct Attempts<Answer: Sendable>: Sendable {
        var last: AttemptResult<Answer>
        var tried: [ReplicaState]
        /// Of those that ended before the last.
        var earlier: [AttemptFailure] = []
        /// Whether one of those may have run the request.
        var mayHaveRun = false

        mutating func note(_ failed: FailedAttempt) {
            earlier.append(failed.failure)
            mayHaveRun = mayHaveRun || failed.mayHaveRun
        }
    }

    // MARK: one attempt

    /// Calls the replica whose turn it is and ends the turn.
    ///
    /// - Parameter race: where a second replica may be asked meanwhile.
    func attempt(
        _ job: Job, _ turn: ReplicaTurn, isFirst: Bool = true, race: HedgeRace? = nil
    ) async -> AttemptResult<WorkerReading> {
        var leftMilliseconds = job.totalMilliseconds
        var began = job.startedAt
        // The first turn begins with the stage, unless it had to be waited for.
        if !isFirst || turn.hasWaited {
            began = time.monotonicNanoseconds
            leftMilliseconds -= Int64((began &- job.startedAt) / 1_000_000)
        }
        guard leftMilliseconds > 0 else {
            job.model.giveBack(turn)
            return .failed(FailedAttempt(failure: .silent, cause: "no time left"))
        }
        do throws(BackendFailure) {
            let answer = try await backend.send(
                workerCall(job, turn.replica, leftMilliseconds: leftMilliseconds), on: job.eventLoop)
            let result = read(answer, from: turn.replica, to: job.request)
            switch result {
            case .answered:
                // What one replica takes compares with nothing.
                if job.route.candidates.count > 1 {
                    turn.state.measured(microseconds: Int64((time.monotonicNanoseconds &- began) / 1_000))
                }
                job.model.end(turn, .good)
            case .failed(let failed):
                // A worker that refuses an input is well.
                job.model.end(turn, failed.failure.isReplicasFault ? .replicasFault : .good)
            }
            return result
        } catch {
            let failed = Self.failed(error)
            let isFault =
                failed.failure.isReplicasFault
                && !wasCutShort(failed.failure, job, began: began, leftMilliseconds: leftMilliseconds)
            let isOvertaken = failed.failure == .cancelled && race?.isOvertaken ?? false
            job.model.end(turn, isFault ? .replicasFault : isOvertaken ? .overtaken : .neutral)
            return .failed(failed)
        }
    }

    /// Whether a replica was silent only until a time shorter than the model allows was over: a copy's, or what earlier attempts left.
    private func wasCutShort(_ failure: AttemptFailure, _ job: Job, began: UInt64, leftMilliseconds: Int64) -> Bool {
        guard failure == .silent, leftMilliseconds < job.model.policy.totalMilliseconds else { return false }
        // Else another deadline of the model's was over first, which speaks against the replica as ever.
        return Int64((time.monotonicNanoseconds &- began) / 1_000_000) >= leftMilliseconds
    }

    func workerCall(_ job: Job, _ replica: Replica, leftMilliseconds: Int64) -> WorkerCall {
        let policy = job.model.policy
        return WorkerCall(
            address: replica.address,
            path: WorkerDialect.path(
                replica.workerProtocol, of: job.request.surface, model: job.route.model,
                version: job.route.version(for: replica) ?? ""),
            body: WorkerDialect.body(
                job.request, requestID: job.call.requestID, for: replica.workerProtocol, model: job.route.model,
                version: Self.saidVersion(to: replica, by: job.request, on: job.route), profile: job.route.profile),
            requestID: job.call.requestID.publicText, traceParent: job.call.trace?.parent,
            traceState: job.call.trace?.state, connectMilliseconds: policy.connectMilliseconds,
            firstByteMilliseconds: policy.firstByteMilliseconds, totalMilliseconds: leftMilliseconds,
            isSafeToRepeat: policy.isSafeToRepeat)
    }

    /// The version in the body. A request that names none goes on as it is where the model has one version alone.
    private static func saidVersion(
        to replica: Replica, by request: InferenceRequest, on route: ResolvedRoute
    ) -> String? {
        route.namesVersion || request.version != nil ? route.version(for: replica) : nil
    }

    private func read(
        _ answer: WorkerAnswer, from replica: Replica, to request: InferenceRequest
    ) -> AttemptResult<WorkerReading> {
        guard (200..<300).contains(answer.status) else { return .failed(Self.failed(answer.status, of: replica)) }
        guard
            let reading = BinaryAnswer.isOne(answer, to: request)
                ? BinaryAnswer.read(answer) : WorkerDialect.read(answer.body, from: replica.workerProtocol, to: request)
        else {
            return .failed(
                FailedAttempt(
                    failure: .nonsense,
                    cause: "\(replica.address): body is no answer of the protocol \(replica.workerProtocol.rawValue)"))
        }
        return .answered(reading)
    }

    /// Servers of the Open Inference Protocol say 400 of a model that they do not have as well, which is not the caller's fault.
    static func failed(_ status: Int, of replica: Replica) -> FailedAttempt {
        FailedAttempt(
            failure: AttemptFailure(status: status), status: status,
            isRefusedInput: [413, 422].contains(status) || status == 400 && replica.workerProtocol != .oip,
            cause: "status \(status) of \(replica.address)")
    }

    static func failed(_ failure: BackendFailure) -> FailedAttempt {
        switch failure {
        case .unreachable(let cause): FailedAttempt(failure: .notSent, cause: cause)
        case .timeout(let cause): FailedAttempt(failure: .silent, cause: cause)
        case .badAnswer(let cause): FailedAttempt(failure: .broken, cause: cause)
        case .unusableAnswer(let cause): FailedAttempt(failure: .nonsense, cause: cause)
        case .overloaded: FailedAttempt(failure: .crowded, cause: "too many connections")
        case .cancelled: FailedAttempt(failure: .cancelled, cause: "given up")
        }
    }

    // MARK: further attempts

    /// The answer, if it is there; else asks other replicas, as far as the rule, the budget and the time allow.
    func elsewhere<Answer>(
        _ job: Job, after attempts: Attempts<Answer>, attempt: (ReplicaTurn) async -> AttemptResult<Answer>
    ) async throws(Refusal) -> Answer {
        let policy = job.model.policy
        let rule = RetryRule(attempts: policy.attempts, isSafeToRepeat: policy.isSafeToRepeat)
        var attempts = attempts
        while true {
            let failed: FailedAttempt
            switch attempts.last {
            case .answered(let answer): return answer
            case .failed(let last): failed = last
            }
            attempts.note(failed)
            var refusal = DeliveryRefusals.refusal(of: failed, model: job.model.name, policy: policy)
            refusal.mayHaveRun = attempts.mayHaveRun
            let elapsed = Int64((time.monotonicNanoseconds &- job.startedAt) / 1_000_000)
            guard rule.allowsAnother(after: attempts.earlier),
                elapsed < job.totalMilliseconds,
                let turn = job.model.choose(among: job.route.candidates, excluding: attempts.tried, mayForce: false)
            else { throw refusal }
            guard job.model.withdrawRetry() else {
                job.model.giveBack(turn)
                throw refusal
            }
            attempts.tried.append(turn.state)
            attempts.last = await attempt(turn)
        }
    }
}
