import NIOCore
import NIOHTTP1

/// What goes back over the connection: a value, so that what is answered and how it is sent can be read and tested
/// apart.
struct Reply {
    /// A way to break a promise of HTTP on purpose.
    enum BodyFault {
        /// Half of the body, then the connection closes.
        case cutShort
        /// `Content-Length` says this much less than is sent.
        case understated(byteCount: Int)
        /// The body is padded to this size, and stays valid JSON.
        case padded(byteCount: Int)
    }

    var status: HTTPResponseStatus
    var body: ByteBuffer
    var contentType = "application/json"
    var headers: [(String, String)] = []
    var delayMilliseconds: Int64 = 0
    var bodyFault: BodyFault?

    static func ok(_ body: ByteBuffer) -> Reply {
        Reply(status: .ok, body: body)
    }

    /// `{"error": "…"}`, the form of the Open Inference Protocol, on all routes.
    static func error(_ status: HTTPResponseStatus, _ message: String) -> Reply {
        var json = JSONWriter()
        json.raw("{\"error\":")
        json.string(message)
        json.raw("}")
        return Reply(status: status, body: json.buffer)
    }
}
