internal import HTTPListener
internal import NIOCore

extension ByteBuffer {
    /// Writes a number of JSON so that equal numbers have equal texts: its digits without zeros at either end, and the power of ten that they
    /// are multiplied with. Exact, whatever the number's length: nothing is converted to floating point. Minus zero is not zero.
    /// - Parameter text: a number by the grammar of RFC 8259.
    mutating func writeDecimalForm(_ text: Slice<UnsafeRawBufferPointer>) {
        var digits: (first: Int, last: Int)?
        var point: Int?
        var end = text.endIndex
        var exponent = 0
        for index in text.indices {
            switch text[index] {
            case 0x31...0x39: digits = (digits?.first ?? index, index)
            case UInt8(ascii: "."): point = index
            case UInt8(ascii: "e"), UInt8(ascii: "E"):
                guard let power = Self.exponent(text[text.index(after: index)...]) else {
                    // Beyond every float. It is its own form; nothing that is written differently is taken for it.
                    writeBytes(text)
                    return
                }
                exponent = power
                end = index
            default: continue
            }
            if end == index { break }
        }
        if text.first == UInt8(ascii: "-") { writeStaticString("-") }
        guard let digits else {
            writeStaticString("0")
            return
        }
        for index in digits.first...digits.last where text[index] != UInt8(ascii: ".") { writeInteger(text[index]) }
        // The power of the last digit that was written.
        let unit = point ?? end
        let power = digits.last < unit ? unit - digits.last - 1 : unit - digits.last
        if power + exponent != 0 {
            writeStaticString("e")
            writeDecimal(Int64(power + exponent))
        }
    }

    private static func exponent(_ text: Slice<UnsafeRawBufferPointer>) -> Int? {
        var number = 0
        for byte in text {
            guard (0x30...0x39).contains(byte) else { continue }
            number = number * 10 + Int(byte - 0x30)
            guard number < 1_000_000 else { return nil }
        }
        return text.first == UInt8(ascii: "-") ? -number : number
    }
}
