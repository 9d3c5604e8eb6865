import NIOCore
import NIOHTTP1

/// One connection: gathers a request, asks the service, and sends the reply the way it wants to be sent.
final class WorkerConnectionHandler: ChannelInboundHandler {
    typealias InboundIn = HTTPServerRequestPart
    typealias OutboundOut = HTTPServerResponsePart

    private enum Phase {
        /// Between requests.
        case idle
        /// A head has come, and its body is on its way.
        case gathering
        /// The request is complete and its answer is due.
        case answering
        /// The last answer has been sent and the connection is about to close; whatever else arrives is dropped.
        case closing
    }

    private let service: InferenceService
    private let maximumBodyBytes: Int
    private var phase = Phase.idle
    private var request = WorkerRequest(method: .GET, uri: "")
    private var hasBody = false
    private var keepsAlive = true
    private var speaksHTTP10 = false
    private var delayedReply: Scheduled<Void>?
    /// Parts of at most one request.
    private var postponed = CircularBuffer<HTTPServerRequestPart>(initialCapacity: 4)
    private var isHandling = false

    init(service: InferenceService, maximumBodyBytes: Int) {
        self.service = service
        self.maximumBodyBytes = maximumBodyBytes
    }

    // MARK: Events

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        postponed.append(unwrapInboundIn(data))
        // Writing the end of an answer delivers the next pipelined request from within that call. Handled there and
        // then, thousands of requests in one packet would recurse as deep as there are of them; put off, each waits for
        // the one before to return.
        guard !isHandling else { return }
        isHandling = true
        while let part = postponed.popFirst() { handle(part, context) }
        isHandling = false
    }

    private func handle(_ part: HTTPServerRequestPart, _ context: ChannelHandlerContext) {
        switch (part, phase) {
        case (.head(let head), .idle): begin(head, context)
        case (.body(let part), .gathering): gather(part, context)
        case (.end, .gathering):
            phase = .answering
            answer(context)
        default: break
        }
    }

    func channelInactive(context: ChannelHandlerContext) {
        phase = .closing
        delayedReply?.cancel()
        context.fireChannelInactive()
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        if event is IdleStateHandler.IdleStateEvent {
            // While an answer is due it is us who keep the peer waiting.
            if phase != .answering { context.close(promise: nil) }
        } else {
            context.fireUserInboundEventTriggered(event)
        }
    }

    /// The peer is gone, or spoke something that is not HTTP and has been told so.
    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        context.close(promise: nil)
    }

    // MARK: Requests

    private func begin(_ head: HTTPRequestHead, _ context: ChannelHandlerContext) {
        phase = .gathering
        hasBody = false
        keepsAlive = head.isKeepAlive
        speaksHTTP10 = head.version == .http1_0
        request = WorkerRequest(method: head.method, uri: head.uri)
        var hosts = 0
        var expectsContinue = false
        var isTooLarge = false
        // One pass, by length first: the fields of interest have lengths of their own.
        for (name, value) in head.headers {
            switch name.utf8.count {
            case 4 where name.lowercased() == "host": hosts += 1
            case 6 where name.lowercased() == "expect": expectsContinue = value.lowercased() == "100-continue"
            case 12 where name.lowercased() == "x-request-id": request.requestID = value
            case 14 where name.lowercased() == "content-length":
                isTooLarge = Int(value).map { $0 > maximumBodyBytes } ?? true
            case 31 where name.lowercased() == "inference-header-content-length": request.hasBinaryTensors = true
            default: break
            }
        }
        if isTooLarge {
            refuse(.payloadTooLarge, "the body is larger than \(maximumBodyBytes) bytes", context)
        } else if !speaksHTTP10, hosts != 1 {
            // RFC 9112, section 3.2.
            refuse(.badRequest, "a request has exactly one Host field", context)
        } else if expectsContinue, !speaksHTTP10 {
            context.writeAndFlush(
                wrapOutboundOut(.head(HTTPResponseHead(version: .http1_1, status: .continue))), promise: nil)
        }
    }

    private func gather(_ part: ByteBuffer, _ context: ChannelHandlerContext) {
        guard request.body.readableBytes + part.readableBytes <= maximumBodyBytes else {
            return refuse(.payloadTooLarge, "the body is larger than \(maximumBodyBytes) bytes", context)
        }
        if hasBody {
            request.body.writeImmutableBuffer(part)
        } else {
            // The usual body arrives whole, and is then not copied.
            request.body = part
            hasBody = true
        }
    }

    /// Answers before the request is complete. What is still to come of it has no other end than that of the
    /// connection.
    private func refuse(_ status: HTTPResponseStatus, _ message: String, _ context: ChannelHandlerContext) {
        service.counters.countRefusal()
        keepsAlive = false
        phase = .answering
        send(.error(status, message), context, isLingering: true)
    }

    private func answer(_ context: ChannelHandlerContext) {
        let reply = service.reply(to: request)
        guard reply.delayMilliseconds > 0 else { return send(reply, context, isLingering: false) }
        let loop = context.eventLoop.assumeIsolated()
        delayedReply = loop.scheduleTask(in: .milliseconds(reply.delayMilliseconds)) {
            guard self.phase == .answering else { return }
            self.send(reply, context, isLingering: false)
        }
    }

    // MARK: Replies

    private func send(_ reply: Reply, _ context: ChannelHandlerContext, isLingering: Bool) {
        delayedReply = nil
        let sentBytes = reply.sentByteCount
        var headers = HTTPHeaders()
        headers.reserveCapacity(3 + reply.headers.count)
        headers.add(name: "content-type", value: reply.contentType)
        headers.add(name: "content-length", value: String(reply.declaredByteCount))
        if !keepsAlive {
            headers.add(name: "connection", value: "close")
        } else if speaksHTTP10 {
            headers.add(name: "connection", value: "keep-alive")
        }
        for (name, value) in reply.headers { headers.add(name: name, value: value) }
        let head = HTTPResponseHead(version: .http1_1, status: reply.status, headers: headers)
        context.write(wrapOutboundOut(.head(head)), promise: nil)

        if request.method != .HEAD { writeBody(reply, byteCount: sentBytes, context) }
        if case .cutShort = reply.bodyFault {
            phase = .closing
            context.flush()
            return context.close(promise: nil)
        }
        guard !keepsAlive else {
            // Set first: the next request may arrive from within the call.
            phase = .idle
            return context.writeAndFlush(wrapOutboundOut(.end(nil)), promise: nil)
        }
        phase = .closing
        context.writeAndFlush(wrapOutboundOut(.end(nil))).assumeIsolated().whenComplete { _ in
            self.close(context, isLingering: isLingering)
        }
    }

    private func writeBody(_ reply: Reply, byteCount: Int, _ context: ChannelHandlerContext) {
        var body = reply.body
        switch reply.bodyFault {
        case nil, .understated: context.write(wrapOutboundOut(.body(.byteBuffer(body))), promise: nil)
        case .cutShort:
            if let half = body.readSlice(length: byteCount) {
                context.write(wrapOutboundOut(.body(.byteBuffer(half))), promise: nil)
            }
        case .padded:
            context.write(wrapOutboundOut(.body(.byteBuffer(body))), promise: nil)
            // White space after a JSON text is part of it. All pieces share one block of memory.
            let block = ByteBuffer(repeating: UInt8(ascii: " "), count: 64 * 1024)
            var rest = byteCount - body.readableBytes
            while rest > 0, let piece = block.getSlice(at: 0, length: min(rest, block.readableBytes)) {
                context.write(wrapOutboundOut(.body(.byteBuffer(piece))), promise: nil)
                rest -= piece.readableBytes
            }
        }
    }

    /// Closing a socket that still has unread data resets the connection, and the peer may lose the answer with it (RFC
    /// 9112, section 9.6). So after an early answer our side closes first, and what the peer still sends is dropped for
    /// a second.
    private func close(_ context: ChannelHandlerContext, isLingering: Bool) {
        guard isLingering, context.channel.isActive else { return context.close(promise: nil) }
        context.close(mode: .output, promise: nil)
        context.eventLoop.assumeIsolated().scheduleTask(in: .seconds(1)) {
            context.close(promise: nil)
        }
    }
}

extension Reply {
    /// Bytes of the body that are sent, to a request that gets one.
    fileprivate var sentByteCount: Int {
        switch bodyFault {
        case nil, .understated: body.readableBytes
        case .cutShort: body.readableBytes / 2
        case .padded(let byteCount): max(byteCount, body.readableBytes)
        }
    }

    /// What `Content-Length` says.
    fileprivate var declaredByteCount: Int {
        switch bodyFault {
        case .cutShort: body.readableBytes
        case .understated(let byteCount): max(0, body.readableBytes - byteCount)
        case nil, .padded: sentByteCount
        }
    }
}
