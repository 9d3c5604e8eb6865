internal import Domain
internal import Logging
internal import NIOCore

/// Everything of the client that belongs to one event loop: the replicas' pools, the calls in flight and their
/// deadlines.
///
/// Deadlines cost nothing per call. There is one timer, set to the earliest deadline that was known when it was set;
/// nearly every call is answered long before, and when the timer fires it looks at the calls that are in flight then.
/// It fires at most every 10 ms.
final class LoopPool {
    /// How late a deadline may be seen.
    private static let tick = TimeAmount.milliseconds(10)
    /// More replicas than this on one loop, and those without connections are forgotten.
    private static let replicaLimit = 128

    let eventLoop: any EventLoop
    let configuration: WorkerClient.Configuration
    let directory: WorkerDirectory
    let logger: Logger
    private let gauges: LoopGauges
    /// Where requests are composed, one after the other; free again as soon as the bytes are with the kernel.
    var scratch = ByteBuffer()
    private var replicas: [WorkerAddress: ReplicaPool] = [:]
    private var lastReplica: ReplicaPool?
    private var inFlight: [Exchange] = []
    /// What was written and not flushed yet.
    private var flushes: [ChannelHandlerContext] = []
    private static let flushLimit = 16
    private var timer: Scheduled<Void>?
    private var timerDeadline = NIODeadline.distantFuture
    private var lastSweep = NIODeadline.uptimeNanoseconds(0)
    private var channelCount = 0
    private var shutdownPromise: EventLoopPromise<Void>?

    init(
        eventLoop: any EventLoop, configuration: WorkerClient.Configuration, directory: WorkerDirectory,
        gauges: LoopGauges,
        logger: Logger
    ) {
        self.eventLoop = eventLoop
        self.configuration = configuration
        self.directory = directory
        self.gauges = gauges
        self.logger = logger
    }

    // MARK: - Calls

    func start(
        _ request: WorkerRequest, to address: WorkerAddress, deadlines: WorkerDeadlines, token: UInt64,
        continuation: ExchangeContinuation
    ) {
        guard shutdownPromise == nil else { return continuation.resume(returning: .failure(.shutdown)) }
        let now = NIODeadline.now()
        let replica = replica(at: address)
        guard let head = replica.head(for: request), head.accepts(request) else {
            return continuation.resume(returning: .failure(.invalidRequest))
        }
        let exchange = Exchange(
            token: token, request: request, head: head, replica: replica, deadlines: deadlines, now: now,
            continuation: continuation)
        exchange.position = inFlight.count
        inFlight.append(exchange)
        replica.start(exchange, now: now)
    }

    /// Begins a call whose answer is taken piece by piece.
    func start(_ request: WorkerRequest, to address: WorkerAddress, deadlines: WorkerDeadlines, stream: StreamControl) {
        guard shutdownPromise == nil else { return stream.end(.shutdown) }
        let now = NIODeadline.now()
        let replica = replica(at: address)
        guard let head = replica.head(for: request), head.accepts(request) else { return stream.end(.invalidRequest) }
        // Nobody cancels it by its token.
        let exchange = Exchange(
            token: 0, request: request, head: head, replica: replica, deadlines: deadlines, now: now, stream: stream)
        stream.exchange = exchange
        exchange.position = inFlight.count
        inFlight.append(exchange)
        replica.start(exchange, now: now)
    }

    /// Ends a stream that its receiver does not want any more.
    func abandon(_ exchange: Exchange) {
        guard exchange.phase != .finished else { return }
        give(up: exchange, .cancelled)
    }

    func cancel(_ token: UInt64) {
        guard let exchange = inFlight.first(where: { $0.token == token }) else { return }
        give(up: exchange, .cancelled)
    }

    /// Answers a call, once.
    func finish(_ exchange: Exchange, _ result: Result<WorkerReply, WorkerFailure>) {
        guard exchange.phase != .finished else { return }
        let position = exchange.position
        let last = inFlight.removeLast()
        if last !== exchange {
            inFlight[position] = last
            last.position = position
        }
        exchange.finish(result)
    }

