internal import HTTPListener
internal import NIOCore

extension ByteBuffer {
    /// Writes a number of JSON so that equal numbers have equal texts: its digits without zeros at either end, and the power of ten that they
    /// are multiplied with. Exact, whatever the number's length: nothing is converted to floating point. Minus zero is not zero.
    /// - Parameter text: a number by the grammar of RFC 8259.
    mutating func writeDecimalForm(_ text: Slice<UnsafeRawBufferPointer>) {
        writeDecimalForm(UnsafeRawBufferPointer(rebasing: text))
    }

    /// Loops over numbers, not over indices: those of a slice are a generic collection of their own, made anew for each number.
    private mutating func writeDecimalForm(_ text: UnsafeRawBufferPointer) {
        var (first, last) = (-1, -1)
        var point: Int?
        var end = text.count
        var exponent = 0
        var index = 0
        while index < end {
            switch text[index] {
            case 0x31...0x39:
                if first < 0 { first = index }
                last = index
            case UInt8(ascii: "."): point = index
            case UInt8(ascii: "e"), UInt8(ascii: "E"):
                guard let power = Self.exponent(text[(index + 1)...]) else {
                    // Beyond every float. It is its own form; nothing that is written differently is taken for it.
                    writeBytes(text)
                    return
                }
                exponent = power
                end = index
            default: break
            }
            index += 1
        }
        if text.first == UInt8(ascii: "-") { writeStaticString("-") }
        guard first >= 0 else {
            writeStaticString("0")
            return
        }
        writeDigits(UnsafeRawBufferPointer(rebasing: text[first...last]))
        // The power of the last digit that was written.
        let unit = point ?? end
        let power = last < unit ? unit - last - 1 : unit - last
        if power + exponent != 0 {
            writeStaticString("e")
            writeDecimal(Int64(power + exponent))
        }
    }

    /// Without the point between them.
    private mutating func writeDigits(_ text: UnsafeRawBufferPointer) {
        writeWithUnsafeMutableBytes(minimumWritableBytes: text.count) { memory in
            var count = 0
            for byte in text where byte != UInt8(ascii: ".") {
                memory[count] = byte
                count += 1
            }
            return count
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
