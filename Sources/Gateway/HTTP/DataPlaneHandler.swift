internal import Domain
internal import HTTPListener
internal import Logging
internal import NIOCore
internal import NIOHTTP1

/// Takes the metered routes off the connection and runs them through the pipeline on the connection's own event loop; everything else goes
/// on to the framework behind it.
///
/// One request of a connection is under way at a time, answered in order. What a client pipelines behind it waits here, at most two reads'
/// worth; after that nothing more is read from the socket. Reading goes on until then, because turning it off and on would cost two calls
/// of the kernel for each request of all those clients that never pipeline.
final class DataPlaneHandler: ChannelDuplexHandler, RemovableChannelHandler {
    typealias InboundIn = HTTPServerRequestPart
    typealias InboundOut = HTTPServerRequestPart
    typealias OutboundIn = HTTPServerResponsePart
    typealias OutboundOut = HTTPServerResponsePart

    private enum State {
        case idle
        /// A metered request is arriving.
        case gathering(CallTarget, RequestFields, keepsAlive: Bool, ByteBuffer)
        /// The pipeline runs.
        case running
        /// The framework has the request.
        case passing(requestEnded: Bool)
    }

    private let pipeline: InferencePipeline
    private let maximumBodyBytes: Int
    private let loop: LoopContext
    private let time: any TimeSource
    private let guardian: ConnectionGuard
    private var state = State.idle
    private var waiting = CircularBuffer<HTTPServerRequestPart>()
    private var isReadHeld = false
    /// Whether the framework was given something since it was last told that a read is over.
    private var hasPassedParts = false
    private var closesAfterAnswer = false
    /// The client has sent all that it will; what is under way is answered before the framework hears of it and closes.
    private var isInputOver = false
    /// What is being answered piece by piece.
    private var stream: StreamOutlet?
    private let patience: StreamPatience
    private var guardContext: ChannelHandlerContext?
    private var ownContext: ChannelHandlerContext?

    init(
        pipeline: InferencePipeline, maximumBodyBytes: Int, loop: LoopContext, time: any TimeSource,
        guardian: ConnectionGuard, patience: StreamPatience
    ) {
        self.patience = patience
        self.pipeline = pipeline
        self.maximumBodyBytes = maximumBodyBytes
        self.loop = loop
        self.time = time
        self.guardian = guardian
    }

    func handlerAdded(context: ChannelHandlerContext) {
        ownContext = context
        guardContext = try? context.pipeline.syncOperations.context(handler: guardian)
    }

    func handlerRemoved(context: ChannelHandlerContext) {
        ownContext = nil
        guardContext = nil
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        let part = unwrapInboundIn(data)
        if mustWait {
            waiting.append(part)
        } else {
            take(part, context: context)
        }
    }

    func channelReadComplete(context: ChannelHandlerContext) {
        // Four handlers stand behind this one, and a metered request concerns none of them.
        guard hasPassedParts else { return }
        hasPassedParts = false
        context.fireChannelReadComplete()
    }

    private var mustWait: Bool {
        if !waiting.isEmpty { return true }
        switch state {
        case .running, .passing(requestEnded: true): return true
        default: return false
        }
    }

    func read(context: ChannelHandlerContext) {
        // Who does not read its answers is not read from: they would pile up in memory.
        guard context.channel.isWritable else {
            isReadHeld = true
            return
        }
        // Also while the framework answers: it reads on, and what a client pipelines would pile up in `waiting`.
        switch state {
        case .running where !waiting.isEmpty, .passing(requestEnded: true) where !waiting.isEmpty: isReadHeld = true
        default: context.read()
        }
    }

