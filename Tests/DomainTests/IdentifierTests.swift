import TestSupport
import Testing

@testable import Domain

@Suite("Identifiers") struct IdentifierTests {
    private static let instant = Timestamp(microsecondsSince1970: 1_772_366_400_123_456)

    @Test("a new identifier carries the time, version 7 and the variant, and is random beside them")
    func layout() {
        var random = SeededRandom(seed: 1)
        var randomBits: UInt64 = 0
        var constantBits = UInt64.max
        for _ in 0..<500 {
            let id = TenantID(at: Self.instant, using: &random)
            #expect(id.high >> 16 == 1_772_366_400_123)
            #expect(id.high >> 12 & 0xF == 7)
            #expect(id.low >> 62 == 0b10)
            #expect(id.time.microsecondsSince1970 == 1_772_366_400_123_000)
            randomBits |= id.low
            constantBits &= id.low
        }
        // Every bit but the variant's two was seen as one and as zero.
        #expect(randomBits == 0xBFFF_FFFF_FFFF_FFFF)
        #expect(constantBits == 0x8000_0000_0000_0000)
    }

    @Test("later identifiers sort later, as values and as text")
    func order() {
        var random = SeededRandom(seed: 2)
        var previous = RequestID(at: Self.instant, using: &random)
        for step in 1...500 {
            let next = RequestID(at: Self.instant.advanced(byMilliseconds: Int64(step)), using: &random)
            #expect(previous < next)
            #expect(previous.description < next.description)
            previous = next
        }
        #expect(TenantID(high: 1, low: 0) > TenantID(high: 0, low: .max))
        #expect(TenantID(high: 1, low: 2) < TenantID(high: 1, low: .max))
    }

    @Test("an instant before 1970 counts as 1970")
    func early() {
        var random = SeededRandom(seed: 3)
        #expect(
            TenantID(at: Timestamp(microsecondsSince1970: -5_000_000), using: &random).time.microsecondsSince1970 == 0)
        #expect(TenantID.lowerBound(at: Timestamp(microsecondsSince1970: .min)) == TenantID(high: 0, low: 0))
    }

    @Test("the lower bound is below everything of its millisecond and above everything of the one before")
    func lowerBound() {
        var random = SeededRandom(seed: 4)
        let bound = RequestID.lowerBound(at: Self.instant)
        for _ in 0..<200 {
            #expect(bound < RequestID(at: Self.instant, using: &random))
            #expect(bound > RequestID(at: Self.instant.advanced(byMilliseconds: -1), using: &random))
        }
    }

    @Test("the usual form is read and written")
    func text() throws {
        let text = "0195a3c0-11aa-7bcd-8e00-5f6a7b8c9d0e"
        let id = try #require(KeyID(text))
        #expect(id.high == 0x0195_a3c0_11aa_7bcd)
        #expect(id.low == 0x8e00_5f6a_7b8c_9d0e)
        #expect(id.description == text)
        #expect(KeyID(text.uppercased()) == id)
        #expect(KeyID(high: 0, low: 0).description == "00000000-0000-0000-0000-000000000000")
    }

    @Test(
        "anything else is refused",
        arguments: [
            "", "0195a3c0-11aa-7bcd-8e00-5f6a7b8c9d0", "0195a3c0-11aa-7bcd-8e00-5f6a7b8c9d0e0",
            "0195a3c011aa7bcd8e005f6a7b8c9d0e",
            "0195a3c0-11aa-7bcd-8e005-f6a7b8c9d0e", "{195a3c0-11aa-7bcd-8e00-5f6a7b8c9d0}",
            "0195a3c0-11aa-7bcd-8e00-5f6a7b8c9d0g",
            "0195a3c0_11aa_7bcd_8e00_5f6a7b8c9d0e", "０195a3c0-11aa-7bcd-8e00-5f6a7b8c9d",
            "+195a3c0-11aa-7bcd-8e00-5f6a7b8c9d0e",
        ])
    func refused(text: String) {
        #expect(KeyID(text) == nil)
    }

    @Test("the public form of a request has its prefix, and may be read without")
    func publicText() throws {
        let text = "0195a3c0-11aa-7bcd-8e00-5f6a7b8c9d0e"
        let id = try #require(RequestID(publicText: "req_" + text))
        #expect(id.publicText == "req_" + text)
        #expect(RequestID(publicText: text) == id)
        #expect(RequestID(publicText: "req_req_" + text) == nil)
        #expect(RequestID(publicText: "REQ_" + text) == nil)
        #expect(TierVersionID(high: id.high, low: id.low).priceVersionText == "pv_" + text)
    }
}
