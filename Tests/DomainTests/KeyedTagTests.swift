import TestSupport
import Testing

@testable import Domain

@Suite("Tags of bytes in one process") struct KeyedTagTests {
    private static let secret = TagSecret(first: 0x0706_0504_0302_0100, second: 0x0F0E_0D0C_0B0A_0908)

    private func tag(_ bytes: [UInt8], under secret: TagSecret = secret) -> KeyedTag {
        bytes.withUnsafeBytes { secret.tag(of: $0) }
    }

    /// The reference's own vectors for 0 and 1 bytes; the others were made with OpenSSL, as all four are by
    /// `openssl mac -macopt hexkey:000102030405060708090a0b0c0d0e0f -macopt size:16 -in FILE SIPHASH`.
    @Test(
        "is SipHash-2-4 of 128 bits",
        arguments: [
            (0, "a3817f04ba25a8e66df67214c7550293"), (1, "da87c1d86b99af44347659119b22fc45"),
            (8, "3b62a9ba6258f5610f83e264f31497b4"), (61, "7697009a6a831dfecca91c5993670f7a"),
        ])
    func vectors(count: Int, expected: String) {
        let tag = tag((0..<count).map { UInt8($0) })
        let bytes = [tag.high, tag.low].flatMap { word in (0..<8).map { UInt8(truncatingIfNeeded: word >> (8 * $0)) } }
        let text = bytes.map { byte in
            [byte >> 4, byte & 15].map { String($0, radix: 16) }.joined()
        }.joined()
        #expect(text == expected)
    }

    @Test("another bit, another length or another secret is another tag")
    func different() {
        var random = SeededRandom(seed: 3)
        let bytes = (0..<61).map { _ in UInt8.random(in: 0...255, using: &random) }
        let own = tag(bytes)
        for place in bytes.indices {
            for bit in 0..<8 {
                var other = bytes
                other[place] ^= 1 << UInt8(bit)
                let found = tag(other)
                #expect(found.high != own.high && found.low != own.low)
            }
        }
        #expect(tag(bytes + [0]) != own)
        #expect(tag(bytes.dropLast() + []) != own)
        #expect(tag(bytes, under: TagSecret(using: &random)) != own)
    }

    @Test("the public id of presented bytes is the key's, and nothing is read of too few or too many")
    func publicID() {
        var random = SeededRandom(seed: 4)
        let key = APIKey(environment: .live, using: &random)
        #expect(key.text.withUnsafeBytes { APIKey.PublicID(unchecked: $0) } == key.publicID)
        #expect(key.text.dropLast().withUnsafeBytes { APIKey.PublicID(unchecked: $0) } == nil)
        #expect((key.text + [0]).withUnsafeBytes { APIKey.PublicID(unchecked: $0) } == nil)
        #expect([UInt8]().withUnsafeBytes { APIKey.PublicID(unchecked: $0) } == nil)
    }
}
