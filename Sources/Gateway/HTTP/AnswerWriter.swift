internal import Domain
internal import NIOCore

/// Writes the parts of an answer into memory that lies ready.
///
/// An answer has some sixty parts, most of them a few bytes long. Written one by one into a buffer, each checks whether the buffer is its
/// own, has room and where it begins, which costs more than the bytes. Here each part is one comparison and one copy. What does not fit is
/// not written but counted, and the whole is written once more into memory that is large enough.
struct AnswerWriter: ~Copyable {
    private let memory: UnsafeMutableRawBufferPointer
    /// Bytes of all parts so far, those included that did not fit.
    private(set) var count = 0

    private init(_ memory: UnsafeMutableRawBufferPointer) { self.memory = memory }

    /// Appends to `buffer` what `compose` writes. It may be called twice, and has to write the same both times.
    static func append(
        to buffer: inout ByteBuffer, expecting expected: Int, _ compose: (inout AnswerWriter) -> Void
    ) {
        var needed = max(expected, 1)
        var isWhole = false
        while !isWhole {
            buffer.writeWithUnsafeMutableBytes(minimumWritableBytes: needed) { memory in
                var writer = AnswerWriter(memory)
                compose(&writer)
                needed = writer.count
                isWhole = writer.count <= memory.count
                return isWhole ? writer.count : 0
            }
        }
    }

    /// Where the next part goes; `nil` where it does not fit.
    @inline(__always)
    private mutating func place(for length: Int) -> UnsafeMutableRawPointer? {
        let start = count
        count &+= length
        guard count <= memory.count, let base = memory.baseAddress else { return nil }
        return base + start
    }

    @inline(__always)
    mutating func write(_ text: StaticString) {
        let length = text.utf8CodeUnitCount
        guard let place = place(for: length) else { return }
        place.copyMemory(from: text.utf8Start, byteCount: length)
    }

    mutating func write(_ text: String) {
        var text = text
        text.withUTF8 { write(UnsafeRawBufferPointer($0)) }
    }

    mutating func write(_ bytes: [UInt8]) { bytes.withUnsafeBytes { write($0) } }

    mutating func write(_ bytes: ByteBuffer) { bytes.withUnsafeReadableBytes { write($0) } }

    mutating func write(_ bytes: UnsafeRawBufferPointer) {
        guard let source = bytes.baseAddress, let place = place(for: bytes.count) else { return }
        place.copyMemory(from: source, byteCount: bytes.count)
    }

    @inline(__always)
    mutating func write(byte: UInt8) { place(for: 1)?.storeBytes(of: byte, as: UInt8.self) }

    /// The number in decimal digits.
    mutating func writeDecimal(_ value: Int64) {
        if value < 0 { write("-") }
        var rest = value.magnitude
        var digits = 1
        var bound: UInt64 = 10
        while rest >= bound, digits < 19 {
            digits += 1
            bound &*= 10
        }
        if digits == 19, rest >= 10_000_000_000_000_000_000 { digits = 20 }
        guard let place = place(for: digits) else { return }
        while digits > 0 {
            digits &-= 1
            let (tenth, digit) = rest.quotientAndRemainder(dividingBy: 10)
            place.storeBytes(of: 0x30 &+ UInt8(truncatingIfNeeded: digit), toByteOffset: digits, as: UInt8.self)
            rest = tenth
        }
    }

