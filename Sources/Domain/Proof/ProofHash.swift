/// A SHA-256 digest: 32 bytes, held as four words so that a list of them is one piece of memory.
public struct ProofHash: Hashable, Sendable {
    private let first: UInt64
    private let second: UInt64
    private let third: UInt64
    private let fourth: UInt64

    public static let byteCount = 32

    /// - Returns: `nil` for anything but 32 bytes.
    public init?(bytes: some Collection<UInt8>) {
        guard bytes.count == Self.byteCount else { return nil }
        var words: [UInt64] = [0, 0, 0, 0]
        for (index, byte) in bytes.enumerated() { words[index / 8] = words[index / 8] << 8 | UInt64(byte) }
        self.init(words[0], words[1], words[2], words[3])
    }

    /// The words in the order of the bytes, the first byte highest.
    public init(_ first: UInt64, _ second: UInt64, _ third: UInt64, _ fourth: UInt64) {
        self.first = first
        self.second = second
        self.third = third
        self.fourth = fourth
    }

    /// Reads 64 hexadecimal digits in lower case.
    public init?(hexadecimal text: String) {
        guard let bytes = [UInt8](hexadecimal: text) else { return nil }
        self.init(bytes: bytes)
    }

    public var words: (UInt64, UInt64, UInt64, UInt64) { (first, second, third, fourth) }

    public var bytes: [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(Self.byteCount)
        for word in [first, second, third, fourth] {
            for shift in stride(from: UInt64(56), through: 0, by: -8) {
                bytes.append(UInt8(truncatingIfNeeded: word >> shift))
            }
        }
        return bytes
    }

    /// 64 digits in lower case.
    public var hexadecimal: String { bytes.hexadecimal }
}

extension [UInt8] {
    /// Reads an even number of hexadecimal digits. Lower case only: one value has one form.
    public init?(hexadecimal text: String) {
        let digits = Array(text.utf8)
        guard digits.count % 2 == 0 else { return nil }
        var bytes: [UInt8] = []
        bytes.reserveCapacity(digits.count / 2)
        for index in stride(from: 0, to: digits.count, by: 2) {
            guard !(0x41...0x46).contains(digits[index]), !(0x41...0x46).contains(digits[index + 1]),
                let high = hexadecimalValue(digits[index]), let low = hexadecimalValue(digits[index + 1])
            else { return nil }
            bytes.append(high << 4 | low)
        }
        self = bytes
    }

    /// Two digits for each byte, in lower case.
    public var hexadecimal: String {
        String(unsafeUninitializedCapacity: count * 2) { buffer in
            for (index, byte) in enumerated() {
                buffer[index * 2] = hexadecimalDigit(byte >> 4)
                buffer[index * 2 + 1] = hexadecimalDigit(byte & 15)
            }
            return count * 2
        }
    }
}
