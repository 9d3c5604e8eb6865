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

    public init(status: Int, body: ByteBuffer) {
        self.status = status
        self.body = body
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
}
