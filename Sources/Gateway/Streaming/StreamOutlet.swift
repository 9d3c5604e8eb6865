internal import Domain
internal import HTTPListener
internal import NIOCore

/// The caller's side of a stream: writes what the pipeline gives it, and knows how much of that the caller's connection has taken. Confined to
/// its loop.
final class StreamOutlet {
    private let handler: DataPlaneHandler
    private let request: ReadyRequest
    private let loop: LoopContext
    let mailbox: StreamMailbox
    /// Output tokens, and bytes, that the system has taken for the caller.
    private(set) var deliveredTokens: Int64 = 0
    private(set) var deliveredBytes: Int64 = 0
    /// By the monotonic clock: when bytes were last written.
    private(set) var writtenAtNanoseconds: UInt64 = 0
    private(set) var hasBegun = false
    private var writesUnderWay = 0
    private(set) var isGone = false
    private let time: any TimeSource

    init(handler: DataPlaneHandler, request: ReadyRequest, loop: LoopContext, time: any TimeSource) {
        self.handler = handler
        self.request = request
        self.loop = loop
        self.time = time
        mailbox = StreamMailbox(eventLoop: loop.eventLoop, tickMilliseconds: 1_000)
    }

    var isWritable: Bool { !isGone && request.context.channel.isWritable }
    var clientID: ClientRequestID? { request.clientID }
    var staysOpen: Bool { handler.staysOpen(behind: request) }

    /// - Parameter head: of the answer, whole, up to the empty line.
    func begin(_ head: ByteBuffer) {
        guard !isGone else { return }
        hasBegun = true
        write(head, tokens: 0, byteCount: 0)
    }

    /// - Parameters:
    ///   - events: whole events, which are one chunk of the answer.
    ///   - tokens: what they count as.
    func send(_ events: ByteBuffer, tokens: Int64) {
        guard !isGone, events.readableBytes > 0 else { return }
        write(Self.chunk(events), tokens: tokens, byteCount: Int64(events.readableBytes))
    }

    /// Ends the answer; the connection may carry the next request.
    func finish(_ events: ByteBuffer) {
        guard !isGone else { return close() }
        var last = events.readableBytes > 0 ? Self.chunk(events) : ByteBuffer()
        last.writeStaticString("0\r\n\r\n")
        write(last, tokens: 0, byteCount: Int64(events.readableBytes))
        mailbox.close()
        handler.streamFinished(request)
    }

    /// Ends the connection in the middle of the answer: whoever gets it knows that it is not whole.
    func close() {
        mailbox.close()
        handler.streamAborted(request)
    }

    /// Nothing was written: the answer goes the usual way.
    func withdraw() {
        mailbox.close()
        handler.streamWithdrawn()
    }

    // MARK: what the connection says

    func clientLeft() {
        guard !isGone else { return }
        isGone = true
        mailbox.post(.clientLeft)
    }

    func becameWritable() { mailbox.post(.writable) }

    func stop() { mailbox.post(.stopping) }

    private func write(_ bytes: ByteBuffer, tokens: Int64, byteCount: Int64) {
        writtenAtNanoseconds = time.monotonicNanoseconds
        let taken = loop.eventLoop.makePromise(of: Void.self)
        writesUnderWay += 1
        taken.futureResult.assumeIsolated().whenComplete { [self] result in
            writesUnderWay -= 1
            guard case .success = result else { return }
            deliveredTokens += tokens
            deliveredBytes += byteCount
            if writesUnderWay == 0 { mailbox.post(.writable) }
        }
        handler.writeStream(bytes, taken)
    }

    /// Returns when it is known of all that was written whether the caller's connection has taken it.
    /// - Parameter stallNanoseconds: a caller that takes nothing for so long has left.
    func awaitWrites(stallNanoseconds: UInt64) async {
        while writesUnderWay > 0, !isGone {
            switch await mailbox.next() {
            case .tick where time.monotonicNanoseconds &- writtenAtNanoseconds >= stallNanoseconds: clientLeft()
            default: continue
            }
        }
    }

    private static func chunk(_ events: ByteBuffer) -> ByteBuffer {
        var chunk = ByteBuffer()
        chunk.reserveCapacity(events.readableBytes + 16)
        chunk.writeString(String(events.readableBytes, radix: 16))
        chunk.writeStaticString("\r\n")
        chunk.writeImmutableBuffer(events)
        chunk.writeStaticString("\r\n")
        return chunk
    }
}
