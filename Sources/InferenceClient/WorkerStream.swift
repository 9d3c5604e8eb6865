public import Domain
public import NIOCore

/// Who is told what a worker sends, while it sends it. Called on the call's event loop, in order; after ``workerEnded(_:)`` no more.
public protocol WorkerStreamReceiver: AnyObject, Sendable {
    /// The head of the answer. Not called for a call that fails before.
    func workerOpened(status: Int, contentType: String?)
    /// Some bytes of the body, as they came.
    func workerSent(_ bytes: ByteBuffer)
    /// - Parameter failure: `nil` where the answer is whole.
    func workerEnded(_ failure: WorkerFailure?)
}

/// How long a stream may take and pause.
public struct StreamDeadlines: Sendable, Hashable {
    public var connectMilliseconds: Int64
    /// From the request being written to the first byte of the answer.
    public var firstByteMilliseconds: Int64
    /// Between two pieces of the answer.
    public var gapMilliseconds: Int64
    public var totalMilliseconds: Int64

    public init(
        connectMilliseconds: Int64, firstByteMilliseconds: Int64, gapMilliseconds: Int64, totalMilliseconds: Int64
    ) {
        self.connectMilliseconds = connectMilliseconds
        self.firstByteMilliseconds = firstByteMilliseconds
        self.gapMilliseconds = gapMilliseconds
        self.totalMilliseconds = totalMilliseconds
    }
}

/// A stream under way: what its receiver may do about it. To be called on the event loop of the call.
public struct WorkerStream: Sendable {
    let control: NIOLoopBound<StreamControl>

    /// Reads on, or leaves what comes to the kernel, so that a worker is not faster than whoever takes its answer.
    public func setReading(_ isOn: Bool) { control.value.setReading(isOn) }

    /// Closes the connection, which tells the worker to stop. The receiver hears nothing more.
    public func cancel() { control.value.cancel() }
}

/// What joins an exchange to its receiver. Confined to its loop.
final class StreamControl {
    let receiver: any WorkerStreamReceiver
    let gap: TimeAmount
    private unowned let owner: LoopPool
    weak var exchange: Exchange?
    private(set) var isOpen = false
    private(set) var isReading = true
    private var isOver = false

    init(receiver: any WorkerStreamReceiver, gap: TimeAmount, owner: LoopPool) {
        self.receiver = receiver
        self.gap = gap
        self.owner = owner
    }

    func open(status: Int, contentType: String?) {
        guard !isOver, !isOpen else { return }
        isOpen = true
        receiver.workerOpened(status: status, contentType: contentType)
    }

    func send(_ bytes: ByteBuffer) {
        guard !isOver, bytes.readableBytes > 0 else { return }
        receiver.workerSent(bytes)
    }

    func end(_ failure: WorkerFailure?) {
        guard !isOver else { return }
        isOver = true
        receiver.workerEnded(failure)
    }

    func setReading(_ isOn: Bool) {
        guard !isOver, isOn != isReading else { return }
        isReading = isOn
        // Whoever does not read cannot say that nothing comes.
        exchange?.pieceArrived(now: .now(), isReading: isOn)
        if let exchange { owner.wake(at: exchange.deadline) }
        exchange?.connection?.setReading(isOn)
    }

    func cancel() {
        guard !isOver else { return }
        isOver = true
        if let exchange { owner.abandon(exchange) }
    }
}

extension WorkerClient {
    /// Sends a request whose answer is taken piece by piece. One attempt, as ``send(_:to:deadlines:on:)``.
    ///
    /// To be called on `eventLoop`, which has to be a loop of the group that the client was made for.
    /// - Returns: `nil` after shutting down, where the receiver hears nothing.
    public func openStream(
        _ request: WorkerRequest, to address: WorkerAddress, deadlines: StreamDeadlines, on eventLoop: any EventLoop,
        receiver: any WorkerStreamReceiver
    ) -> WorkerStream? {
        guard let pool = pool(of: eventLoop) else { return nil }
        let control = StreamControl(
            receiver: receiver, gap: WorkerDeadlines.amount(milliseconds: deadlines.gapMilliseconds), owner: pool)
        let bound = NIOLoopBound(control, eventLoop: eventLoop)
        pool.start(
            request, to: address,
            deadlines: WorkerDeadlines(
                connectMilliseconds: deadlines.connectMilliseconds,
                firstByteMilliseconds: deadlines.firstByteMilliseconds,
                totalMilliseconds: deadlines.totalMilliseconds),
            stream: control)
        return WorkerStream(control: bound)
    }
}