    func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
        let part = unwrapOutboundIn(data)
        context.write(data, promise: promise)
        if case .end = part, case .passing(let requestEnded) = state, requestEnded { becomeIdle(context) }
    }

    func channelWritabilityChanged(context: ChannelHandlerContext) {
        if context.channel.isWritable { stream?.becameWritable() }
        if context.channel.isWritable, !guardian.isClosing {
            drainWaiting(context)
            channelReadComplete(context: context)
            readIfHeld(context)
        }
        context.fireChannelWritabilityChanged()
    }

    func channelInactive(context: ChannelHandlerContext) {
        stream?.clientLeft()
        context.fireChannelInactive()
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        if case .inputClosed? = event as? ChannelEvent, case .running = state {
            isInputOver = true
            // Of who has closed its side while a stream runs nobody can say that it still reads; nearly always it does not.
            stream?.clientLeft()
            return
        }
        if event is ChannelShouldQuiesceEvent {
            switch state {
            case .gathering, .running:
                closesAfterAnswer = true
                stopStreamSoon()
                return
            // The connection may be closed for that: what was written in this turn leaves before.
            case .idle, .passing: context.flush()
            }
        }
        context.fireUserInboundEventTriggered(event)
    }

    /// Takes a request that stands whole in the bytes of one read.
    /// - Returns: false if the parser has to read them.
    func takePlain(_ bytes: ByteBuffer) -> Bool {
        guard case .idle = state, waiting.isEmpty, guardian.isIdle, let ownContext,
            let request = PlainRequest(bytes, maximumBodyBytes: maximumBodyBytes)
        else { return false }
        guardian.plainRequestArrived()
        state = .running
        run(
            request.body, for: .predict, credentials: request.credentials, trace: request.trace,
            clientID: request.clientID,
            cacheFields: request.cacheFields, tagFields: request.tagFields, receipt: request.receipt, keepsAlive: true,
            context: ownContext)
        return true
    }

    private func take(_ part: HTTPServerRequestPart, context: ChannelHandlerContext) {
        switch (state, part) {
        case (.idle, .head(let head)): begin(head, context: context)
        case (.gathering(let target, let fields, let keepsAlive, var body), .body(let bytes)):
            // Moved out while it grows, so that the bytes are not copied.
            state = .idle
            guard body.readableBytes + bytes.readableBytes <= maximumBodyBytes else {
                return refuse(.tooLarge(maximumBodyBytes))
            }
            if body.readableBytes == 0 { body = bytes } else { body.writeImmutableBuffer(bytes) }
            state = .gathering(target, fields, keepsAlive: keepsAlive, body)
        case (.gathering(let target, let fields, let keepsAlive, let body), .end):
            state = .running
            run(
                body, for: target, credentials: fields.credentials,
                trace: fields.traceParent.flatMap { TraceContext(parent: $0, state: fields.traceState) },
                clientID: fields.requestID.flatMap { ClientRequestID($0) }, idempotencyFields: fields.idempotencyKeys,
                cacheFields: fields.cacheFields, tagFields: fields.tagFields, receipt: ReceiptWish(fields.receipts),
                jobFields: JobFields(priorities: fields.jobPriorities, instants: fields.jobInstants),
                keepsAlive: keepsAlive, context: context)
        case (.passing, _):
            if case .end = part { state = .passing(requestEnded: true) }
            hasPassedParts = true
            context.fireChannelRead(wrapInboundOut(part))
        default: break
        }
    }

    private func begin(_ head: HTTPRequestHead, context: ChannelHandlerContext) {
        guard head.method == .POST, var target = MeteredRoutes.match(head.uri) else {
            state = .passing(requestEnded: false)
            if head.headers.contains(name: "expect") { writeContinue() }
            hasPassedParts = true
            context.fireChannelRead(wrapInboundOut(.head(head)))
            return
        }
        let fields = RequestFields(head.headers)
        if fields.prefersAsync {
            target.isAsync = true
            target.isAsyncPreferred = true
        }
        if target.surface == .infer, let text = fields.inferenceHeaderLength {
            target.jsonByteCount = text.utf8.allSatisfy { (0x30...0x39).contains($0) } ? Int(text) ?? -1 : -1
        }
        if let refusal = headRefusal(fields, target.surface) { return refuse(refusal) }
        if fields.expect != nil {
            // Who cannot be a customer is told so before it sends its body.
            switch fields.credentials {
            case .one(let bytes) where APIKey(parsing: bytes) != nil: writeContinue()
            case .none:
                return refuse(Refusal(.missingKey, "Send your API key in the header Authorization: Bearer <key>."))
            default: return refuse(.invalidKey)
            }
        }
        state = .gathering(
            target, fields, keepsAlive: head.isKeepAlive && !fields.asksForUpgrade, ByteBuffer())
    }

    /// What the head alone decides, before a byte of the body is read.
    private func headRefusal(_ fields: RequestFields, _ surface: Surface) -> Refusal? {
        if let length = fields.contentLength.flatMap({ Int($0) }), length > maximumBodyBytes {
            return .tooLarge(maximumBodyBytes)
        }
        if let coding = fields.contentEncoding, coding.lowercased() != "identity" {
            return Refusal(.unsupportedEncoding, "Compressed bodies are not accepted. Send the body as it is.")
        }
        // Clients of the Open Inference Protocol name no type, and binary data have one of their own.
        if surface.dialect == .openInference, fields.contentType.map({ MediaType.isBytes($0) }) ?? true { return nil }
        guard let type = fields.contentType, MediaType.isJSON(type) else {
            return Refusal(.unsupportedMediaType, "The body must be JSON. Send content-type: application/json.")
        }
        return nil
    }

    private func run(
        _ body: ByteBuffer, for target: CallTarget, credentials: Credentials, trace: TraceContext?,
        clientID: ClientRequestID?,
        idempotencyFields: [String] = [], cacheFields: [CacheField], tagFields: [String], receipt: ReceiptWish,
        jobFields: JobFields = JobFields(),
        keepsAlive: Bool, context: ChannelHandlerContext
    ) {
        let now = time.now
        let call = InferenceCall(
            requestID: loop.makeRequestID(at: now), receivedAt: now, receivedNanoseconds: time.monotonicNanoseconds,
            credentials: credentials, body: body, trace: trace, target: target, idempotencyFields: idempotencyFields,
            cacheFields: cacheFields, tagFields: tagFields, jobFields: jobFields, receipt: receipt)
        loop.runners.run(
            ReadyRequest(call: call, clientID: clientID, keepsAlive: keepsAlive, handler: self, context: context),
            through: pipeline, on: loop)
    }

    /// Called by whoever ran the request.
    func answer(_ outcome: InferenceOutcome, to request: ReadyRequest) {
        let context = request.context
        guard let guardContext, context.channel.isActive else { return }
        let now = time.now
        let clientID = request.clientID
        let staysOpen = request.keepsAlive && !closesAfterAnswer
        let bytes: ByteBuffer
        switch outcome {
        case .answered(let prediction):
            bytes = AnswerHead.prediction(prediction, clientID: clientID, keepsAlive: staysOpen, at: now, on: loop)
            RequestMetrics.answered(
                request.call.target.surface, nanoseconds: time.monotonicNanoseconds &- request.call.receivedNanoseconds)
        case .replayed(let answer, let limits):
            bytes = AnswerHead.replay(
                answer, limits: limits, clientID: clientID, keepsAlive: staysOpen, at: now, on: loop)
            RequestMetrics.replayed(request.call.target.surface)
        case .queued(let job):
            bytes = AnswerHead.accepted(job, clientID: clientID, keepsAlive: staysOpen, at: now, on: loop)
            RequestMetrics.queued(request.call.target.surface)
        case .streamed: return
        case .refused(let refusal, let requestID) where refusal.isOutcomeUnknown:
            RequestMetrics.refused(refusal.code, route: request.call.target.surface.operation)
            log(refusal, requestID)
            // The charge may or may not be there; whoever got an answer could not tell it from one that is sure.
            return context.close(promise: nil)
        case .refused(let refusal, let requestID):
            bytes = AnswerHead.problem(
                refusal, in: request.call.target.surface.dialect, requestID: requestID, clientID: clientID,
                keepsAlive: staysOpen, at: now, on: loop)
            RequestMetrics.refused(refusal.code, route: request.call.target.surface.operation)
            log(refusal, requestID)
        }
        guardian.writeRaw(bytes, flushes: !staysOpen, context: guardContext)
        // The end of the connection needs it flushed at once.
        if staysOpen, let outlet = guardian.outlet { loop.flushSoon(outlet) }
        guardian.answerComplete(context: guardContext)
        if !staysOpen {
            guardian.linger(guardContext)
        } else {
            becomeIdle(context)
        }
    }

    // MARK: streams

    /// Opens the caller's side of a stream.
    func openStream(for request: ReadyRequest) -> StreamOutlet {
        let outlet = StreamOutlet(handler: self, request: request, patience: patience, loop: loop, time: time)
        stream = outlet
        if !request.context.channel.isActive || isInputOver { outlet.clientLeft() }
        if closesAfterAnswer { stopStreamSoon() }
        return outlet
    }

    func staysOpen(behind request: ReadyRequest) -> Bool { request.keepsAlive && !closesAfterAnswer }

    /// - Parameter taken: succeeds when the system has taken the bytes.
    func writeStream(_ bytes: ByteBuffer, _ taken: EventLoopPromise<Void>) {
        guard let outlet = guardian.outlet, !guardian.isClosing else {
            return taken.fail(ChannelError.ioOnClosedChannel)
        }
        outlet.write(NIOAny(bytes), promise: taken)
        loop.flushSoon(outlet)
    }

    func streamFinished(_ request: ReadyRequest) {
        stream = nil
        guard let guardContext, request.context.channel.isActive else { return }
        guardian.answerComplete(context: guardContext)
        if staysOpen(behind: request) {
            becomeIdle(request.context)
        } else {
            guardContext.flush()
            guardian.linger(guardContext)
        }
    }

    func streamAborted(_ request: ReadyRequest) {
        stream = nil
        request.context.close(promise: nil)
    }

    func streamWithdrawn() { stream = nil }

    /// A server that stops waits for a stream, but not for ever.
    private func stopStreamSoon() {
        guard let stream else { return }
        let bound = NIOLoopBound(stream, eventLoop: loop.eventLoop)
        loop.eventLoop.scheduleTask(in: .milliseconds(patience.graceMilliseconds)) { bound.value.stop() }
    }

    /// Whether somebody who runs the server should see it. That an answer is not kept is what the caller asked to be told.
    static func isFailure(_ code: FailureCode) -> Bool { code.httpStatus >= 500 && code != .notCached }

    private func log(_ refusal: Refusal, _ requestID: RequestID) {
        guard Self.isFailure(refusal.code) else { return }
        pipeline.logger.warning(
            "request failed",
            metadata: [
                "request_id": "\(requestID.publicText)", "code": "\(refusal.code.rawValue)",
                "cause": "\(refusal.cause ?? "")",
            ])
    }

    /// Refuses at the head; the body stays unread and the connection is closed.
    private func refuse(_ refusal: Refusal) {
        guard let guardContext else { return }
        state = .running
        guardian.refuse(refusal, context: guardContext)
    }

    private func writeContinue() {
        guard let guardContext else { return }
        guardian.writeRaw(ByteBuffer(staticString: "HTTP/1.1 100 Continue\r\n\r\n"), context: guardContext)
    }

    private func becomeIdle(_ context: ChannelHandlerContext) {
        state = .idle
        guard !guardian.isClosing else {
            waiting.removeAll()
            return
        }
        drainWaiting(context)
        // The framework gathers what it is given until the end of a read, and this read ended long ago.
        channelReadComplete(context: context)
        guard !mustWait else { return }
        if isInputOver {
            isInputOver = false
            context.flush()
            return context.fireUserInboundEventTriggered(ChannelEvent.inputClosed)
        }
        readIfHeld(context)
    }

    private func readIfHeld(_ context: ChannelHandlerContext) {
        guard isReadHeld, !mustWait else { return }
        isReadHeld = false
        read(context: context)
    }

    private func drainWaiting(_ context: ChannelHandlerContext) {
        while !waiting.isEmpty, context.channel.isWritable {
            switch state {
            case .running, .passing(requestEnded: true): return
            default: take(waiting.removeFirst(), context: context)
            }
        }
    }
}
