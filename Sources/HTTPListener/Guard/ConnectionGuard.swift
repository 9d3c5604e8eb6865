public import Domain
public import NIOCore
public import NIOHTTP1

/// Stands before everything that answers: applies ``RequestRules`` and ``ConnectionDeadlines``, turns parser errors into answers, and
/// closes a connection whose request was answered before its body was read.
///
/// A client may have sent the next requests already, so what arrives need not belong to the request that is being answered: requests are
/// counted as they begin, end and are answered, and a refusal waits for the answers before it.
public final class ConnectionGuard: ChannelDuplexHandler, RemovableChannelHandler {
    public typealias InboundIn = HTTPServerRequestPart
    public typealias InboundOut = HTTPServerRequestPart
    public typealias OutboundIn = HTTPServerResponsePart
    public typealias OutboundOut = HTTPServerResponsePart

    private let rules: RequestRules
    private let limits: ConnectionDeadlines.Limits
    private let problems: ProblemStyle
    private let writesContinue: Bool
    private let time: any TimeSource
    private var deadlines: ConnectionDeadlines
    private var begun = 0
    private var ended = 0
    private var answered = 0
    /// The refusal of a request behind others that are still to be answered.
    private var pendingRefusal: Refusal?
    private var isAnswering = false
    /// The answer that is being written says that it is the last.
    private var endsWithThisAnswer = false
    /// The client waits for leave to send its body, behind answers that are still to be written.
    private var owesContinue = false
    private var sawPart = false
    /// Of the request whose head came last.
    private var dialect = ErrorDialect.problem
    public private(set) var isClosing = false
    /// The request that came last asks for another protocol. It is answered as if it did not, and the connection ends with it: behind it the
    /// parser reads nothing more.
    private(set) var isLastRequest = false
    /// How the body of the request whose head came last is delimited.
    private(set) var lastBody = MessageFraming.Body.length(0)
    /// What was seen of the head that is being parsed, or was last.
    var lastHead = HeadScanner()
    private var ownContext: ChannelHandlerContext?
    /// Where whole answers are written, past the encoder. For flushing what was written without.
    public private(set) var outlet: ChannelHandlerContext?
    private var timer: Scheduled<Void>?
    private var timerAtNanoseconds: UInt64 = .max

    /// - Parameters:
    ///   - problems: how refusals are written and counted.
    ///   - writesContinue: whether a client that expects 100 (Continue) gets it from here, as soon as its head is accepted. Where false
    ///     that is for a handler behind.
    public init(
        rules: RequestRules, limits: ConnectionDeadlines.Limits, problems: ProblemStyle, writesContinue: Bool,
        time: any TimeSource
    ) {
        self.rules = rules
        self.limits = limits
        self.problems = problems
        self.writesContinue = writesContinue
        self.time = time
        deadlines = ConnectionDeadlines(limits: limits, now: time.monotonicNanoseconds)
    }

    /// Heads that were accepted.
    var headCount: Int { begun }

    /// Whether nothing more will be taken from this connection.
    var isRefusing: Bool { isClosing || pendingRefusal != nil }

    public func handlerAdded(context: ChannelHandlerContext) {
        ownContext = context
        outlet = try? context.pipeline.syncOperations.context(handlerType: HTTPResponseEncoder.self)
        schedule(context, inNanoseconds: limits.headNanoseconds)
    }

    public func handlerRemoved(context: ChannelHandlerContext) {
        timer?.cancel()
        ownContext = nil
        outlet = nil
    }

    public func channelInactive(context: ChannelHandlerContext) {
        timer?.cancel()
        context.fireChannelInactive()
    }

