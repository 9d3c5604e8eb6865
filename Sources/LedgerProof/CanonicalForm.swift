internal import Crypto
public import Domain

/// The one form in which something is hashed: its fields one after the other, each behind its length in four bytes, big-endian.
///
/// No two lists of fields have the same form: a length says where a field ends, and an absent field has a length that none has. The form is
/// part of the API (`docs/api/ledger-proof.md`).
struct CanonicalForm {
    private(set) var bytes: [UInt8]

    /// - Parameter tag: what it is a form of; the first field.
    init(_ tag: StaticString, expecting count: Int = 512) {
        bytes = []
        bytes.reserveCapacity(count)
        tag.withUTF8Buffer { field($0) }
    }

    /// Behind bytes that are no field.
    init(behind prefix: [UInt8], expecting count: Int = 512) {
        bytes = prefix
        bytes.reserveCapacity(count)
    }

    mutating func field(_ value: some Collection<UInt8>) {
        length(UInt32(clamping: value.count))
        bytes.append(contentsOf: value)
    }

    mutating func field(_ text: String) {
        var text = text
        text.withUTF8 { field($0) }
    }

    mutating func field(_ text: String?) { if let text { field(text) } else { absent() } }

    mutating func field(_ tag: StaticString) { tag.withUTF8Buffer { field($0) } }

    /// Eight bytes, two's complement.
    mutating func field(_ number: Int64) {
        length(8)
        word(UInt64(bitPattern: number))
    }

    /// Microseconds since 1970.
    mutating func field(_ instant: Timestamp) { field(instant.microsecondsSince1970) }

    mutating func field<Kind>(_ id: Identifier<Kind>) {
        length(16)
        word(id.high)
        word(id.low)
    }

    mutating func field<Kind>(_ id: Identifier<Kind>?) { if let id { field(id) } else { absent() } }

    mutating func field(_ hash: ProofHash) {
        length(32)
        let words = hash.words
        word(words.0)
        word(words.1)
        word(words.2)
        word(words.3)
    }

    private mutating func absent() { length(.max) }

    private mutating func length(_ value: UInt32) {
        for shift in stride(from: UInt32(24), through: 0, by: -8) {
            bytes.append(UInt8(truncatingIfNeeded: value >> shift))
        }
    }

    private mutating func word(_ value: UInt64) {
        withUnsafeBytes(of: value.bigEndian) { bytes.append(contentsOf: $0) }
    }

    var hash: ProofHash { ProofHash(sha256: bytes) }
}

extension ProofHash {
    /// SHA-256 (FIPS 180-4) of bytes.
    public init(sha256 bytes: [UInt8]) { self.init(SHA256.hash(data: bytes)) }

    init(_ digest: SHA256.Digest) {
        let words = digest.withUnsafeBytes { bytes in
            (0..<4).map { UInt64(bigEndian: bytes.loadUnaligned(fromByteOffset: $0 * 8, as: UInt64.self)) }
        }
        self.init(words[0], words[1], words[2], words[3])
    }
}