    /// `req_` and the UUID in its usual form.
    mutating func writePublicID(_ id: RequestID) {
        write("req_")
        guard let place = place(for: 36) else { return }
        let words = (
            Self.hexadecimal(UInt32(truncatingIfNeeded: id.high >> 32)),
            Self.hexadecimal(UInt32(truncatingIfNeeded: id.high)),
            Self.hexadecimal(UInt32(truncatingIfNeeded: id.low >> 32)),
            Self.hexadecimal(UInt32(truncatingIfNeeded: id.low))
        )
        let hyphen = UInt8(ascii: "-")
        place.storeBytes(of: words.0.bigEndian, as: UInt64.self)
        place.storeBytes(of: hyphen, toByteOffset: 8, as: UInt8.self)
        place.storeBytes(of: UInt32(truncatingIfNeeded: words.1 >> 32).bigEndian, toByteOffset: 9, as: UInt32.self)
        place.storeBytes(of: hyphen, toByteOffset: 13, as: UInt8.self)
        place.storeBytes(of: UInt32(truncatingIfNeeded: words.1).bigEndian, toByteOffset: 14, as: UInt32.self)
        place.storeBytes(of: hyphen, toByteOffset: 18, as: UInt8.self)
        place.storeBytes(of: UInt32(truncatingIfNeeded: words.2 >> 32).bigEndian, toByteOffset: 19, as: UInt32.self)
        place.storeBytes(of: hyphen, toByteOffset: 23, as: UInt8.self)
        place.storeBytes(of: UInt32(truncatingIfNeeded: words.2).bigEndian, toByteOffset: 24, as: UInt32.self)
        place.storeBytes(of: words.3.bigEndian, toByteOffset: 28, as: UInt64.self)
    }

    /// The eight digits of a word as ASCII, the first one in the highest byte: all at once, by spreading the halves apart.
    private static func hexadecimal(_ word: UInt32) -> UInt64 {
        var spread = UInt64(word)
        spread = (spread << 16 | spread) & 0x0000_FFFF_0000_FFFF
        spread = (spread << 8 | spread) & 0x00FF_00FF_00FF_00FF
        spread = (spread << 4 | spread) & 0x0F0F_0F0F_0F0F_0F0F
        let letters = (spread &+ 0x0606_0606_0606_0606) >> 4 & 0x0101_0101_0101_0101
        return spread &+ 0x3030_3030_3030_3030 &+ letters &* 0x27
    }

    /// A string with its quotes; escapes what RFC 8259 says must be escaped.
    mutating func writeJSONString(_ text: String) {
        write(byte: UInt8(ascii: "\""))
        if text.utf8.allSatisfy({ $0 >= 0x20 && $0 != UInt8(ascii: "\"") && $0 != UInt8(ascii: "\\") }) {
            write(text)
        } else {
            for byte in text.utf8 { writeEscaped(byte) }
        }
        write(byte: UInt8(ascii: "\""))
    }

    private mutating func writeEscaped(_ byte: UInt8) {
        switch byte {
        case UInt8(ascii: "\""), UInt8(ascii: "\\"):
            write(byte: UInt8(ascii: "\\"))
            write(byte: byte)
        case ..<0x20:
            write("\\u00")
            write(byte: 0x30 + byte >> 4)
            let low = byte & 15
            write(byte: low < 10 ? 0x30 + low : 0x61 + low - 10)
        default: write(byte: byte)
        }
    }

    /// Milliseconds with three places.
    mutating func writeMilliseconds(_ nanoseconds: UInt64) {
        let microseconds = Int64(clamping: nanoseconds / 1_000)
        writeDecimal(microseconds / 1_000)
        let fraction = UInt16(truncatingIfNeeded: microseconds % 1_000)
        write(".")
        write(byte: 0x30 + UInt8(truncatingIfNeeded: fraction / 100))
        write(byte: 0x30 + UInt8(truncatingIfNeeded: fraction / 10 % 10))
        write(byte: 0x30 + UInt8(truncatingIfNeeded: fraction % 10))
    }

    /// A duration as the OpenAI API writes it: `1s`, `6m0s`, `26h0m5s`.
    mutating func writeDuration(seconds: Int64) {
        let (hours, minutes, rest) = (seconds / 3_600, seconds / 60 % 60, seconds % 60)
        if hours > 0 {
            writeDecimal(hours)
            write("h")
        }
        if hours > 0 || minutes > 0 {
            writeDecimal(minutes)
            write("m")
        }
        writeDecimal(rest)
        write("s")
    }
}
