internal import Domain
internal import NIOCore

/// A worker that has begun to answer piece by piece. Its replica counts it as under way until ``Dispatch/end(_:_:)``.
struct OpenStream: Sendable {
    let turn: ReplicaTurn
    let handle: any WorkerStreamHandle
    /// The first bytes of its answer.
    let first: ByteBuffer
    fileprivate let model: ModelDelivery
}

extension Dispatch {
    /// Calls one of a model's replicas, and another one where that may help, until one of them begins to answer. Until then nothing has been
    /// sent to the caller and nothing is charged.
    ///
    /// - Throws: what the caller is told; `client_closed` where the caller has left meanwhile.
    func openStream(
        _ request: InferenceRequest, route: ResolvedRoute, call: InferenceCall, startedAt: UInt64,
        on eventLoop: any EventLoop, mailbox: StreamMailbox
    ) async throws(Refusal) -> OpenStream {
        guard let model = (route.candidates.first?.runtime as? ReplicaState)?.model else {
            throw Refusal(
                .noHealthyWorker,
                "No worker serves the model \(route.profile.name) at the moment. Try again in a few seconds.",
                retryAfterSeconds: 2)
        }
        let job = Job(
            request: request, call: call, route: route, model: model, startedAt: startedAt,
            totalMilliseconds: model.policy.streamTotalMilliseconds, eventLoop: eventLoop)
        let turn: ReplicaTurn
        do throws(ModelDelivery.Obstacle) {
            turn = try await model.turn(among: route.candidates)
        } catch {
            throw DeliveryRefusals.busy(error, model: model.name)
        }
        let first = await open(job, turn, mailbox)
        let opened = try await elsewhere(job, after: Attempts(last: first, tried: [turn.state])) {
            await open(job, $0, mailbox)
        }
        guard let stream = opened.stream else { throw opened.refusal }
        return stream
    }

    /// Gives the replica's place back.
    /// - Parameter isFault: the replica did not keep its word.
    func end(_ stream: OpenStream, isFault: Bool) {
        stream.model.end(stream.turn, isFault ? .replicasFault : .good)
    }

    /// What an attempt to open came to, where it speaks neither for nor against the replica whether another one is asked.
    private struct Opening: Sendable {
        var stream: OpenStream?
        var refusal = Refusal.clientLeft
    }

    private func open(_ job: Job, _ turn: ReplicaTurn, _ mailbox: StreamMailbox) async -> AttemptResult<Opening> {
        let leftMilliseconds =
            job.totalMilliseconds - Int64((time.monotonicNanoseconds &- job.startedAt) / 1_000_000)
        guard leftMilliseconds > 0,
            let handle = backend.openStream(
                workerCall(job, turn.replica, leftMilliseconds: leftMilliseconds),
                gapMilliseconds: job.model.policy.streamGapMilliseconds, on: job.eventLoop, receiver: mailbox)
        else {
            job.model.giveBack(turn)
            return .failed(FailedAttempt(failure: .silent, cause: "no time left"))
        }
        while true {
            switch await mailbox.next() {
            case .opened(let status, let contentType):
                guard let failed = Self.fault(status: status, contentType: contentType, of: turn.replica) else {
                    continue
                }
                handle.cancel()
                mailbox.forgetWorker()
                job.model.end(turn, failed.failure.isReplicasFault ? .replicasFault : .good)
                return .failed(failed)
            case .piece(let bytes):
                return .answered(
                    Opening(stream: OpenStream(turn: turn, handle: handle, first: bytes, model: job.model)))
            case .workerEnded(let failure):
                let failed = Self.failed(failure ?? .badAnswer(cause: "a stream that ended before it began"))
                job.model.end(turn, failed.failure.isReplicasFault ? .replicasFault : .neutral)
                return .failed(failed)
            case .clientLeft:
                handle.cancel()
                job.model.end(turn, .neutral)
                return .answered(Opening())
            case .stopping:
                handle.cancel()
                job.model.end(turn, .neutral)
                return .answered(Opening(refusal: .stopping))
            case .writable, .tick: continue
            }
        }
    }

    private static func fault(status: Int, contentType: String?, of replica: Replica) -> FailedAttempt? {
        guard (200..<300).contains(status) else { return failed(status, of: replica) }
        guard let contentType, contentType.lowercased().hasPrefix("text/event-stream") else {
            return FailedAttempt(failure: .nonsense, cause: "\(replica.address): no stream of events")
        }
        return nil
    }
}

extension Refusal {
    static let clientLeft = Refusal(
        .clientClosed, "The connection was closed before there was an answer. Nothing was charged.")

    static let stopping = Refusal(
        .overloaded, "This server is being stopped. Nothing was charged; send the request again.", retryAfterSeconds: 1)

    static let notStreamed = Refusal.invalid(
        "/stream", "cannot be true for an answer that is fetched later", fix: "Leave it out.")
}
