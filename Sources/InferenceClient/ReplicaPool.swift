internal import Domain
internal import Logging
internal import NIOCore
internal import NIOPosix
internal import NIOSSL

#if canImport(Darwin)
    internal import Darwin
#else
    internal import Glibc
#endif

/// The connections of one loop to one replica. Performs what ``PoolState`` decides. Confined to its loop.
final class ReplicaPool {
    let address: WorkerAddress
    /// A cycle, which shutting down breaks.
    let owner: LoopPool
    private let target: WorkerAddressPolicy.Target
    private var state: PoolState<WorkerConnection, Exchange>
    /// Heads by path. A replica serves a handful of paths; the bound only protects against a caller that makes them up.
    private var heads: [RequestHead] = []
    private static let headLimit = 16
    /// Up to here a body is copied behind its head, so that both leave in one write of one buffer; a larger one is not
    /// worth copying.
    private static let joinedBodyLimit = 16 * 1024

    init(address: WorkerAddress, owner: LoopPool) {
        self.address = address
        self.owner = owner
        target = owner.configuration.addressPolicy.target(of: address)
        state = PoolState(limits: owner.configuration.poolLimits)
    }

    var isEmpty: Bool { state.isEmpty }
    var nextExpiry: NIODeadline? { state.nextExpiry }

    // MARK: - Exchanges

    func start(_ exchange: Exchange, now: NIODeadline) {
        if case .refused = target {
            note("the address of a worker is not permitted")
            return owner.finish(exchange, .failure(.unreachable))
        }
        switch counted({ $0.acquire(exchange) }) {
        case .reuse(let connection): connection.carry(exchange, now: now)
        case .open: open(for: exchange, now: now)
        case .wait: owner.wake(at: exchange.deadline)
        case .refuse: owner.finish(exchange, .failure(.overloaded))
        }
    }

    /// Frees what an exchange holds that is being given up.
    func drop(_ exchange: Exchange) {
        switch exchange.phase {
        case .waiting: counted { $0.remove(exchange) }
        // Without a connection its route is still being found, which ends by seeing that the exchange is finished.
        case .connecting, .awaitingFirstByte, .receiving: if let connection = exchange.connection { retire(connection) }
        case .finished: break
        }
    }

    /// Writes a request in one go, at the end of the loop's present turn.
    func write(_ exchange: Exchange, to context: ChannelHandlerContext) {
        let body = exchange.request.body
        let joinsBody = body.readableBytes <= Self.joinedBodyLimit
        exchange.head.write(exchange.request, includingBody: joinsBody, into: &owner.scratch)
        context.write(NIOAny(owner.scratch), promise: nil)
        if !joinsBody { context.write(NIOAny(body), promise: nil) }
        owner.flushSoon(context)
    }

    /// The head for the request's path, built if this is the first; `nil` if it must not be sent.
    func head(for request: WorkerRequest) -> RequestHead? {
        for head in heads where head.fits(request) { return head }
        guard
            let head = RequestHead(
                method: request.method, path: request.path, contentType: request.contentType, address: address)
        else { return nil }
        if heads.count >= Self.headLimit { heads.removeAll(keepingCapacity: true) }
        heads.append(head)
        return head
    }

    // MARK: - Connections

    /// A connection has answered and may be used again.
    func release(_ connection: WorkerConnection) {
        let now = NIODeadline.now()
        guard connection.expires > now else { return retire(connection) }
        let expires = min(connection.expires, now + owner.configuration.idleTimeout)
        switch counted({ $0.release(connection, expires: expires) }) {
        case .serve(let waiter): connection.carry(waiter, now: now)
        case .shelve: owner.wake(at: expires)
        case .close: connection.abandon()
        }
    }

    /// A connection in use, or being opened, is to be closed. Somebody who waits gets its place.
    func retire(_ connection: WorkerConnection) {
        connection.abandon()
        freePlace()
    }

    func freePlace() {
        if let waiter = counted({ $0.closed() }) { open(for: waiter, now: .now()) }
    }

    func idleClosed(_ connection: WorkerConnection) {
        counted { $0.idleClosed(connection) }
    }

    func closeExpired(at now: NIODeadline) {
        for connection in counted({ $0.takeExpired(at: now) }) { connection.abandon() }
    }

