internal import Domain
internal import Hummingbird
internal import HummingbirdCore
internal import Logging
internal import NIOCore
internal import NIOHTTP1
internal import NIOHTTPTypes
internal import NIOHTTPTypesHTTP1

/// The public listener's connections: parser, guard, data plane, and behind them Hummingbird.
///
/// The framework's own HTTP/1 channel offers a place for handlers behind its conversion of heads into `HTTPTypes`, which costs a
/// `URLComponents` for each request and hides the version and repeated `Host` fields. Guard and data plane stand before the conversion;
/// only requests of the control plane pay for it.
struct GatewayChannel: ServerChildChannel, HTTPChannelHandler {
    typealias Value = NIOAsyncChannel<HTTPRequestPart, HTTPResponsePart>

    let responder: HTTPChannelHandler.Responder
    let makeHandlers: @Sendable (any EventLoop) -> Handlers

    /// What stands before the parser, and what stands behind it.
    struct Handlers {
        var raw: any ChannelHandler
        var parsed: [any ChannelHandler]
    }

    func setup(channel: any Channel, logger: Logger) -> EventLoopFuture<Value> {
        channel.eventLoop.makeCompletedFuture {
            var limits = NIOHTTPDecoderLimitConfiguration()
            limits.maxHeaderFieldSize = 16 * 1_024
            limits.maxHeaderListSize = 32 * 1_024
            limits.maxHeaderFieldCount = 100
            let pipeline = channel.pipeline.syncOperations
            try pipeline.configureHTTPServerPipeline(
                withPipeliningAssistance: false, withErrorHandling: false, withOutboundHeaderValidation: true,
                withEncoderConfiguration: .init(), withDecoderLimitConfiguration: limits)
            let handlers = makeHandlers(channel.eventLoop)
            try pipeline.addHandler(handlers.raw, position: .first)
            try pipeline.addHandlers(handlers.parsed)
            try pipeline.addHandler(HTTP1ToHTTPServerCodec(secure: false))
            try pipeline.addHandler(HTTPConnectionStateHandler(logger: logger))
            return try NIOAsyncChannel(
                wrappingChannelSynchronously: channel, configuration: .init(isOutboundHalfClosureEnabled: true))
        }
    }

    func handle(value asyncChannel: Value, logger: Logger) async {
        await handleHTTP(asyncChannel: asyncChannel, logger: logger)
    }
}
