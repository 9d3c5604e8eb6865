internal import NIOCore

#if DEBUG
    /// Checked where tests run, so that a call that is never or twice answered is reported there.
    typealias ExchangeContinuation = CheckedContinuation<Result<WorkerReply, WorkerFailure>, Never>

    func withExchangeContinuation(_ body: (ExchangeContinuation) -> Void) async -> Result<WorkerReply, WorkerFailure> {
        await withCheckedContinuation(body)
    }
#else
    /// Saves an allocation for every call.
    typealias ExchangeContinuation = UnsafeContinuation<Result<WorkerReply, WorkerFailure>, Never>

    func withExchangeContinuation(_ body: (ExchangeContinuation) -> Void) async -> Result<WorkerReply, WorkerFailure> {
        await withUnsafeContinuation(body)
    }
#endif

/// One call from its start to its answer. Confined to the loop of its pool.
final class Exchange {
    enum Phase {
        /// In the queue in front of a replica whose connections are all in use.
        case waiting
        case connecting
        case awaitingFirstByte
        case receiving
        case finished
    }

    let token: UInt64
    let request: WorkerRequest
    let head: RequestHead
    let replica: ReplicaPool
    private let deadlines: WorkerDeadlines
    private let totalDeadline: NIODeadline
    private(set) var phase = Phase.waiting
    private var phaseDeadline: NIODeadline
    private var continuation: ExchangeContinuation?
    /// Where the answer goes if it is taken piece by piece; then there is no continuation.
    let stream: StreamControl?
    /// The connection that is being opened for it or that carries it.
    var connection: WorkerConnection?
    /// A stale keep-alive connection has cost it one attempt; there is no third.
    var hasRetried = false
    /// Its place in the pool's list of calls in flight.
    var position = 0

    init(
        token: UInt64, request: WorkerRequest, head: RequestHead, replica: ReplicaPool, deadlines: WorkerDeadlines,
        now: NIODeadline, continuation: ExchangeContinuation? = nil, stream: StreamControl? = nil
    ) {
        self.token = token
        self.request = request
        self.head = head
        self.replica = replica
        self.deadlines = deadlines
        self.continuation = continuation
        self.stream = stream
        totalDeadline = now + WorkerDeadlines.amount(milliseconds: deadlines.totalMilliseconds)
        phaseDeadline = now + WorkerDeadlines.amount(milliseconds: deadlines.connectMilliseconds)
    }

    /// When the pool has to look at it next.
    var deadline: NIODeadline { min(phaseDeadline, totalDeadline) }

    /// What it means that ``deadline`` has passed.
    var expiry: WorkerFailure {
        guard phaseDeadline <= totalDeadline else { return .totalTimeout }
        switch phase {
        case .waiting: return .overloaded
        case .connecting: return .connectTimeout
        case .awaitingFirstByte: return .firstByteTimeout
        case .receiving, .finished: return stream == nil ? .totalTimeout : .gapTimeout
        }
    }

    func enterConnecting(now: NIODeadline) {
        phase = .connecting
        phaseDeadline = now + WorkerDeadlines.amount(milliseconds: deadlines.connectMilliseconds)
    }

    func enterAwaitingFirstByte(now: NIODeadline) {
        phase = .awaitingFirstByte
        phaseDeadline = now + WorkerDeadlines.amount(milliseconds: deadlines.firstByteMilliseconds)
    }

    func enterReceiving() {
        phase = .receiving
        phaseDeadline = totalDeadline
    }

    /// A piece of a stream has come, or will be waited for from now on.
    func pieceArrived(now: NIODeadline, isReading: Bool) {
        guard let stream, phase == .receiving else { return }
        phaseDeadline = isReading ? now + stream.gap : totalDeadline
    }

    func finish(_ result: Result<WorkerReply, WorkerFailure>) {
        phase = .finished
        if let stream {
            connection = nil
            switch result {
            case .success: stream.end(nil)
            case .failure(let failure): stream.end(failure)
            }
            return
        }
        connection = nil
        continuation?.resume(returning: result)
        continuation = nil
    }
}
