public import NIOCore

/// One call to a worker. The path and the content type come from the route table, never from a customer.
public struct WorkerRequest: Sendable {
    public enum Method: String, Sendable {
        case get = "GET"
        case post = "POST"
    }

    /// `get` is for health and metadata and carries no body.
    public var method: Method
    /// The request target: starts with `/` and is visible ASCII. ``isValid(path:)`` says whether it may be sent; the
    /// client checks it once for each replica and path and remembers the head that it built.
    public var path: String
    /// The bytes that are forwarded as they are.
    public var body: ByteBuffer
    public var contentType: String
    /// Sent as `x-request-id`: 1 to 256 bytes of visible ASCII.
    public var requestID: String
    /// W3C Trace Context. A value that could break out of its header line is left out, as that document asks.
    public var traceParent: String?
    public var traceState: String?
    /// Whether the request may reach a worker twice: if not, it is not sent again where a kept connection turns out to be closed.
    public var isSafeToRepeat: Bool

    public init(
        method: Method = .post,
        path: String,
        body: ByteBuffer = ByteBuffer(),
        contentType: String = "application/json",
        requestID: String,
        traceParent: String? = nil,
        traceState: String? = nil,
        isSafeToRepeat: Bool = true
    ) {
        self.method = method
        self.path = path
        self.body = body
        self.contentType = contentType
        self.requestID = requestID
        self.traceParent = traceParent
        self.traceState = traceState
        self.isSafeToRepeat = isSafeToRepeat
    }

    /// Whether a path may be a request target: starts with `/`, at most 2,048 bytes, visible ASCII and no fragment.
    public static func isValid(path: String) -> Bool {
        guard path.utf8.first == UInt8(ascii: "/"), path.utf8.count <= 2048 else { return false }
        return path.utf8.allSatisfy { (0x21...0x7E).contains($0) && $0 != UInt8(ascii: "#") }
    }
}

/// How long each part of a call may take. Zero or less is over at once; more than a day counts as a day.
public struct WorkerDeadlines: Sendable, Hashable {
    /// Name look-up, TCP and TLS together; also how long a call may wait for a free connection.
    public var connectMilliseconds: Int64
    /// From the request being written to the first byte of a response.
    public var firstByteMilliseconds: Int64
    /// From the call to the last byte, a retry included.
    public var totalMilliseconds: Int64

    public init(connectMilliseconds: Int64, firstByteMilliseconds: Int64, totalMilliseconds: Int64) {
        self.connectMilliseconds = connectMilliseconds
        self.firstByteMilliseconds = firstByteMilliseconds
        self.totalMilliseconds = totalMilliseconds
    }

    static func amount(milliseconds: Int64) -> TimeAmount {
        .milliseconds(max(0, min(milliseconds, 86_400_000)))
    }
}

/// A whole answer. Header fields other than these stay here: what a worker says about its connection is no one else's
/// business.
public struct WorkerReply: Sendable {
    /// 200 to 299, or 400 to 599: a redirect is a failure.
    public let status: Int
    public let contentType: String?
    public let body: ByteBuffer
    /// What the fields `x-usage-…` say; of use where the body cannot.
    public let usage: ReportedUsage
}

/// Counts of tokens in the head of a response.
public struct ReportedUsage: Sendable, Equatable {
    public internal(set) var inputTokens: Int64?
    public internal(set) var cachedInputTokens: Int64?
    public internal(set) var outputTokens: Int64?
    /// Whether one of them was no count, or there twice: then nobody knows what was used.
    public internal(set) var isUnusable = false

    public init() {}

    mutating func take(_ count: Int?, as name: WritableKeyPath<ReportedUsage, Int64?>) {
        if count == nil || self[keyPath: name] != nil { isUnusable = true }
        self[keyPath: name] = count.map { Int64($0) }
    }
}
