internal import Domain
internal import NIOCore
internal import NIOHTTP1
internal import NIOSSL

/// One request and the head of its answer, on a connection of its own.
///
/// The status decides, so the promise is kept as soon as the head is there. The body is taken, up to a kilobyte and for a second, only so that a
/// receiver that is still writing is not cut off; nothing of it is kept.
final class WebhookExchange: ChannelInboundHandler {
    typealias InboundIn = HTTPClientResponsePart
    typealias OutboundOut = HTTPClientRequestPart

    private static let bodyLimit = 1_024
    private static let bodyTime = TimeAmount.seconds(1)

    private let message: WebhookMessage
    private let status: EventLoopPromise<Int>
    private var bodyBytes = 0
    private var hasHead = false

    init(_ message: WebhookMessage, status: EventLoopPromise<Int>) {
        self.message = message
        self.status = status
    }

    /// With TLS the bytes wait for the handshake: nothing leaves before certificate and name are verified.
    func channelActive(context: ChannelHandlerContext) {
        var head = HTTPRequestHead(version: .http1_1, method: .POST, uri: message.url.target)
        head.headers.add(name: "host", value: message.url.authority)
        head.headers.add(name: "content-type", value: "application/json")
        head.headers.add(name: "content-length", value: String(message.body.count))
        head.headers.add(name: "user-agent", value: "weir-webhooks/1")
        head.headers.add(name: "connection", value: "close")
        for field in message.fields { head.headers.add(name: field.name, value: field.value) }
        context.write(wrapOutboundOut(.head(head)), promise: nil)
        context.write(wrapOutboundOut(.body(.byteBuffer(ByteBuffer(bytes: message.body)))), promise: nil)
        context.writeAndFlush(wrapOutboundOut(.end(nil)), promise: nil)
        context.fireChannelActive()
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        switch unwrapInboundIn(data) {
        case .head(let head):
            // What comes before the answer proper is not it.
            guard !(100...199).contains(head.status.code) else { return }
            hasHead = true
            status.succeed(Int(head.status.code))
            let channel = context.channel
            context.eventLoop.scheduleTask(in: Self.bodyTime) { channel.close(promise: nil) }
        case .body(let bytes):
            bodyBytes += bytes.readableBytes
            if bodyBytes > Self.bodyLimit { context.close(promise: nil) }
        case .end: if hasHead { context.close(promise: nil) }
        }
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        switch error {
        case is NIOSSLError, is BoringSSLError, is NIOSSLExtraError: status.fail(WebhookFailure.tls)
        case is HTTPParserError: status.fail(WebhookFailure.malformedAnswer)
        default: status.fail(WebhookFailure.closed)
        }
        context.close(promise: nil)
    }

    func channelInactive(context: ChannelHandlerContext) {
        status.fail(WebhookFailure.closed)
        context.fireChannelInactive()
    }
}
