internal import Domain
internal import NIOCore

/// Chooses a replica and calls it, and says in the product's words what went wrong.
struct Dispatch: Sendable {
    let backend: any InferenceBackend
    let connectMilliseconds: Int64
    let totalMilliseconds: Int64

    /// - Throws: `no_healthy_worker`, `upstream_timeout` or `bad_upstream`; none of them is billed.
    func call(
        _ request: PredictRequest, route: ResolvedRoute, call: InferenceCall, on eventLoop: any EventLoop
    ) async throws(Refusal) -> WorkerReading {
        let candidates = Self.drawn(route.candidates)
        guard !candidates.isEmpty else {
            throw Refusal(
                .noHealthyWorker,
                "No worker serves the model \(route.profile.name) at the moment. Try again in a few seconds.",
                retryAfterSeconds: 2)
        }
        var unreachable = ""
        for replica in candidates.prefix(2) {
            let body = WorkerDialect.body(
                request, requestID: call.requestID, for: replica.workerProtocol, model: route.model,
                version: Self.saidVersion(to: replica, by: request, on: route))
            let workerCall = WorkerCall(
                address: replica.address,
                path: WorkerDialect.path(
                    replica.workerProtocol, model: route.model, version: route.version(for: replica) ?? ""),
                body: body, requestID: call.requestID.publicText, traceParent: call.trace?.parent,
                traceState: call.trace?.state,
                connectMilliseconds: connectMilliseconds, totalMilliseconds: totalMilliseconds)
            do throws(BackendFailure) {
                return try read(
                    try await backend.send(workerCall, on: eventLoop), from: replica, isBatch: request.isBatch)
            } catch {
                switch error {
                case .unreachable(let cause): unreachable = cause
                case .timeout(let cause):
                    throw Refusal(
                        .upstreamTimeout,
                        "The model's worker did not answer within \(totalMilliseconds) milliseconds. Nothing was charged.",
                        cause: cause)
                case .badAnswer(let cause):
                    throw Refusal(
                        .badUpstream, "The model's worker gave an answer that cannot be used. Nothing was charged.",
                        cause: cause)
                case .overloaded:
                    throw Refusal(
                        .noHealthyWorker, "The model's workers are all busy. Try again in a second.",
                        retryAfterSeconds: 1)
                }
            }
        }
        throw Refusal(
            .noHealthyWorker,
            "No worker of the model \(route.profile.name) can be reached. Try again in a few seconds.",
            retryAfterSeconds: 2, cause: unreachable)
    }

    /// The same with a shorter deadline, where it is shorter.
    func within(_ milliseconds: Int64) -> Dispatch {
        Dispatch(
            backend: backend, connectMilliseconds: min(connectMilliseconds, milliseconds),
            totalMilliseconds: min(totalMilliseconds, milliseconds))
    }

    private func read(_ answer: WorkerAnswer, from replica: Replica, isBatch: Bool) throws(BackendFailure)
        -> WorkerReading
    {
        guard (200..<300).contains(answer.status) else { throw .badAnswer(cause: "status \(answer.status)") }
        guard let reading = WorkerDialect.read(answer.body, from: replica.workerProtocol, isBatch: isBatch) else {
            throw .badAnswer(cause: "body is no answer of the protocol \(replica.workerProtocol.rawValue)")
        }
        return reading
    }

    /// The version in the body. A request that names none goes on as it is where the model has one version alone.
    private static func saidVersion(
        to replica: Replica, by request: PredictRequest, on route: ResolvedRoute
    ) -> String? {
        route.namesVersion || request.version != nil ? route.version(for: replica) : nil
    }

    /// The first replica drawn by weight, the rest as they come.
    private static func drawn(_ replicas: [Replica]) -> [Replica] {
        var candidates = replicas
        guard candidates.count > 1 else { return candidates }
        // A table without any weight must not be able to end the process.
        var draw = Int.random(in: 0..<candidates.reduce(0) { $0 + max(1, $1.weight) })
        for (index, replica) in candidates.enumerated() {
            draw -= max(1, replica.weight)
            if draw < 0 {
                candidates.swapAt(0, index)
                break
            }
        }
        return candidates
    }
}