    public func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        guard !isRefusing else { return }
        sawPart = true
        switch unwrapInboundIn(data) {
        case .head(let head):
            let fields = RequestFields(head.headers)
            dialect = problems.dialect(head.uri)
            if let refusal = rules.check(head, fields) {
                refuseInTurn(refusal, context: context)
                return
            }
            begun += 1
            isLastRequest = fields.asksForUpgrade
            lastBody =
                fields.transferEncoding != nil ? .chunked : .length(fields.contentLength.flatMap { Int($0) } ?? 0)
            if begun == answered + 1 { deadlines.headArrived(now: time.monotonicNanoseconds) }
            if writesContinue, fields.expect != nil {
                if begun == answered + 1 { writeContinue(context) } else { owesContinue = true }
            }
        case .body: if begun == answered + 1 { deadlines.bodyArrived(now: time.monotonicNanoseconds) }
        case .end(let trailers):
            if let trailers, let refusal = rules.check(trailers: trailers) {
                guard !isAnswering || ended > answered else { return context.close(promise: nil) }
                refuseInTurn(refusal, context: context)
                return
            }
            ended += 1
            owesContinue = false
            if ended == answered + 1 { deadlines.requestComplete() }
        }
        context.fireChannelRead(data)
    }

    /// Whether no request is under way or waits.
    public var isIdle: Bool { begun == answered && !isRefusing }

    /// A whole request was read past the parser.
    public func plainRequestArrived() {
        begun += 1
        ended += 1
        deadlines.requestComplete()
    }

    public func channelReadComplete(context: ChannelHandlerContext) {
        if !sawPart { deadlines.bytesArrived(now: time.monotonicNanoseconds) }
        sawPart = false
        watch(context)
        context.fireChannelReadComplete()
    }

    public func read(context: ChannelHandlerContext) {
        if !isClosing { context.read() }
    }

    public func errorCaught(context: ChannelHandlerContext, error: any Error) {
        guard let parserError = error as? HTTPParserError else {
            context.close(promise: nil)
            return
        }
        guard !isRefusing else { return }
        // The answer to the very request that is broken has begun: a second one would be read as part of it.
        guard !isAnswering || ended > answered else {
            context.close(promise: nil)
            return
        }
        switch parserError {
        // Bytes behind a request that said `Connection: close` are nobody's.
        case .closedConnection: break
        case .headerOverflow where lastHead.isInFirstLine:
            refuseInTurn(RequestRules.targetTooLong(rules.maximumTargetBytes), context: context)
        case .invalidMethod where lastHead.hasMethod:
            refuseInTurn(RequestRules.unservedMethod, context: context)
        case .headerOverflow:
            refuseInTurn(
                Refusal(
                    .headersTooLarge, "The header is larger than this server accepts. Send fewer or shorter fields."),
                context: context)
        // The parser knows no version behind 2.
        case .invalidVersion where lastHead.hasVersion: refuseInTurn(RequestRules.unservedVersion, context: context)
        case .invalidVersion:
            refuseInTurn(Refusal(.badRequest, "The request is not HTTP/1.1."), context: context)
        default:
            refuseInTurn(Refusal(.badRequest, "The request cannot be parsed as HTTP/1.1."), context: context)
        }
    }

    public func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
        guard !isClosing else {
            promise?.fail(ChannelError.ioOnClosedChannel)
            return
        }
        switch unwrapOutboundIn(data) {
        case .head(var head):
            isAnswering = head.status.code >= 200
            guard isAnswering, isLast(head) else { return context.write(data, promise: promise) }
            endsWithThisAnswer = true
            head.headers.replaceOrAdd(name: "connection", value: "close")
            context.write(wrapOutboundOut(.head(head)), promise: promise)
        case .body: context.write(data, promise: promise)
        case .end:
            isAnswering = false
            context.write(data, promise: promise)
            answerComplete(context: context)
        }
    }

    /// Whether nothing can follow the answer with this head: it says so itself, the request asks for another protocol, or the request's body
    /// is still unread. The rest of such a body would only be thrown away, and a client could keep us reading for ever.
    private func isLast(_ head: HTTPResponseHead) -> Bool {
        ended <= answered || (isLastRequest && begun == answered + 1)
            || head.headers.first(name: "connection")?.lowercased() == "close"
    }

    /// An answer has been written completely, by the framework behind us or by a handler that writes past us.
    public func answerComplete(context: ChannelHandlerContext) {
        answered += 1
        guard ended >= answered, !endsWithThisAnswer else {
            context.flush()
            linger(context)
            return
        }
        if ended == answered, let refusal = pendingRefusal {
            pendingRefusal = nil
            refuse(refusal, context: context)
            return
        }
        if isLastRequest, begun == answered {
            context.flush()
            linger(context)
            return
        }
        let now = time.monotonicNanoseconds
        if begun == answered {
            deadlines.answerComplete(now: now)
        } else {
            // The next request has begun to arrive behind this one; its time counts from now.
            deadlines.headArrived(now: now)
            if ended > answered {
                deadlines.requestComplete()
            } else if owesContinue {
                owesContinue = false
                writeContinue(context)
            }
        }
        watch(context)
    }

    private func writeContinue(_ context: ChannelHandlerContext) {
        writeRaw(ByteBuffer(staticString: "HTTP/1.1 100 Continue\r\n\r\n"), context: context)
    }

    /// The body that is arriving cannot be read on.
    func refuseBrokenBody(_ refusal: Refusal) {
        guard !isRefusing, let ownContext else { return }
        guard !isAnswering || ended > answered else { return ownContext.close(promise: nil) }
        refuseInTurn(refusal, context: ownContext)
    }

    /// Refuses what arrives now after everything before it has been answered.
    private func refuseInTurn(_ refusal: Refusal, context: ChannelHandlerContext) {
        if ended > answered { pendingRefusal = refusal } else { refuse(refusal, context: context) }
    }

    /// Answers in place of whatever is behind us, and closes.
    public func refuse(_ refusal: Refusal, context: ChannelHandlerContext) {
        // Which happens once on a connection: neither number nor date is worth keeping at hand.
        let now = time.now
        var random = SystemRandomNumberGenerator()
        let answer = ProblemAnswer.message(
            refusal, in: dialect, requestID: RequestID(at: now, using: &random), instance: problems.instance,
            keepsAlive: false,
            date: Array(httpDate(secondsSince1970: now.microsecondsSince1970 / 1_000_000).utf8))
        writeRaw(answer, context: context)
        problems.count(refusal.code)
        linger(context)
    }

    /// Writes bytes past the encoder: they are a whole answer already.
    /// - Parameter flushes: false leaves it to the caller to flush ``outlet``.
    public func writeRaw(_ bytes: ByteBuffer, flushes: Bool = true, context: ChannelHandlerContext) {
        guard !isClosing else { return }
        guard let outlet else { return context.close(promise: nil) }
        outlet.write(NIOAny(bytes), promise: nil)
        if flushes { outlet.flush() }
    }

    /// Ends our side when all has been sent, reads nothing more, and closes half a second later: closing at once with unread bytes would reset the connection,
    /// and the client would lose the answer that says why.
    public func linger(_ context: ChannelHandlerContext) {
        guard !isClosing else { return }
        isClosing = true
        timer?.cancel()
        let bound = NIOLoopBound((self, context), eventLoop: context.eventLoop)
        // For a client that does not take what was written.
        timer = context.eventLoop.scheduleTask(in: .nanoseconds(Int64(clamping: limits.idleNanoseconds))) {
            bound.value.1.close(promise: nil)
        }
        let sent = context.eventLoop.makePromise(of: Void.self)
        sent.futureResult.whenComplete { _ in
            let (guardian, context) = bound.value
            guardian.timer?.cancel()
            guardian.timer = context.eventLoop.scheduleTask(in: .milliseconds(500)) {
                bound.value.1.close(promise: nil)
            }
        }
        context.close(mode: .output, promise: sent)
    }

    /// Sets the timer earlier if the present wait is over before it fires.
    private func watch(_ context: ChannelHandlerContext) {
        guard !isClosing, let due = deadlines.dueNanoseconds, due < timerAtNanoseconds else { return }
        timer?.cancel()
        let now = time.monotonicNanoseconds
        schedule(context, inNanoseconds: due > now ? due - now : 1)
    }

    private func schedule(_ context: ChannelHandlerContext, inNanoseconds delay: UInt64) {
        timerAtNanoseconds = time.monotonicNanoseconds + delay
        let bound = NIOLoopBound((self, context), eventLoop: context.eventLoop)
        timer = context.eventLoop.scheduleTask(in: .nanoseconds(Int64(clamping: delay))) {
            bound.value.0.timerFired(bound.value.1)
        }
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
