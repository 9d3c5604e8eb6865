/// The binary form of `numeric` (`numeric_send`): count of base-10000 digits, weight of the first, sign, number of
/// decimals, digits. Kept as decimal text on our side, which is exact.
enum PostgresNumeric {
    private static let positive: UInt16 = 0x0000
    private static let negative: UInt16 = 0x4000
    private static let notANumber: UInt16 = 0xC000

    /// Appends the binary form of a decimal text. False, with nothing usable appended, when it is not a plain decimal.
    static func append(_ text: String, to bytes: inout [UInt8]) -> Bool {
        var characters = Array(text.utf8)[...]
        let isNegative = characters.first == UInt8(ascii: "-")
        if isNegative { characters.removeFirst() }
        let parts = characters.split(separator: UInt8(ascii: "."), maxSplits: 1, omittingEmptySubsequences: false)
        let whole = Array(parts.first ?? [])
        let fraction = parts.count > 1 ? Array(parts[1]) : []
        guard !whole.isEmpty, parts.count == 1 || !fraction.isEmpty, whole.count <= 1_000, fraction.count <= 1_000,
            (whole + fraction).allSatisfy({ $0 >= UInt8(ascii: "0") && $0 <= UInt8(ascii: "9") })
        else { return false }

        let zeros = { (count: Int) in [UInt8](repeating: UInt8(ascii: "0"), count: count) }
        let decimals = zeros((4 - whole.count % 4) % 4) + whole + fraction + zeros((4 - fraction.count % 4) % 4)
        var groups = stride(from: 0, to: decimals.count, by: 4).map { start in
            decimals[start..<start + 4].reduce(UInt16(0)) { $0 * 10 + UInt16($1 - UInt8(ascii: "0")) }
        }[...]
        var weight = (whole.count + 3) / 4 - 1
        while groups.first == 0 {
            groups.removeFirst()
            weight -= 1
        }
        while groups.last == 0 { groups.removeLast() }
        if groups.isEmpty { weight = 0 }

        bytes.appendBigEndian(UInt16(groups.count))
        bytes.appendBigEndian(Int16(weight))
        bytes.appendBigEndian(isNegative && !groups.isEmpty ? negative : positive)
        bytes.appendBigEndian(UInt16(fraction.count))
        for group in groups { bytes.appendBigEndian(group) }
        return true
    }

    /// Decimal text with as many decimals as the server keeps for the value; nil for NaN, the infinities and broken
    /// bytes.
    static func text(of bytes: UnsafeRawBufferPointer) -> String? {
        guard bytes.count >= 8 else { return nil }
        let word = { (index: Int) in
            UInt16(bigEndian: bytes.loadUnaligned(fromByteOffset: index * 2, as: UInt16.self))
        }
        let (count, weight, sign, scale) = (Int(word(0)), Int(Int16(bitPattern: word(1))), word(2), Int(word(3)))
        guard bytes.count == 8 + count * 2, sign == positive || sign == negative,
            (0..<count).allSatisfy({ word(4 + $0) < 10_000 })
        else { return nil }

        let digit = { (position: Int) in position >= 0 && position < count ? Int(word(4 + position)) : 0 }
        var text = ""
        for position in 0..<max(weight + 1, 0) { text += padded(digit(position)) }
        text = String(text.drop { $0 == "0" })
        if text.isEmpty { text = "0" }
        if scale > 0 {
            var decimals = ""
            var position = weight + 1
            while decimals.utf8.count < scale {
                decimals += padded(digit(position))
                position += 1
            }
            text += "." + decimals.prefix(scale)
        }
        return sign == negative ? "-" + text : text
    }

    private static func padded(_ group: Int) -> String {
        let digits = String(group)
        return String(repeating: "0", count: 4 - digits.utf8.count) + digits
    }
}