    // MARK: - Opening

    /// Opens a connection in a place that is counted already.
    func open(for exchange: Exchange, now: NIODeadline) {
        exchange.enterConnecting(now: now)
        owner.wake(at: exchange.deadline)
        if case .numeric(let socketAddress) = target, !address.usesTLS {
            return dial([socketAddress], tls: nil, for: exchange)
        }
        owner.directory.route(to: address, target: target, on: owner.eventLoop).assumeIsolated().whenComplete {
            [self] result in
            guard exchange.phase != .finished else { return freePlace() }
            switch result {
            case .success(let route): dial(route.addresses[...], tls: route.tls, for: exchange)
            case .failure(let error):
                note("no route to a worker", error: error)
                openingFailed(for: exchange, error as? WorkerFailure ?? .unreachable)
            }
        }
    }

    /// Tries one address after the other until one accepts; the deadline of the exchange bounds them together. Each but
    /// the last has its share of the time, so that a silent one does not keep a name from being reached.
    private func dial(_ addresses: ArraySlice<SocketAddress>, tls: NIOSSLContext?, for exchange: Exchange) {
        guard let first = addresses.first else { return openingFailed(for: exchange, .unreachable) }
        let connection: WorkerConnection
        do {
            // An address is no name that can be indicated; then the certificate has to hold the address.
            let serverName: String? = if case .named = target { address.host } else { nil }
            let handler = try tls.map { try NIOSSLClientHandler(context: $0, serverHostname: serverName) }
            connection = WorkerConnection(
                pool: self, exchange: exchange, tls: handler, expires: owner.connectionExpiry())
        } catch {
            note("TLS to a worker cannot be set up", error: error)
            return openingFailed(for: exchange, .tls)
        }
        let bound = NIOLoopBound(connection, eventLoop: owner.eventLoop)
        let opened = ClientBootstrap(group: owner.eventLoop)
            .channelOption(.tcpOption(.tcp_nodelay), value: 1)
            .connectTimeout(Self.share(of: exchange, among: addresses.count))
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    let connection = bound.value
                    if let handler = connection.tls { try channel.pipeline.syncOperations.addHandler(handler) }
                    try channel.pipeline.syncOperations.addHandler(connection)
                }
            }
            .connect(to: first)
        opened.assumeIsolated().whenFailure { [self] error in
            guard connection.abandonOpening() else { return }
            note("a worker cannot be connected to", error: error)
            if addresses.count > 1 { return dial(addresses.dropFirst(), tls: tls, for: exchange) }
            openingFailed(for: exchange, Self.failure(of: error))
        }
    }

    private static func share(of exchange: Exchange, among count: Int) -> TimeAmount {
        // The sweep of the loop keeps the deadline; the bootstrap's timer for the last is only there in case of a mistake.
        guard count > 1 else { return .hours(24) }
        let left = exchange.deadline - NIODeadline.now()
        return .nanoseconds(max(1, left.nanoseconds / Int64(count)))
    }

    func openingFailed(for exchange: Exchange, _ failure: WorkerFailure) {
        freePlace()
        owner.finish(exchange, .failure(failure))
    }

    private static func failure(of error: any Error) -> WorkerFailure {
        switch error {
        case let error as IOError where error.errnoCode == ECONNREFUSED: .connectRefused
        case let error as IOError where error.errnoCode == ETIMEDOUT: .connectTimeout
        case ChannelError.connectTimeout: .connectTimeout
        default: .unreachable
        }
    }

    // MARK: -

    /// Changes the state and publishes its counts.
    @discardableResult
    private func counted<Outcome>(_ change: (inout PoolState<WorkerConnection, Exchange>) -> Outcome) -> Outcome {
        let before = (state.openCount, state.idleCount, state.waitingCount)
        let outcome = change(&state)
        owner.count(
            open: state.openCount - before.0, idle: state.idleCount - before.1, waiting: state.waitingCount - before.2)
        return outcome
    }

    func note(_ message: Logger.Message, error: (any Error)? = nil) {
        owner.logger.debug(
            message, metadata: ["worker": "\(address)", "error": "\(error.map { String(describing: $0) } ?? "")"])
    }
}
