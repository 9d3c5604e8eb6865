/// An API key as its holder presents it: `weir_<environment>_<public id>_<secret><checksum>`.
///
/// The environment is `live`, `test` or `admn`; the public id is 12 and the secret 32 characters of base 62; the checksum is the CRC-32
/// of everything before it as 6 base-62 digits. The fixed prefix and the checksum let a secret scanner find leaked keys with almost no
/// false alarms and let us refuse a mistyped or invented key before any I/O.
public struct APIKey: Sendable {
    public enum Environment: String, Sendable, CaseIterable {
        case live
        case test
        /// The admin plane; refused on every route of the public listener.
        case admin = "admn"
    }

    /// Length of the whole key in bytes.
    public static let length = 61

    public let environment: Environment
    /// The public part: indexed, safe to log, shown in lists.
    public let publicID: PublicID
    /// The whole key. Never log it; only its HMAC is stored.
    public let text: [UInt8]

    /// Twelve base-62 characters packed into one comparable value.
    public struct PublicID: Hashable, Sendable, CustomStringConvertible {
        /// The twelve ASCII bytes, most significant first; the upper four bytes of `high` are zero.
        private let high: UInt64
        private let low: UInt64

        /// - Returns: `nil` unless there are exactly twelve characters of `0-9A-Za-z`.
        public init?(ascii bytes: some Collection<UInt8>) {
            guard bytes.count == 12, bytes.allSatisfy({ Base62.value(of: $0) != nil }) else { return nil }
            var words: (UInt64, UInt64) = (0, 0)
            for byte in bytes {
                words.0 = words.0 << 8 | words.1 >> 56
                words.1 = words.1 << 8 | UInt64(byte)
            }
            high = words.0
            low = words.1
        }

        public init?(_ text: String) { self.init(ascii: Array(text.utf8)) }

        /// What stands in a presented key where its public id belongs; it may be none, and belongs to no key then.
        /// - Returns: `nil` unless there are as many bytes as a key has.
        public init?(unchecked key: UnsafeRawBufferPointer) {
            guard key.count == APIKey.length else { return nil }
            high = UInt64(UInt32(bigEndian: key.loadUnaligned(fromByteOffset: 10, as: UInt32.self)))
            low = UInt64(bigEndian: key.loadUnaligned(fromByteOffset: 14, as: UInt64.self))
        }

        public var description: String {
            let bytes = (0..<12).map { index -> UInt8 in
                let shift = 8 * (11 - index)
                return UInt8(truncatingIfNeeded: shift >= 64 ? high >> UInt64(shift - 64) : low >> UInt64(shift))
            }
            return String(decoding: bytes, as: UTF8.self)
        }
    }

    /// Parses and checks a presented key without any I/O.
    /// - Returns: `nil` for a wrong prefix, length, alphabet, environment or checksum; the caller answers all alike.
    public init?(parsing bytes: some Collection<UInt8>) {
        guard bytes.count == Self.length else { return nil }
        let text = Array(bytes)
        guard text.starts(with: "weir_".utf8), text[9] == UInt8(ascii: "_"), text[22] == UInt8(ascii: "_"),
            let environment = Environment(rawValue: String(decoding: text[5..<9], as: UTF8.self)),
            let publicID = PublicID(ascii: text[10..<22]),
            text[23..<55].allSatisfy({ Base62.value(of: $0) != nil }),
            Base62.number(of: text[55...]) == UInt64(CRC32.checksum(text[..<55]))
        else { return nil }
        self.environment = environment
        self.publicID = publicID
        self.text = text
    }

    /// Makes a new key with 190 bits of secret.
    public init(environment: Environment, using generator: inout some RandomNumberGenerator) {
        var text = Array("weir_\(environment.rawValue)_".utf8)
        func appendRandom(_ count: Int, _ generator: inout some RandomNumberGenerator) {
            for _ in 0..<count { text.append(Base62.alphabet[Int.random(in: 0..<62, using: &generator)]) }
        }
        appendRandom(12, &generator)
        text.append(UInt8(ascii: "_"))
        appendRandom(32, &generator)
        text += Base62.digits(of: CRC32.checksum(text))
        guard let key = APIKey(parsing: text) else { preconditionFailure("a freshly composed key parses") }
        self = key
    }

    /// The key as a string, for the one time that it is shown.
    public var revealed: String { String(decoding: text, as: UTF8.self) }

    /// The last four characters, shown in lists so that a holder can tell keys apart.
    public var lastFour: String { String(decoding: text.suffix(4), as: UTF8.self) }
}

/// Base 62 over `0-9A-Za-z`, in that order.
enum Base62 {
    static let alphabet = Array("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz".utf8)

    static func value(of byte: UInt8) -> Int? {
        switch byte {
        case 0x30...0x39: Int(byte) - 0x30
        case 0x41...0x5A: Int(byte) - 0x41 + 10
        case 0x61...0x7A: Int(byte) - 0x61 + 36
        default: nil
        }
    }

    /// The number that up to ten digits make; `nil` if one is no digit.
    static func number(of digits: some Collection<UInt8>) -> UInt64? {
        var number: UInt64 = 0
        for digit in digits.prefix(10) {
            guard let value = value(of: digit) else { return nil }
            number = number * 62 + UInt64(value)
        }
        return number
    }

    /// Six digits, enough for 32 bits, padded with zeros.
    static func digits(of value: UInt32) -> [UInt8] {
        var remaining = value
        var digits = [UInt8](repeating: alphabet[0], count: 6)
        for position in stride(from: 5, through: 0, by: -1) {
            digits[position] = alphabet[Int(remaining % 62)]
            remaining /= 62
        }
        return digits
    }
}
