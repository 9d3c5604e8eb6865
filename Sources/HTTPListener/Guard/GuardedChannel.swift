public import HummingbirdCore
public import Logging
public import NIOCore
internal import NIOHTTP1
public import NIOHTTPTypes
internal import NIOHTTPTypesHTTP1

/// A listener's connections: framing, parser, guard, what the listener puts behind them, and then Hummingbird.
///
/// The framework's own HTTP/1 channel offers a place for handlers behind its conversion of heads into `HTTPTypes`, which costs a
/// `URLComponents` for each request and hides the version and repeated `Host` fields. What is made here stands before the conversion;
/// only requests that the framework answers pay for it.
public struct GuardedChannel: ServerChildChannel, HTTPChannelHandler {
    public typealias Value = NIOAsyncChannel<HTTPRequestPart, HTTPResponsePart>

    public let responder: HTTPChannelHandler.Responder
    private let makeHandlers: @Sendable (any EventLoop) -> Handlers

    /// What stands before the parser, and what stands behind it.
    public struct Handlers {
        let framing: MessageFraming
        let parsed: [any ChannelHandler]

        /// - Parameter behind: handlers behind the guard, the first next to it.
        public init(framing: MessageFraming, guardian: ConnectionGuard, behind: [any ChannelHandler] = []) {
            self.framing = framing
            parsed = [guardian] + behind
        }
    }

    /// - Parameter makeHandlers: called once for each connection, on its event loop.
    public init(
        responder: @escaping HTTPChannelHandler.Responder, makeHandlers: @escaping @Sendable (any EventLoop) -> Handlers
    ) {
        self.responder = responder
        self.makeHandlers = makeHandlers
    }

    public func setup(channel: any Channel, logger: Logger) -> EventLoopFuture<Value> {
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
            try pipeline.addHandler(handlers.framing, position: .first)
            try pipeline.addHandlers(handlers.parsed)
            try pipeline.addHandler(HTTP1ToHTTPServerCodec(secure: false))
            try pipeline.addHandler(HTTPConnectionStateHandler(logger: logger))
            return try NIOAsyncChannel(
                wrappingChannelSynchronously: channel, configuration: .init(isOutboundHalfClosureEnabled: true))
        }
    }

    public func handle(value asyncChannel: Value, logger: Logger) async {
        await handleHTTP(asyncChannel: asyncChannel, logger: logger)
    }
}
