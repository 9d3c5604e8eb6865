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
    public let totalMilliseconds: Int64
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
    /// Too many calls are under way to this worker.
    case overloaded
}

/// Speaks to workers on the event loop of the request.
public protocol InferenceBackend: Sendable {
    func send(_ call: WorkerCall, on eventLoop: any EventLoop) async throws(BackendFailure) -> WorkerAnswer
}
