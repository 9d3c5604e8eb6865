internal import NIOCore
import NIOSSL

/// One connection: the last handler of its channel, confined to the channel's event loop.
///
/// Commands written within one tick of the loop leave in one write, and replies are given out in the order of the
/// commands; that order is all that ties a reply to its command. Therefore everything that could break it, a late reply
/// above all, ends the connection: every outstanding command fails and the keeper makes a new connection.
final class RedisConnection: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    private enum State {
        case open
        /// No more commands; ends when the outstanding replies are in.
        case draining
        case ended
    }

    private struct Outstanding {
        let completion: RedisRequest.Completion
        let deadline: NIODeadline
    }

    private var state = State.open
    private var context: ChannelHandlerContext?
    private var reader: ReplyReader
    private var outstanding = CircularBuffer<Outstanding>()
    private let maximumPendingCommands: Int

    /// Encoded commands that this tick has not sent yet, and how many they are: the tail of `outstanding`.
    private var unsent = ByteBuffer()
    private var unsentCount = 0
    private var flushIsScheduled = false

    /// One timer for all: deadlines grow along the queue, so only the first can be due. It stays when its command is
    /// answered and then finds out what is due next, so that most commands cost no timer.
    private var deadlineTimer: (due: NIODeadline, task: Scheduled<Void>)?
    private var hasSeenReply = false

    private let metrics: RedisMetrics
    /// Called for each pub/sub message. Its presence makes this a subscriber's connection.
    private let onMessage: ((RedisMessage) -> Void)?
    /// Called once, before the outstanding commands fail, so that whoever sends again from there finds it ended.
    var onEnd: ((RedisError) -> Void)?

    init(
        maximumPendingCommands: Int, metrics: RedisMetrics, onMessage: ((RedisMessage) -> Void)? = nil
    ) throws(RedisError) {
        reader = try ReplyReader()
        self.maximumPendingCommands = maximumPendingCommands
        self.metrics = metrics
        self.onMessage = onMessage
    }

    // MARK: Commands

    /// Queues a command; its reply has to be in by the deadline, which must not be before that of an earlier command.
    func send(_ request: RedisRequest, deadline: NIODeadline) {
        guard state == .open, context != nil else {
            request.complete(.failure(state == .draining ? .closed : .unavailable("the connection has ended")))
            return
        }
        guard outstanding.count < maximumPendingCommands else {
            metrics.failed(.overloaded)
            request.complete(.failure(.overloaded))
            return
        }
        outstanding.append(Outstanding(completion: request.completion, deadline: deadline))
        if unsentCount == 0 {
            unsent = request.bytes
        } else {
            unsent.writeImmutableBuffer(request.bytes)
        }
        unsentCount += 1
        scheduleFlush()
        scheduleDeadline()
    }

    /// Takes no more commands and closes when the last reply is in. The deadlines bound how long that can take.
    func drain() {
        guard state == .open else { return }
        state = .draining
        endIfDrained()
    }

    /// Ends the connection now.
    func abandon(_ error: RedisError) { end(error) }

    private func scheduleFlush() {
        guard !flushIsScheduled, let context else { return }
        flushIsScheduled = true
        // Runs after what the loop is doing now, and with it everything that this tick still adds.
        context.eventLoop.assumeIsolated().execute { self.flush() }
    }

    private func flush() {
        flushIsScheduled = false
        guard unsentCount > 0, let context, state != .ended else { return }
        metrics.sent(unsentCount)
        unsentCount = 0
        let bytes = unsent
        unsent = ByteBuffer()
        context.writeAndFlush(wrapOutboundOut(bytes), promise: nil)
    }

    private func scheduleDeadline() {
        guard let context, let first = outstanding.first else { return }
        if let deadlineTimer {
            // It may be left over from a log-in, which has a longer deadline than the commands after it.
            guard first.deadline < deadlineTimer.due else { return }
            deadlineTimer.task.cancel()
        }
        let task = context.eventLoop.assumeIsolated().scheduleTask(deadline: first.deadline) { self.deadlineCame() }
        deadlineTimer = (first.deadline, task)
    }

    private func deadlineCame() {
        deadlineTimer = nil
        guard let context, let first = outstanding.first else { return }
        if first.deadline <= context.eventLoop.now {
            end(.timeout)
        } else {
            scheduleDeadline()
        }
    }

    // MARK: Replies

    private func receive(_ buffer: ByteBuffer) {
        do throws(RedisError) {
            try feed(buffer)
            while state != .ended, let value = try reader.next() {
                hasSeenReply = true
                try deliver(value)
            }
        } catch {
            end(error)
        }
    }

    private func feed(_ buffer: ByteBuffer) throws(RedisError) {
        let failure: RedisError? = buffer.withUnsafeReadableBytes { bytes in
            do throws(RedisError) {
                try reader.feed(bytes)
                return nil
            } catch {
                return error
            }
        }
        if let failure { throw failure }
    }

    private func deliver(_ value: RedisValue) throws(RedisError) {
        if let onMessage, let message = RedisMessage(push: value) {
            onMessage(message)
            return
        }
        // A reply to a command that is still in `unsent` would be a reply to nothing.
        guard outstanding.count > unsentCount, let first = outstanding.popFirst() else {
            throw .protocolViolation("a reply came that no command asked for")
        }
        if case .error(let error) = value {
            metrics.failed(.serverError(error))
            first.completion.complete(.failure(.serverError(error)))
        } else {
            first.completion.complete(.success(value))
        }
        endIfDrained()
    }

    // MARK: The end

    private func endIfDrained() {
        if state == .draining, outstanding.isEmpty { end(.closed) }
    }

    private func end(_ error: RedisError) {
        guard state != .ended else { return }
        state = .ended
        deadlineTimer?.task.cancel()
        deadlineTimer = nil
        let waiting = outstanding
        let sentCount = waiting.count - unsentCount
        outstanding.removeAll()
        unsentCount = 0
        unsent = ByteBuffer()
        context?.close(promise: nil)
        let onEnd = self.onEnd
        self.onEnd = nil
        onEnd?(error)
        for (index, command) in waiting.enumerated() {
            // A command that never left is known not to have been executed, whatever ended the connection.
            let failure = index < sentCount ? error : .unavailable("the connection ended before the command was sent")
            metrics.failed(failure)
            command.completion.complete(.failure(failure))
        }
    }

    // MARK: Channel

    func handlerAdded(context: ChannelHandlerContext) { self.context = context }

    func handlerRemoved(context: ChannelHandlerContext) {
        end(.connectionLost)
        self.context = nil
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) { receive(unwrapInboundIn(data)) }

    func channelReadComplete(context: ChannelHandlerContext) {
        flush()
        context.fireChannelReadComplete()
    }

    func channelInactive(context: ChannelHandlerContext) {
        end(.connectionLost)
        context.fireChannelInactive()
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        let isFromTLS = error is NIOSSLError || error is NIOSSLExtraError || error is BoringSSLError
        // Once Redis has spoken, TLS is established; what fails then is the connection.
        end(isFromTLS && !hasSeenReply ? .tls(RedisConnection.text(of: error)) : .connectionLost)
    }

    /// An error's own words, cut to what a log line bears.
    static func text(of error: any Error) -> String { String(String(describing: error).prefix(300)) }
}
