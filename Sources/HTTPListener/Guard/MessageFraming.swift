internal import Domain
public import NIOCore

/// Stands before the parser and follows where each message begins and ends, because the parser hides what stands between a body's chunks: a
/// client could send extensions without end that nobody sees or counts.
///
/// Gives the parser one head, one body's part at a time where it has to look, and the bytes as they came where they are one request. What a
/// head means is read by the parser alone; the guard behind it tells how the body is framed.
public final class MessageFraming: ChannelInboundHandler, RemovableChannelHandler {
    public typealias InboundIn = ByteBuffer
    public typealias InboundOut = ByteBuffer

    /// How the body that follows a head is delimited.
    enum Body: Equatable, Sendable {
        case length(Int)
        case chunked
    }

    private enum State {
        case head(HeadScanner)
        case length(Int)
        case chunked(ChunkScanner)
        /// The connection is being closed; what comes is nobody's.
        case stopped
    }

    private let guardian: ConnectionGuard
    private let takeWhole: ((ByteBuffer) -> Bool)?
    private var state = State.head(HeadScanner())
    /// Whether the handlers behind were given something in this read.
    private var hasPassed = false

    /// - Parameter takeWhole: is offered the bytes of a read that may be a whole request, ahead of the parser; says whether it took them.
    public init(guardian: ConnectionGuard, takeWhole: ((ByteBuffer) -> Bool)? = nil) {
        self.guardian = guardian
        self.takeWhole = takeWhole
    }

    public func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        var bytes = unwrapInboundIn(data)
        if case .head(let scanner) = state, scanner.isFresh {
            if let takeWhole, takeWhole(bytes) { return }
            if bytes.withUnsafeReadableBytes({ HeadScanner.isOneRequest($0) }) {
                var whole = scanner
                _ = bytes.withUnsafeReadableBytes { whole.scan($0) }
                guardian.lastHead = whole
                hasPassed = true
                context.fireChannelRead(data)
                if guardian.isRefusing || guardian.isLastRequest { state = .stopped }
                return
            }
        }
        while bytes.readableBytes > 0 {
            switch state {
            case .head(let scanner): passHead(scanner, &bytes, context)
            case .length(let rest):
                let count = min(rest, bytes.readableBytes)
                state = rest == count ? afterMessage : .length(rest - count)
                pass(count, of: &bytes, context)
            case .chunked(let scanner): passChunks(scanner, &bytes, context)
            case .stopped: return
            }
        }
    }

    public func channelReadComplete(context: ChannelHandlerContext) {
        guard hasPassed else { return }
        hasPassed = false
        context.fireChannelReadComplete()
    }

    private func passHead(_ before: HeadScanner, _ bytes: inout ByteBuffer, _ context: ChannelHandlerContext) {
        var scanner = before
        let end = bytes.withUnsafeReadableBytes { scanner.scan($0) }
        guardian.lastHead = scanner
        state = .head(scanner)
        let headCount = guardian.headCount
        pass(end ?? bytes.readableBytes, of: &bytes, context)
        if guardian.isRefusing {
            state = .stopped
        } else if end != nil {
            // Empty lines before a request make no head; they are allowed and ignored (RFC 9112, section 2.2).
            guard guardian.headCount != headCount else { return state = .head(HeadScanner()) }
            switch guardian.lastBody {
            case .chunked: state = .chunked(ChunkScanner())
            case .length(0): state = afterMessage
            case .length(let count): state = .length(count)
            }
        }
    }

    private func passChunks(_ before: ChunkScanner, _ bytes: inout ByteBuffer, _ context: ChannelHandlerContext) {
        var scanner = before
        switch bytes.withUnsafeReadableBytes({ scanner.scan($0) }) {
        case .open:
            state = .chunked(scanner)
            pass(bytes.readableBytes, of: &bytes, context)
        case .complete(let count):
            state = afterMessage
            pass(count, of: &bytes, context)
        case .refused:
            state = .stopped
            guardian.refuseBrokenBody(
                Refusal(
                    .badRequest,
                    "The body's chunks are malformed, or carry extensions of more than \(ChunkScanner.extensionByteLimit) bytes."
                ))
        }
        if guardian.isRefusing { state = .stopped }
    }

    private var afterMessage: State { guardian.isLastRequest ? .stopped : .head(HeadScanner()) }

    private func pass(_ count: Int, of bytes: inout ByteBuffer, _ context: ChannelHandlerContext) {
        guard let slice = bytes.readSlice(length: count) else { return }
        hasPassed = true
        context.fireChannelRead(wrapInboundOut(slice))
    }
}
