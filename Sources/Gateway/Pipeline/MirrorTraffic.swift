internal import Domain
internal import Metrics
internal import NIOCore
internal import Synchronization

/// Sends copies of answered requests to where a model's mirror says, and counts what became of them. Nobody waits for a copy; it is not
/// stored, not metered and not billed.
///
/// So many copies are under way at most. One that finds no place, here or at a replica that is well, is dropped and counted: a slow mirror
/// costs copies, never requests.
public final class MirrorTraffic: Sendable {
    /// A request that was answered, and the answer to compare with.
    struct Copy: Sendable {
        let request: InferenceRequest
        let target: ResolvedRoute
        let call: InferenceCall
        let prediction: ByteBuffer
        let loop: LoopContext
        let dispatch: Dispatch
    }

    private let limit: Int
    private let totalMilliseconds: Int64
    private let copies: AsyncStream<Copy>
    private let continuation: AsyncStream<Copy>.Continuation
    private let underWay = Atomic<Int>(0)
    private let metrics = MirrorMetrics()

    /// - Parameters:
    ///   - limit: copies under way at most.
    ///   - totalMilliseconds: how long a copy may take, where requests may take longer.
    public init(limit: Int = 64, totalMilliseconds: Int64 = 5_000) {
        self.limit = limit
        self.totalMilliseconds = totalMilliseconds
        // What waits here counts as under way, so it is never full.
        (copies, continuation) = AsyncStream.makeStream(of: Copy.self, bufferingPolicy: .bufferingOldest(limit))
    }

    /// Takes a copy on. Called on the request's event loop, after its answer is settled.
    func offer(
        _ request: InferenceRequest, to target: ResolvedRoute, of call: InferenceCall, answer: ByteBuffer,
        at now: Timestamp, by dispatch: Dispatch, on loop: LoopContext
    ) {
        guard underWay.wrappingAdd(1, ordering: .relaxed).newValue <= limit else {
            underWay.wrappingSubtract(1, ordering: .relaxed)
            return metrics.dropped.increment()
        }
        // A name of its own: to a worker this is another request.
        let own = InferenceCall(
            requestID: loop.makeRequestID(at: now), receivedAt: now, receivedNanoseconds: call.receivedNanoseconds,
            credentials: .none, body: call.body, trace: call.trace, target: call.target)
        let copy = Copy(
            request: request, target: target, call: own, prediction: answer, loop: loop, dispatch: dispatch)
        if case .enqueued = continuation.yield(copy) { return }
        underWay.wrappingSubtract(1, ordering: .relaxed)
        metrics.dropped.increment()
    }

    /// Whether no copy is under way or waits.
    var isIdle: Bool { underWay.load(ordering: .relaxed) == 0 }

    /// Sends the copies until it is cancelled.
    public func run() async {
        await withDiscardingTaskGroup { group in
            for await copy in copies {
                group.addTask(executorPreference: copy.loop.executor) { await self.send(copy) }
            }
            group.cancelAll()
        }
    }

    private func send(_ copy: Copy) async {
        defer { underWay.wrappingSubtract(1, ordering: .relaxed) }
        guard (try? copy.request.check(against: copy.target.profile, stickyField: copy.target.stickyField)) != nil,
            copy.target.candidates.allSatisfy({ copy.request.isSpoken(by: $0.workerProtocol) })
        else {
            metrics.sent.increment()
            return metrics.failed.increment()
        }
        let result = await copy.dispatch.copy(
            copy.request, route: copy.target, call: copy.call, limitMilliseconds: totalMilliseconds,
            on: copy.loop.eventLoop)
        guard let result else { return metrics.dropped.increment() }
        metrics.sent.increment()
        switch result {
        // Byte for byte: two workers that write the same number otherwise differ.
        case .answered(let reading):
            (reading.prediction == copy.prediction ? metrics.agreed : metrics.differed).increment()
        case .failed: metrics.failed.increment()
        }
    }
}

/// What became of copies. `sent` counts each that was tried; it is `failed`, `agreed` or `differed` in the end.
private struct MirrorMetrics: Sendable {
    let sent = counter("sent")
    let dropped = counter("dropped")
    let failed = counter("failed")
    let agreed = counter("agreed")
    let differed = counter("differed")

    private static func counter(_ outcome: String) -> Counter {
        Counter(label: "weir_mirrored_requests_total", dimensions: [("outcome", outcome)])
    }
}
