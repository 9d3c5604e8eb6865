/// SipHash-2-4 (Aumasson and Bernstein, 2012, https://www.aumasson.jp/siphash/siphash.pdf) under a fixed key: the same value on every
/// gateway, in every process and in every release, unlike the standard library's hashing.
///
/// It decides which version a caller sees and protects nothing, so its key is no secret.
public struct StableHash: Sendable {
    private var v0: UInt64
    private var v1: UInt64
    private var v2: UInt64
    private var v3: UInt64
    private var word: UInt64 = 0
    private var count: UInt64 = 0

    /// - Parameters: the two halves of the key; other halves are another hash, and the default ones must never change.
    public init(key0: UInt64 = 0x7765_6972_2D73_706C, key1: UInt64 = 0x6974_2D6B_6579_2D31) {
        v0 = key0 ^ 0x736F_6D65_7073_6575
        v1 = key1 ^ 0x646F_7261_6E64_6F6D
        v2 = key0 ^ 0x6C79_6765_6E65_7261
        v3 = key1 ^ 0x7465_6462_7974_6573
    }

    public mutating func combine(_ byte: UInt8) {
        word |= UInt64(byte) << (8 * (count & 7))
        count &+= 1
        if count & 7 == 0 {
            compress(word)
            word = 0
        }
    }

    public mutating func combine(_ bytes: some Sequence<UInt8>) {
        for byte in bytes { combine(byte) }
    }

    /// Sixteen bytes, the greatest first.
    public mutating func combine<Kind>(_ identifier: Identifier<Kind>) {
        for shift in stride(from: 56 as UInt64, through: 0, by: -8) {
            combine(UInt8(truncatingIfNeeded: identifier.high >> shift))
        }
        for shift in stride(from: 56 as UInt64, through: 0, by: -8) {
            combine(UInt8(truncatingIfNeeded: identifier.low >> shift))
        }
    }

    /// The hash of what was combined so far.
    public var value: UInt64 {
        var end = self
        end.compress(word | count << 56)
        end.v2 ^= 0xFF
        for _ in 0..<4 { end.round() }
        return end.v0 ^ end.v1 ^ end.v2 ^ end.v3
    }

    private mutating func compress(_ word: UInt64) {
        v3 ^= word
        round()
        round()
        v0 ^= word
    }

    private mutating func round() {
        v0 &+= v1
        v1 = rotated(v1, 13) ^ v0
        v0 = rotated(v0, 32)
        v2 &+= v3
        v3 = rotated(v3, 16) ^ v2
        v0 &+= v3
        v3 = rotated(v3, 21) ^ v0
        v2 &+= v1
        v1 = rotated(v1, 17) ^ v2
        v2 = rotated(v2, 32)
    }

    private func rotated(_ word: UInt64, _ bits: UInt64) -> UInt64 { word << bits | word >> (64 - bits) }
}
