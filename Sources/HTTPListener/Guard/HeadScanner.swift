internal import Glibc

/// Finds the end of a request's head in the bytes of a connection, and notes of its first line what a parser's error does not say. A value;
/// bytes may arrive in pieces of any size.
struct HeadScanner: Sendable {
    /// How many bytes of CR LF CR LF were seen last.
    private var matched = 0
    /// The length of the method while it may still be one, `nil` behind it or where it is none.
    private var methodLength: Int? = 0
    /// Whether the head begins with one to 32 capital letters and a space: a method, if perhaps none that is known.
    private(set) var hasMethod = false
    /// Whether the first line goes on.
    private(set) var isInFirstLine = true
    /// The last eight bytes of the first line, without its end.
    private var lineTail: UInt64 = 0
    private var isTailWhole = false

    /// Whether no byte of a head has been seen.
    var isFresh: Bool { methodLength == 0 && matched == 0 && isInFirstLine }

    /// Whether the first line ends, as far as it was seen, with a version of HTTP in its right form (RFC 9112, section 2.3), whichever it is.
    var hasVersion: Bool {
        let (digits, zeros) = (lineTail & 0x0000_0000_00FF_00FF, 0x30 as UInt64)
        let (major, minor) = (digits >> 16, digits & 0xFF)
        return lineTail & 0xFFFF_FFFF_FF00_FF00 == 0x4854_5450_2F00_2E00
            && (zeros...0x39).contains(major) && (zeros...0x39).contains(minor)
    }

    /// - Returns: the number of bytes up to the end of the head, or `nil` if it goes on.
    mutating func scan(_ bytes: UnsafeRawBufferPointer) -> Int? {
        for (index, byte) in bytes.enumerated() {
            if let length = methodLength {
                switch byte {
                case 0x41...0x5A where length < 32: methodLength = length + 1
                default:
                    hasMethod = byte == 0x20 && length > 0
                    methodLength = nil
                }
            }
            if !isTailWhole {
                if byte == 0x0D || byte == 0x0A { isTailWhole = true } else { lineTail = lineTail << 8 | UInt64(byte) }
            }
            switch byte {
            case 0x0D: matched = matched == 2 ? 3 : 1
            case 0x0A:
                isInFirstLine = false
                if matched == 3 { return index + 1 }
                matched = matched == 1 ? 2 : 0
            default: matched = 0
            }
        }
        return nil
    }

    /// Whether the bytes are exactly one request: a whole head without a transfer coding, and as many bytes as its one Content-Length says.
    ///
    /// So it is with nearly every request of nearly every client, and then nothing needs to be cut apart. An answer of no costs time only.
    static func isOneRequest(_ bytes: UnsafeRawBufferPointer) -> Bool {
        guard let base = bytes.baseAddress else { return false }
        var position = 0
        var bodyLength: Int?
        while let found = memchr(base + position, 0x0A, bytes.count - position) {
            let lineEnd = UnsafeRawPointer(found) - base
            let next = lineEnd + 1
            guard lineEnd > position, bytes[lineEnd - 1] == 0x0D, next + 1 < bytes.count else { return false }
            if bytes[next] == 0x0D {
                return position > 0 && bytes[next + 1] == 0x0A && next + 2 + (bodyLength ?? 0) == bytes.count
            }
            switch bytes[next] | 0x20 {
            case UInt8(ascii: "t") where begins(bytes, at: next, "transfer-encoding"): return false
            case UInt8(ascii: "c") where begins(bytes, at: next, "content-length:"):
                guard bodyLength == nil, let length = length(bytes, at: next + 15) else { return false }
                bodyLength = length
            default: break
            }
            position = next
        }
        return false
    }

    /// Compares without regard to case; `name` is in lower case.
    private static func begins(_ bytes: UnsafeRawBufferPointer, at start: Int, _ name: StaticString) -> Bool {
        let count = name.utf8CodeUnitCount
        guard start + count <= bytes.count else { return false }
        for index in 0..<count {
            let byte = bytes[start + index]
            let lower = (0x41...0x5A).contains(byte) ? byte | 0x20 : byte
            if lower != name.utf8Start[index] { return false }
        }
        return true
    }

    /// One to nine digits between spaces, up to the end of the line.
    private static func length(_ bytes: UnsafeRawBufferPointer, at start: Int) -> Int? {
        var index = start
        while index < bytes.count, bytes[index] == 0x20 { index += 1 }
        let first = index
        var length = 0
        while index < bytes.count, (0x30...0x39).contains(bytes[index]), index - first < 9 {
            length = length * 10 + Int(bytes[index] - 0x30)
            index += 1
        }
        guard index > first, index < bytes.count, bytes[index] == 0x0D else { return nil }
        return length
    }
}
