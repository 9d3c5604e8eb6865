internal import Domain
internal import NIOCore
internal import NIOHTTP1

/// Stands before everything that answers: applies ``RequestRules`` and ``ConnectionDeadlines``, turns parser errors into answers, and
/// closes a connection whose request was answered before its body was read.
final class ConnectionGuard: ChannelDuplexHandler, RemovableChannelHandler {
    typealias InboundIn = HTTPServerRequestPart
    typealias InboundOut = HTTPServerRequestPart
    typealias OutboundIn = HTTPServerResponsePart
    typealias OutboundOut = HTTPServerResponsePart

    private let rules: RequestRules
    private let limits: ConnectionDeadlines.Limits
    private let loop: LoopContext
    private let time: any TimeSource
    private var deadlines: ConnectionDeadlines
    private var isRequestComplete = true
    private var isAnswering = false
    private var sawPart = false
    private var isClosing = false
    private var timer: Scheduled<Void>?

    init(rules: RequestRules, limits: ConnectionDeadlines.Limits, loop: LoopContext, time: any TimeSource) {
        self.rules = rules
        self.limits = limits
        self.loop = loop
        self.time = time
        deadlines = ConnectionDeadlines(limits: limits, now: time.monotonicNanoseconds)
    }

    func handlerAdded(context: ChannelHandlerContext) { schedule(context, inNanoseconds: limits.headNanoseconds) }

    func handlerRemoved(context: ChannelHandlerContext) { timer?.cancel() }

    func channelInactive(context: ChannelHandlerContext) {
        timer?.cancel()
        context.fireChannelInactive()
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        guard !isClosing else { return }
        sawPart = true
        switch unwrapInboundIn(data) {
        case .head(let head):
            deadlines.headArrived(now: time.monotonicNanoseconds)
            isRequestComplete = false
            if let refusal = rules.check(head) {
                refuse(refusal, context: context)
                return
            }
        case .body: deadlines.bodyArrived(now: time.monotonicNanoseconds)
        case .end:
            isRequestComplete = true
            deadlines.requestComplete()
        }
        context.fireChannelRead(data)
    }

    func channelReadComplete(context: ChannelHandlerContext) {
        if !sawPart { deadlines.bytesArrived(now: time.monotonicNanoseconds) }
        sawPart = false
        context.fireChannelReadComplete()
    }

    func read(context: ChannelHandlerContext) {
        if !isClosing { context.read() }
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        guard let parserError = error as? HTTPParserError else {
            context.close(promise: nil)
            return
        }
        // Once an answer has begun, a second one would be read as part of it.
        guard !isAnswering, !isClosing else {
            context.close(promise: nil)
            return
        }
        switch parserError {
        case .headerOverflow:
            refuse(Refusal(.headersTooLarge, "The header is larger than this server accepts. Send fewer or shorter fields."), context: context)
        case .invalidVersion:
            refuse(Refusal(.badRequest, "The request is not HTTP/1.1."), context: context)
        default:
            refuse(Refusal(.badRequest, "The request cannot be parsed as HTTP/1.1."), context: context)
        }
    }

    func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
        guard !isClosing else {
            promise?.fail(ChannelError.ioOnClosedChannel)
            return
        }
        switch unwrapOutboundIn(data) {
        case .head(let head):
            isAnswering = head.status.code >= 200
            context.write(data, promise: promise)
        case .body: context.write(data, promise: promise)
        case .end:
            isAnswering = false
            context.write(data, promise: promise)
            answerComplete(context: context)
        }
    }

    /// An answer has been written completely, by the framework behind us or by the data plane around us.
    func answerComplete(context: ChannelHandlerContext) {
        if isRequestComplete {
            deadlines.answerComplete(now: time.monotonicNanoseconds)
        } else {
            // The rest of the body would only be thrown away; a client could keep us reading for ever.
            context.flush()
            linger(context)
        }
    }

    /// Answers in place of whatever is behind us, and closes.
    func refuse(_ refusal: Refusal, context: ChannelHandlerContext) {
        let now = time.now
        let requestID = loop.makeRequestID(at: now)
        let answer = AnswerHead.problem(refusal, requestID: requestID, keepsAlive: false, at: now, on: loop)
        writeRaw(answer, context: context)
        RequestMetrics.refused(refusal.code, route: "guard")
        linger(context)
    }

    /// Writes bytes past the encoder: they are a whole answer already.
    func writeRaw(_ bytes: ByteBuffer, context: ChannelHandlerContext) {
        do {
            let encoder = try context.pipeline.syncOperations.context(handlerType: HTTPResponseEncoder.self)
            encoder.writeAndFlush(NIOAny(bytes), promise: nil)
        } catch {
            context.close(promise: nil)
        }
    }

    /// Ends our side, reads nothing more, and closes half a second later: closing at once with unread bytes would reset the connection,
    /// and the client would lose the answer that says why.
    func linger(_ context: ChannelHandlerContext) {
        guard !isClosing else { return }
        isClosing = true
        timer?.cancel()
        context.close(mode: .output, promise: nil)
        let bound = NIOLoopBound(context, eventLoop: context.eventLoop)
        timer = context.eventLoop.scheduleTask(in: .milliseconds(500)) { bound.value.close(promise: nil) }
    }

    private func schedule(_ context: ChannelHandlerContext, inNanoseconds delay: UInt64) {
        let bound = NIOLoopBound((self, context), eventLoop: context.eventLoop)
        timer = context.eventLoop.scheduleTask(in: .nanoseconds(Int64(clamping: delay))) { bound.value.0.timerFired(bound.value.1) }
    }

    private func timerFired(_ context: ChannelHandlerContext) {
        guard !isClosing else { return }
        let now = time.monotonicNanoseconds
        switch deadlines.expiry(now: now) {
        case .notYet(let at): schedule(context, inNanoseconds: max(1_000_000, at - now))
        case .none: schedule(context, inNanoseconds: limits.headNanoseconds)
        case .closeIdle: context.close(promise: nil)
        case .requestTimeout:
            guard !isAnswering else {
                context.close(promise: nil)
                return
            }
            refuse(Refusal(.requestTimeout, "The request did not arrive in time. Send it again."), context: context)
        }
    }
}
