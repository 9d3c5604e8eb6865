internal import Logging
internal import NIOCore
internal import NIOSSL
internal import NIOTLS

/// One connection to a worker: carries one exchange at a time, or none. The last handler of its channel, and the only
/// one without TLS, so that a read or write crosses no pipeline. Confined to the loop of its channel.
final class WorkerConnection: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    private enum State {
        /// TCP, then TLS. Every end of it is a failure to connect.
        case opening
        case open
        /// Not counted by the pool any more; the channel is closed or about to be.
        case retired
    }

    private let pool: ReplicaPool
    /// When the connection is too old to be used again.
    let expires: NIODeadline
    /// The handler in front of this one, if the worker speaks TLS.
    private(set) var tls: NIOSSLClientHandler?
    private var state = State.opening
    private var exchange: Exchange?
    private var parser: ResponseParser
    private var context: ChannelHandlerContext?
    private var hasAnswered = false
    private var hasResponseByte = false
    private var hasError = false

    init(pool: ReplicaPool, exchange: Exchange, tls: NIOSSLClientHandler?, expires: NIODeadline) {
        self.pool = pool
        self.exchange = exchange
        self.tls = tls
        self.expires = expires
        parser = ResponseParser(limits: pool.owner.configuration.responseLimits)
        exchange.connection = self
    }

    // MARK: - What the pool asks

    /// Sends the exchange's request and takes on its answer.
    func carry(_ next: Exchange, now: NIODeadline) {
        exchange = next
        next.connection = self
        next.enterAwaitingFirstByte(now: now)
        hasResponseByte = false
        parser.reset()
        pool.owner.wake(at: next.deadline)
        guard let context else { return ended(next) }
        pool.write(next, to: context)
    }

    /// Leaves its exchange and closes. The pool has stopped counting it, or is about to.
    func abandon() {
        exchange = nil
        state = .retired
        context?.close(promise: nil)
    }

    /// The channel never came to be.
    ///
    /// - Returns: whether the exchange still waits for it.
    func abandonOpening() -> Bool {
        guard case .opening = state else { return false }
        abandon()
        return true
    }

    // MARK: - What the channel says

    func handlerAdded(context: ChannelHandlerContext) {
        self.context = context
        pool.owner.channelOpened()
    }

    func handlerRemoved(context: ChannelHandlerContext) {
        self.context = nil
        tls = nil
        pool.owner.channelClosed()
    }

    func channelActive(context: ChannelHandlerContext) {
        switch state {
        case .opening: if tls == nil { opened() }
        case .open: break
        case .retired: context.close(promise: nil)
        }
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        // Exactly this event says that chain and name were verified; a session that is refused has events too.
        if case .opening = state, case .handshakeCompleted? = event as? TLSUserEvent { opened() }
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        guard case .open = state else { return }
        guard let exchange else {
            // A worker that speaks unasked is out of step: the next answer on this connection could be anybody's.
            pool.note("a worker sent bytes that nobody asked for")
            pool.idleClosed(self)
            return abandon()
        }
        if !hasResponseByte {
            hasResponseByte = true
            exchange.enterReceiving()
        }
        var bytes = unwrapInboundIn(data)
        if let stream = exchange.stream { return receive(&bytes, of: exchange, into: stream, context: context) }
        switch parser.consume(&bytes) {
        case .incomplete: break
        case .complete:
            // A peer that has answered without reading the request to its end would be sent the rest before the next
            // one.
            let isReusable = parser.allowsReuse && bytes.readableBytes == 0 && context.channel.isWritable
            answer(exchange, isReusable: isReusable)
        case .failed(let failure):
            pool.retire(self)
            pool.owner.finish(exchange, .failure(failure))
        }
    }

    private func receive(
        _ bytes: inout ByteBuffer, of exchange: Exchange, into stream: StreamControl, context: ChannelHandlerContext
    ) {
        let progress = parser.consume(&bytes)
        let isWellFormed = if case .failed = progress { false } else { true }
        if parser.hasHead, isWellFormed { stream.open(status: parser.status, contentType: parser.contentType) }
        let piece = parser.takePiece()
        exchange.pieceArrived(now: .now(), isReading: stream.isReading)
        pool.owner.wake(at: exchange.deadline)
        stream.send(piece)
        // Whoever took it may have given the stream up.
        guard self.exchange === exchange else { return }
        switch progress {
        case .incomplete: break
        case .complete:
            answer(
                exchange, isReusable: parser.allowsReuse && bytes.readableBytes == 0 && context.channel.isWritable)
        case .failed(let failure):
            pool.retire(self)
            pool.owner.finish(exchange, .failure(failure))
        }
    }

    /// Reads from the worker, or lets it wait.
    func setReading(_ isOn: Bool) {
        guard let context else { return }
        // Nothing to handle: it fails only for a channel that is closing.
        _ = context.channel.setOption(.autoRead, value: isOn)
        if isOn { context.read() }
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        // An end after an error proves nothing: a reset, or a TLS peer that goes without saying so, may have cut the
        // body.
        hasError = true
        pool.note("a connection to a worker failed", error: error)
        if case .opening = state { return handshakeFailed() }
        context.close(promise: nil)
    }

    func channelInactive(context: ChannelHandlerContext) {
        switch state {
        case .retired: break
        case .opening: handshakeFailed()
        case .open:
            guard let exchange else {
                state = .retired
                return pool.idleClosed(self)
            }
            if !hasError, parser.finishAtEnd() { return answer(exchange, isReusable: false) }
            ended(exchange)
        }
    }

    // MARK: -

    /// TCP was there, so it is TLS that cannot be. From here on nothing is written, whatever else the session reports.
    private func handshakeFailed() {
        guard let opening = exchange else { return abandon() }
        abandon()
        pool.openingFailed(for: opening, .tls)
    }

    private func opened() {
        guard let opening = exchange else { return }
        state = .open
        carry(opening, now: .now())
    }

    private func answer(_ answered: Exchange, isReusable: Bool) {
        let reply = parser.takeReply()
        exchange = nil
        hasAnswered = true
        // The next one who is answered over this connection wants to be read to.
        if answered.stream?.isReading == false { setReading(true) }
        // First the connection, so that a caller who runs on another thread finds it free.
        if isReusable { pool.release(self) } else { pool.retire(self) }
        pool.owner.finish(answered, .success(reply))
    }

    /// The connection has closed before the answer was complete.
    private func ended(_ cut: Exchange) {
        abandon()
        if !hasResponseByte, hasAnswered, !cut.hasRetried, cut.request.isSafeToRepeat {
            // The worker closed an idle connection while the request was under way. RFC 9110 section 9.2.2 leaves this
            // retry of a POST to a client that knows its request to bear repetition, as an inference does. The total
            // deadline goes on. The place of the old connection goes to the new one, ahead of those who wait.
            cut.hasRetried = true
            cut.connection = nil
            return pool.open(for: cut, now: .now())
        }
        pool.freePlace()
        pool.owner.finish(cut, .failure(hasResponseByte ? .closedMidResponse : .closedBeforeResponse))
    }
}
