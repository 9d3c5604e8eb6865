internal import Domain
internal import NIOCore

/// The bytes of a request head that do not change between two requests for the same path of the same replica.
///
/// Built and checked once, then copied: on the hot path nothing is formatted but the length of the body.
final class RequestHead {
    let method: WorkerRequest.Method
    let path: String
    let contentType: String
    private let prefix: ByteBuffer

    /// `nil` if the path or the content type must not be sent.
    init?(method: WorkerRequest.Method, path: String, contentType: String, address: WorkerAddress) {
        guard WorkerRequest.isValid(path: path), Self.isFieldValue(contentType, longest: 128) else { return nil }
        self.method = method
        self.path = path
        self.contentType = contentType
        var text = "\(method.rawValue) \(path) HTTP/1.1\r\nhost: \(address)\r\n"
        if method == .post { text += "content-type: \(contentType)\r\n" }
        text += "x-request-id: "
        prefix = ByteBuffer(string: text)
    }

    func fits(_ request: WorkerRequest) -> Bool {
        method == request.method && path == request.path && contentType == request.contentType
    }

    /// Whether what changes from request to request may be sent behind the prefix.
    func accepts(_ request: WorkerRequest) -> Bool {
        Self.isVisible(request.requestID) && (request.method == .post || request.body.readableBytes == 0)
    }

    /// Writes the head, and the body behind it if `includingBody`, in place of what the buffer holds.
    func write(_ request: WorkerRequest, includingBody: Bool, into buffer: inout ByteBuffer) {
        let bodyLength = request.body.readableBytes
        buffer.clear(minimumCapacity: prefix.readableBytes + 1024 + (includingBody ? bodyLength : 0))
        buffer.writeImmutableBuffer(prefix)
        buffer.writeString(request.requestID)
        if let traceParent = request.traceParent, Self.isFieldValue(traceParent, longest: 128) {
            buffer.writeStaticString("\r\ntraceparent: ")
            buffer.writeString(traceParent)
            // A state without its parent means nothing, so it is not sent alone.
            if let traceState = request.traceState, Self.isFieldValue(traceState, longest: 512) {
                buffer.writeStaticString("\r\ntracestate: ")
                buffer.writeString(traceState)
            }
        }
        if method == .post {
            buffer.writeStaticString("\r\ncontent-length: ")
            Self.writeDecimal(bodyLength, into: &buffer)
        }
        buffer.writeStaticString("\r\n\r\n")
        if includingBody { buffer.writeImmutableBuffer(request.body) }
    }

    private static func isVisible(_ text: String) -> Bool {
        !text.isEmpty && text.utf8.count <= 256 && text.utf8.allSatisfy { (0x21...0x7E).contains($0) }
    }

    /// A field value without a byte that could end its line: printable ASCII, no space at either end.
    private static func isFieldValue(_ text: String, longest: Int) -> Bool {
        guard let first = text.utf8.first, let last = text.utf8.last, first != 0x20, last != 0x20 else { return false }
        return text.utf8.count <= longest && text.utf8.allSatisfy { (0x20...0x7E).contains($0) }
    }

    private static func writeDecimal(_ value: Int, into buffer: inout ByteBuffer) {
        var divisor = 1
        while value / divisor >= 10 { divisor *= 10 }
        while divisor > 0 {
            buffer.writeInteger(UInt8(ascii: "0") + UInt8(truncatingIfNeeded: value / divisor % 10))
            divisor /= 10
        }
    }
}
