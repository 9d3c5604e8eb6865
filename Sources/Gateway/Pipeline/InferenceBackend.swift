public import Domain
public import NIOCore

/// One call of a worker.
public struct WorkerCall: Sendable {
    public let address: WorkerAddress
    /// From the route table's protocol, never from the client.
    public let path: String
    public let body: ByteBuffer
    public let requestID: String
    public let traceParent: String?
    public let traceState: String?
    public let connectMilliseconds: Int64
    /// From the request being written to the first byte of the answer.
    public let firstByteMilliseconds: Int64
    public let totalMilliseconds: Int64
    /// Whether the client may send it once more where a kept connection turns out to be closed.
    public let isSafeToRepeat: Bool
}

public struct WorkerAnswer: Sendable {
    public let status: Int
    public let body: ByteBuffer
    public let contentType: String?
    /// What the head says of the tokens used, for an answer whose body cannot; `nil` for one that cannot be counted.
    public let headUsage: HeadUsage?

    public init(status: Int, body: ByteBuffer, contentType: String? = nil, headUsage: HeadUsage? = HeadUsage()) {
        self.status = status
        self.body = body
        self.contentType = contentType
        self.headUsage = headUsage
    }
}

/// Counts of tokens in the head of an answer; `nil` where the worker reports none.
public struct HeadUsage: Sendable {
    public var inputTokens: Int64?
    public var cachedInputTokens: Int64?
    public var outputTokens: Int64?

    public init(inputTokens: Int64? = nil, cachedInputTokens: Int64? = nil, outputTokens: Int64? = nil) {
        self.inputTokens = inputTokens
        self.cachedInputTokens = cachedInputTokens
        self.outputTokens = outputTokens
    }
}

/// Why a call of a worker gave nothing.
public enum BackendFailure: Error, Sendable {
    /// Nothing reached the worker; another replica may be tried.
    case unreachable(cause: String)
    case timeout(cause: String)
    /// The worker broke the protocol or the connection.
    case badAnswer(cause: String)
    /// The worker answered, and the answer cannot be read or followed: a redirect, one that is too large.
    case unusableAnswer(cause: String)
    /// Too many calls are under way to this worker.
    case overloaded
    /// The caller gave the call up.
    case cancelled
}

/// Speaks to workers on the event loop of the request.
public protocol InferenceBackend: Sendable {
    func send(_ call: WorkerCall, on eventLoop: any EventLoop) async throws(BackendFailure) -> WorkerAnswer

    /// Calls a worker whose answer is taken piece by piece. To be called on `eventLoop`, on which the receiver is told.
    func openStream(
        _ call: WorkerCall, gapMilliseconds: Int64, on eventLoop: any EventLoop, receiver: any WorkerStreamReceiver
    ) -> (any WorkerStreamHandle)?
}

/// Who is told what a worker sends, while it sends it; in order, and nothing after the end.
public protocol WorkerStreamReceiver: AnyObject, Sendable {
    func workerOpened(status: Int, contentType: String?)
    func workerSent(_ bytes: ByteBuffer)
    /// - Parameter failure: `nil` where the answer is whole.
    func workerEnded(_ failure: BackendFailure?)
}

/// A stream under way. To be used on the event loop of the call.
public protocol WorkerStreamHandle: Sendable {
    /// Reads on, or lets the worker wait.
    func setReading(_ isOn: Bool)
    /// Tells the worker to stop; the receiver hears nothing more.
    func cancel()
}
