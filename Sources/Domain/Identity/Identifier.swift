/// A 128-bit identifier whose phantom parameter says what it identifies, so that a tenant's id cannot be passed where a key's is meant.
///
/// New identifiers are UUID version 7 (RFC 9562, section 5.7): the first 48 bits are milliseconds since 1970, so identifiers sort by
/// the time they were made and a table that is partitioned by them needs no second column.
public struct Identifier<Kind>: Hashable, Comparable, Sendable {
    /// Bits 127 to 64: time, version and the first random bits.
    public let high: UInt64
    /// Bits 63 to 0: variant and random bits.
    public let low: UInt64

    public init(high: UInt64, low: UInt64) {
        self.high = high
        self.low = low
    }

    /// Makes a UUIDv7.
    /// - Parameters:
    ///   - time: the instant that becomes the first 48 bits; instants before 1970 count as 1970.
    ///   - generator: the source of the other 74 bits.
    public init(at time: Timestamp, using generator: inout some RandomNumberGenerator) {
        let milliseconds = UInt64(clamping: time.microsecondsSince1970 / 1_000) & 0xFFFF_FFFF_FFFF
        let random: UInt64 = generator.next()
        self.high = milliseconds << 16 | 0x7000 | random & 0x0FFF
        self.low = generator.next() & 0x3FFF_FFFF_FFFF_FFFF | 0x8000_0000_0000_0000
    }

    /// The smallest identifier that a UUIDv7 made at or after `time` can have; partitions and range scans are cut with it.
    public static func lowerBound(at time: Timestamp) -> Identifier {
        Identifier(high: UInt64(clamping: time.microsecondsSince1970 / 1_000) << 16, low: 0)
    }

    /// Reads the usual form, 8-4-4-4-12 hexadecimal digits. Upper case is accepted, anything else is `nil`.
    public init?(_ text: some StringProtocol) {
        self.init(ascii: text.utf8)
    }

    /// Reads the usual form from ASCII bytes, so that a path or a header can be parsed without a `String`.
    public init?(ascii bytes: some Collection<UInt8>) {
        guard bytes.count == 36 else { return nil }
        var words: (UInt64, UInt64) = (0, 0)
        var digits = 0
        for (position, byte) in bytes.enumerated() {
            if position == 8 || position == 13 || position == 18 || position == 23 {
                guard byte == UInt8(ascii: "-") else { return nil }
                continue
            }
            guard let digit = hexadecimalValue(byte) else { return nil }
            if digits < 16 { words.0 = words.0 << 4 | UInt64(digit) } else { words.1 = words.1 << 4 | UInt64(digit) }
            digits += 1
        }
        self.init(high: words.0, low: words.1)
    }

    /// The instant in the first 48 bits, to the millisecond. Meaningful for version 7 only.
    public var time: Timestamp { Timestamp(microsecondsSince1970: Int64(high >> 16) * 1_000) }

    public static func < (left: Identifier, right: Identifier) -> Bool {
        left.high == right.high ? left.low < right.low : left.high < right.high
    }

    /// Calls `emit` with each of the 36 ASCII bytes of the usual form. Does not allocate.
    public func writeASCII(_ emit: (UInt8) -> Void) {
        for digit in 0..<32 {
            if digit == 8 || digit == 12 || digit == 16 || digit == 20 { emit(UInt8(ascii: "-")) }
            let word = digit < 16 ? high : low
            emit(hexadecimalDigit(UInt8(truncatingIfNeeded: word >> UInt64(60 - 4 * (digit & 15))) & 15))
        }
    }
}

extension Identifier: CustomStringConvertible {
    /// The usual form in lower case.
    public var description: String {
        String(unsafeUninitializedCapacity: 36) { buffer in
            var next = 0
            writeASCII { byte in
                buffer[next] = byte
                next += 1
            }
            return next
        }
    }
}

@inline(__always)
func hexadecimalValue(_ byte: UInt8) -> UInt8? {
    switch byte {
    case 0x30...0x39: byte - 0x30
    case 0x61...0x66: byte - 0x61 + 10
    case 0x41...0x46: byte - 0x41 + 10
    default: nil
    }
}

@inline(__always)
func hexadecimalDigit(_ value: UInt8) -> UInt8 { value < 10 ? 0x30 + value : 0x61 + value - 10 }
