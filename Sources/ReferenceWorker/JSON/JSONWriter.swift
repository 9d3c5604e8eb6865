import NIOCore

/// Writes JSON into a buffer. The caller places the brackets and commas; the writer knows strings and numbers.
struct JSONWriter {
    private(set) var buffer: ByteBuffer

    init(capacity: Int = 256) {
        buffer = ByteBufferAllocator().buffer(capacity: capacity)
    }

    /// Text that is JSON already.
    mutating func raw(_ text: StaticString) {
        buffer.writeStaticString(text)
    }

    mutating func integer(_ value: some FixedWidthInteger) {
        buffer.writeString(String(value))
    }

    /// The shortest text that reads back as the same double. The value is finite: every number is checked on its way
    /// in, and every result of arithmetic on its way out.
    mutating func double(_ value: Double) {
        assert(value.isFinite)
        buffer.writeString(value.description)
    }

    mutating func string(_ value: String) {
        raw("\"")
        if value.utf8.allSatisfy({ $0 >= 0x20 && $0 != UInt8(ascii: "\"") && $0 != UInt8(ascii: "\\") }) {
            buffer.writeString(value)
        } else {
            for byte in value.utf8 { escaped(byte) }
        }
        raw("\"")
    }

    mutating func list<Elements: Sequence>(
        _ elements: Elements, _ write: (inout JSONWriter, Elements.Element) -> Void
    ) {
        raw("[")
        var isFirst = true
        for element in elements {
            if !isFirst { raw(",") }
            isFirst = false
            write(&self, element)
        }
        raw("]")
    }

    private mutating func escaped(_ byte: UInt8) {
        switch byte {
        case UInt8(ascii: "\""): raw("\\\"")
        case UInt8(ascii: "\\"): raw("\\\\")
        case UInt8(ascii: "\n"): raw("\\n")
        case UInt8(ascii: "\r"): raw("\\r")
        case UInt8(ascii: "\t"): raw("\\t")
        case 0..<0x20:
            raw("\\u00")
            buffer.writeInteger(Self.hexadecimalDigit(byte >> 4))
            buffer.writeInteger(Self.hexadecimalDigit(byte & 0x0F))
        default: buffer.writeInteger(byte)
        }
    }

    private static func hexadecimalDigit(_ value: UInt8) -> UInt8 {
        value < 10 ? 0x30 + value : 0x57 + value
    }
}
