internal import Domain
internal import Glibc
internal import HTTPListener
internal import NIOCore

/// What the requests of one event loop share: an executor, a source of identifiers, the text of the date. Confined to its loop.
final class LoopContext: CompletionLane {
    let eventLoop: any EventLoop
    let executor: LoopExecutor
    private let state: NIOLoopBoundBox<State>

    private struct State {
        var random = BufferedRandom()
        var dateSeconds: Int64 = .min
        var dateText: [UInt8] = []
        var body = ByteBuffer()
        var answer = ByteBuffer()
        var flushes: [ChannelHandlerContext] = []
        var work = WorkUnderWay()
    }

    /// Must be made on `eventLoop`.
    init(eventLoop: any EventLoop) {
        self.eventLoop = eventLoop
        executor = LoopExecutor(eventLoop)
        state = NIOLoopBoundBox(State(), eventLoop: eventLoop)
    }

    func run(_ work: @escaping @Sendable () -> Void) { eventLoop.execute(work) }

    func makeRequestID(at now: Timestamp) -> RequestID {
        RequestID(at: now, using: &state.value.random)
    }

    /// A request of the model begins to wait for a worker.
    func enter(_ model: String) -> Int? { state.value.work.enter(model) }

    /// It has its answer, or will have none.
    func leave(_ slot: Int?) { state.value.work.leave(slot) }

    /// See ``WorkUnderWay``. On the loop only, as all of this.
    var underWay: [(model: String, count: Int)] { state.value.work.counts }

    /// Composes an answer from its body and what stands before it, in memory that the last answer of this loop has left.
    ///
    /// The bytes are with the kernel before the next answer is composed, nearly always; where they are not, the buffers copy themselves.
    func composeAnswer(_ compose: (_ body: inout ByteBuffer, _ answer: inout ByteBuffer) -> Void) -> ByteBuffer {
        var (body, answer) = (ByteBuffer(), ByteBuffer())
        swap(&body, &state.value.body)
        swap(&answer, &state.value.answer)
        body.clear(minimumCapacity: 512)
        answer.clear(minimumCapacity: 2_048)
        compose(&body, &answer)
        if body.capacity <= Self.keptBytes { state.value.body = body }
        if answer.capacity <= Self.keptBytes { state.value.answer = answer }
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
        swap(&ready, &state.value.flushes)
        for context in ready { context.flush() }
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
