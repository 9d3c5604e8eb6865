internal import Domain
internal import Glibc
internal import HTTPListener
internal import NIOCore

/// What the requests of one event loop share: an executor, a source of identifiers, the text of the date. Confined to its loop.
final class LoopContext: CompletionLane {
    let eventLoop: any EventLoop
    let executor: LoopExecutor
    let runners: RequestRunners
    private let state: NIOLoopBoundBox<State>

    private struct State {
        var random = BufferedRandom()
        var dateSeconds: Int64 = .min
        var dateText: [UInt8] = []
        var body = ByteBuffer()
        /// One for each answer that may wait to be flushed, and one for the next.
        var answers = [ByteBuffer](repeating: ByteBuffer(), count: flushLimit + 1)
        var nextAnswer = 0
        var flushes: [ChannelHandlerContext] = []
        /// Memory of flushes that are done, for those that come next.
        var spareFlushes: [ChannelHandlerContext] = []
    }

    /// Must be made on `eventLoop`.
    init(eventLoop: any EventLoop) {
        self.eventLoop = eventLoop
        executor = LoopExecutor(eventLoop)
        runners = RequestRunners(eventLoop: eventLoop)
        state = NIOLoopBoundBox(State(), eventLoop: eventLoop)
    }

    func run(_ work: @escaping @Sendable () -> Void) { eventLoop.execute(work) }

    func makeRequestID(at now: Timestamp) -> RequestID {
        RequestID(at: now, using: &state.value.random)
    }

    /// Composes an answer from its body and what stands before it, in memory that an earlier answer of this loop has left.
    ///
    /// Its bytes are with the kernel by then, nearly always; where they are not, the buffer copies itself.
    func composeAnswer(_ compose: (_ body: inout ByteBuffer, _ answer: inout ByteBuffer) -> Void) -> ByteBuffer {
        var (body, answer) = (ByteBuffer(), ByteBuffer())
        swap(&body, &state.value.body)
        let place = state.value.nextAnswer
        state.value.nextAnswer = place == Self.flushLimit ? 0 : place + 1
        swap(&answer, &state.value.answers[place])
        body.clear(minimumCapacity: 512)
        answer.clear(minimumCapacity: 2_048)
        compose(&body, &answer)
        if body.capacity <= Self.keptBytes { state.value.body = body }
        if answer.capacity <= Self.keptBytes { state.value.answers[place] = answer }
        return answer
    }

    private static let keptBytes = 65_536

    /// Flushes what was written to `context` at the end of the loop's present turn, or when so many wait.
    ///
    /// The answers of one commit leave one right after the other then. Each on its own, they would wake their reader again and again.
    func flushSoon(_ context: ChannelHandlerContext) {
        state.value.flushes.append(context)
        let count = state.value.flushes.count
        if count == 1 {
            eventLoop.execute { self.flush() }
        } else if count >= Self.flushLimit {
            flush()
        }
    }

    private func flush() {
        var ready: [ChannelHandlerContext] = []
        swap(&ready, &state.value.spareFlushes)
        swap(&ready, &state.value.flushes)
        for context in ready { context.flush() }
        ready.removeAll(keepingCapacity: true)
        swap(&ready, &state.value.spareFlushes)
    }

    private static let flushLimit = 16

    /// The value of the `Date` field (RFC 9110, section 6.6.1), made anew once a second.
    func withDate(at now: Timestamp, _ body: ([UInt8]) -> Void) {
        let seconds = now.microsecondsSince1970 / 1_000_000
        if seconds != state.value.dateSeconds {
            state.value.dateSeconds = seconds
            state.value.dateText = Array(httpDate(secondsSince1970: seconds).utf8)
        }
        body(state.value.dateText)
    }
}

/// The system's random numbers, read in blocks: one call of the kernel per sixteen requests instead of two per request.
struct BufferedRandom: RandomNumberGenerator {
    private var words: [UInt64] = []

    mutating func next() -> UInt64 {
        if words.isEmpty {
            // 256 bytes, the most that one call gives.
            words = [UInt64](repeating: 0, count: 32)
            guard words.withUnsafeMutableBytes({ getentropy($0.baseAddress, $0.count) }) == 0 else {
                words = []
                var system = SystemRandomNumberGenerator()
                return system.next()
            }
        }
        return words.removeLast()
    }
}
