public import NIOCore

/// A caller's own name for its request, echoed and never used: 1 to 128 of `A-Za-z0-9._-`, so that it can do no harm in a header or a log.
public struct ClientRequestID: Sendable, Equatable {
    public let text: String

    public init?(_ text: String) {
        let isPlain = text.utf8.allSatisfy { byte in
            switch byte {
            case 0x30...0x39, 0x41...0x5A, 0x61...0x7A, UInt8(ascii: "."), UInt8(ascii: "_"), UInt8(ascii: "-"): true
            default: false
            }
        }
        guard isPlain, (1...128).contains(text.utf8.count) else { return nil }
        self.text = text
    }
}

extension ByteBuffer {
    /// The echo as a whole header field.
    public mutating func writeClientRequestID(_ id: ClientRequestID) {
        writeStaticString("x-client-request-id: ")
        writeString(id.text)
        writeStaticString("\r\n")
    }
}
