internal import NIOCore

/// What can happen to a stream, in the order in which it does.
enum StreamEvent: Sendable {
    /// The head of the worker's answer.
    case opened(status: Int, contentType: String?)
    case piece(ByteBuffer)
    /// `nil` where the worker's answer is whole.
    case workerEnded(BackendFailure?)
    case clientLeft
    /// The caller's connection takes bytes again.
    case writable
    /// Some time has gone by; whoever waits for something that does not come finds out by it.
    case tick
    /// The gateway waits no longer.
    case stopping
}

/// Where a stream's task hears of everything at one place: the worker, the caller and the time. Confined to its loop.
///
/// It needs no bound of its own: the worker is not read from while its pieces are not taken, and all else comes once or replaces itself.
final class StreamMailbox: WorkerStreamReceiver {
    private struct State {
        var events = CircularBuffer<StreamEvent>()
        var waiter: UnsafeContinuation<StreamEvent, Never>?
        var hasTick = false
        var ticks: RepeatedTask?
    }

    private let eventLoop: any EventLoop
    private let state: NIOLoopBoundBox<State>

    /// Must be made on `eventLoop`.
    init(eventLoop: any EventLoop, tickMilliseconds: Int64) {
        self.eventLoop = eventLoop
        state = NIOLoopBoundBox(State(), eventLoop: eventLoop)
        let tick = TimeAmount.milliseconds(tickMilliseconds)
        state.value.ticks = eventLoop.scheduleRepeatedTask(initialDelay: tick, delay: tick) { [weak self] _ in
            self?.post(.tick)
        }
    }

    /// The next event. To be asked by one task at a time.
    func next() async -> StreamEvent {
        if let event = state.value.events.popFirst() {
            if case .tick = event { state.value.hasTick = false }
            return event
        }
        return await withUnsafeContinuation { state.value.waiter = $0 }
    }

    /// To be called on the loop.
    func post(_ event: StreamEvent) {
        if let waiter = state.value.waiter {
            state.value.waiter = nil
            return waiter.resume(returning: event)
        }
        if case .tick = event {
            guard !state.value.hasTick else { return }
            state.value.hasTick = true
        }
        state.value.events.append(event)
    }

    /// Forgets what a worker said that is given up for another one.
    func forgetWorker() {
        state.value.events = CircularBuffer(
            state.value.events.filter { event in
                switch event {
                case .opened, .piece, .workerEnded: false
                case .clientLeft, .writable, .tick, .stopping: true
                }
            })
    }

    func close() {
        state.value.ticks?.cancel()
        state.value.ticks = nil
    }

    func workerOpened(status: Int, contentType: String?) { post(.opened(status: status, contentType: contentType)) }
    func workerSent(_ bytes: ByteBuffer) { post(.piece(bytes)) }
    func workerEnded(_ failure: BackendFailure?) { post(.workerEnded(failure)) }
}