    private func give(up exchange: Exchange, _ failure: WorkerFailure) {
        exchange.replica.drop(exchange)
        finish(exchange, .failure(failure))
    }

    private func replica(at address: WorkerAddress) -> ReplicaPool {
        if let lastReplica, lastReplica.address == address { return lastReplica }
        let replica = replicas[address] ?? addReplica(at: address)
        lastReplica = replica
        return replica
    }

    private func addReplica(at address: WorkerAddress) -> ReplicaPool {
        if replicas.count >= Self.replicaLimit { replicas = replicas.filter { !$0.value.isEmpty } }
        let replica = ReplicaPool(address: address, owner: self)
        replicas[address] = replica
        return replica
    }

    // MARK: - Writing

    /// Flushes at the end of the loop's present turn, or when so many wait.
    ///
    /// Requests that are ready together are sent one right after the other then: a worker that is woken finds several, where it would have
    /// gone to sleep and be woken again between one and the next.
    func flushSoon(_ context: ChannelHandlerContext) {
        flushes.append(context)
        if flushes.count == 1 {
            eventLoop.assumeIsolated().execute { [self] in flush() }
        } else if flushes.count >= Self.flushLimit {
            flush()
        }
    }

    private func flush() {
        var ready: [ChannelHandlerContext] = []
        swap(&ready, &flushes)
        for context in ready { context.flush() }
    }

    // MARK: - Time

    /// Makes sure that somebody looks at deadlines soon after `deadline`.
    func wake(at deadline: NIODeadline) {
        guard deadline < timerDeadline else { return }
        timer?.cancel()
        timerDeadline = deadline
        let moment = max(deadline, lastSweep + Self.tick)
        timer = eventLoop.assumeIsolated().scheduleTask(deadline: moment) { [self] in sweep() }
    }

    private func sweep() {
        let now = NIODeadline.now()
        timer = nil
        timerDeadline = .distantFuture
        lastSweep = now
        for exchange in inFlight.filter({ $0.deadline <= now }) where exchange.phase != .finished {
            give(up: exchange, exchange.expiry)
        }
        for replica in replicas.values { replica.closeExpired(at: now) }
        var next = NIODeadline.distantFuture
        for exchange in inFlight { next = min(next, exchange.deadline) }
        for replica in replicas.values { next = min(next, replica.nextExpiry ?? next) }
        if next < .distantFuture { wake(at: next) }
    }

    /// The time at which a connection that is opened now has served long enough. Up to a tenth early, so that
    /// connections that were opened together do not all close together.
    func connectionExpiry() -> NIODeadline {
        let age = configuration.maximumConnectionAge
        return .now() + age - .nanoseconds(Int64.random(in: 0...age.nanoseconds / 10))
    }

    // MARK: - Counts and the end

    func count(open: Int, idle: Int, waiting: Int) {
        gauges.change(open: open, idle: idle, waiting: waiting)
    }

    func channelOpened() {
        channelCount += 1
    }

    func channelClosed() {
        channelCount -= 1
        if channelCount == 0 { shutdownPromise?.succeed() }
    }

    /// Fails every call, closes every connection and completes when the last channel has gone.
    func shutDown() -> EventLoopFuture<Void> {
        if let shutdownPromise { return shutdownPromise.futureResult }
        let promise = eventLoop.makePromise(of: Void.self)
        shutdownPromise = promise
        for exchange in inFlight where exchange.phase == .waiting { give(up: exchange, .shutdown) }
        for exchange in inFlight { give(up: exchange, .shutdown) }
        for replica in replicas.values { replica.closeExpired(at: .distantFuture) }
        replicas = [:]
        lastReplica = nil
        timer?.cancel()
        timer = nil
        if channelCount == 0 { promise.succeed() }
        return promise.futureResult
    }
}
