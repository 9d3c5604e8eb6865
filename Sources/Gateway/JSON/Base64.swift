internal import NIOCore

extension ByteBuffer {
    /// Writes bytes as base64 with padding (RFC 4648, section 4).
    mutating func writeBase64(_ bytes: some Collection<UInt8>) {
        reserveCapacity(minimumWritableBytes: (bytes.count + 2) / 3 * 4)
        var iterator = bytes.makeIterator()
        while let first = iterator.next() {
            let (second, third) = (iterator.next(), iterator.next())
            let word = UInt32(first) << 16 | UInt32(second ?? 0) << 8 | UInt32(third ?? 0)
            writeInteger(Self.digit(word >> 18))
            writeInteger(Self.digit(word >> 12))
            writeInteger(second == nil ? UInt8(ascii: "=") : Self.digit(word >> 6))
            writeInteger(third == nil ? UInt8(ascii: "=") : Self.digit(word))
        }
    }

    private static func digit(_ word: UInt32) -> UInt8 {
        switch UInt8(truncatingIfNeeded: word & 63) {
        case let value where value < 26: value + UInt8(ascii: "A")
        case let value where value < 52: value - 26 + UInt8(ascii: "a")
        case let value where value < 62: value - 52 + UInt8(ascii: "0")
        case 62: UInt8(ascii: "+")
        default: UInt8(ascii: "/")
        }
    }
}
