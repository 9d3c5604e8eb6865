/// 128 bits that stand for a byte string in one process: SipHash-2-4-128 under a secret of that process (Aumasson and Bernstein, "SipHash: a
/// fast short-input PRF", 2012).
///
/// For whoever does not know the secret, finding bytes with the tag of other bytes is as good as guessing 128 bits. A tag leaves the process
/// nowhere, and says nothing about its bytes in another one.
public struct KeyedTag: Hashable, Sendable {
    public let high: UInt64
    public let low: UInt64

    public init(high: UInt64, low: UInt64) {
        self.high = high
        self.low = low
    }
}

/// The secret under which a process makes its tags.
public struct TagSecret: Sendable {
    private let first: UInt64
    private let second: UInt64

    public init(using generator: inout some RandomNumberGenerator) {
        self.init(first: generator.next(), second: generator.next())
    }

    init(first: UInt64, second: UInt64) {
        self.first = first
        self.second = second
    }

    /// Takes the same time for all byte strings of one length.
    public func tag(of bytes: UnsafeRawBufferPointer) -> KeyedTag {
        var state = SipState(first, second)
        let wholeEnd = bytes.count & ~7
        for start in stride(from: 0, to: wholeEnd, by: 8) {
            state.absorb(UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: start, as: UInt64.self)))
        }
        var last = UInt64(truncatingIfNeeded: bytes.count) << 56
        for place in wholeEnd..<bytes.count { last |= UInt64(bytes[place]) << UInt64(8 * (place - wholeEnd)) }
        state.absorb(last)
        return state.finish()
    }
}

/// Named as in the paper.
private struct SipState {
    private var v0: UInt64
    private var v1: UInt64
    private var v2: UInt64
    private var v3: UInt64

    init(_ first: UInt64, _ second: UInt64) {
        v0 = first ^ 0x736F_6D65_7073_6575
        v1 = second ^ 0x646F_7261_6E64_6F6D ^ 0xEE
        v2 = first ^ 0x6C79_6765_6E65_7261
        v3 = second ^ 0x7465_6462_7974_6573
    }

    mutating func absorb(_ word: UInt64) {
        v3 ^= word
        round()
        round()
        v0 ^= word
    }

    mutating func finish() -> KeyedTag {
        v2 ^= 0xEE
        for _ in 0..<4 { round() }
        let first = v0 ^ v1 ^ v2 ^ v3
        v1 ^= 0xDD
        for _ in 0..<4 { round() }
        return KeyedTag(high: first, low: v0 ^ v1 ^ v2 ^ v3)
    }

    @inline(__always)
    private mutating func round() {
        v0 &+= v1
        v1 = Self.rotated(v1, 13) ^ v0
        v0 = Self.rotated(v0, 32)
        v2 &+= v3
        v3 = Self.rotated(v3, 16) ^ v2
        v0 &+= v3
        v3 = Self.rotated(v3, 21) ^ v0
        v2 &+= v1
        v1 = Self.rotated(v1, 17) ^ v2
        v2 = Self.rotated(v2, 32)
    }

    @inline(__always)
    private static func rotated(_ word: UInt64, _ bits: UInt64) -> UInt64 { word << bits | word >> (64 - bits) }
}
