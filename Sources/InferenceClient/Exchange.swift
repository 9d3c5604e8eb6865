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
    /// The connection that is being opened for it or that carries it.
    var connection: WorkerConnection?
    /// A stale keep-alive connection has cost it one attempt; there is no third.
    var hasRetried = false
    /// Its place in the pool's list of calls in flight.
    var position = 0

    init(
        token: UInt64, request: WorkerRequest, head: RequestHead, replica: ReplicaPool, deadlines: WorkerDeadlines,
        now: NIODeadline, continuation: ExchangeContinuation
    ) {
        self.token = token
        self.request = request
        self.head = head
        self.replica = replica
        self.deadlines = deadlines
        self.continuation = continuation
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
        case .receiving, .finished: return .totalTimeout
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

    func finish(_ result: Result<WorkerReply, WorkerFailure>) {
        phase = .finished
        connection = nil
        continuation?.resume(returning: result)
        continuation = nil
    }
}
