import TestSupport
import Testing

@testable import Domain

@Suite("API keys") struct APIKeyTests {
    private static let valid = "weir_live_0123456789AB_000000000000000000000000000000000sImyu"

    @Test(
        "published keys parse into their parts",
        arguments: [
            (valid, APIKey.Environment.live, "0123456789AB", UInt32(0x2fd3_a850)),
            ("weir_test_AbCdEfGhIjKl_abcdefghijklmnopqrstuvwxyzABCDEF01X7c1", .test, "AbCdEfGhIjKl", 0x0159_ec59),
            ("weir_live_zzzzzzzzzzzz_zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz1E5upn", .live, "zzzzzzzzzzzz", 0x4305_2903),
        ] as [(String, APIKey.Environment, String, UInt32)])
    func vector(text: String, environment: APIKey.Environment, publicID: String, checksum: UInt32) throws {
        let key = try #require(APIKey(parsing: Array(text.utf8)))
        #expect(key.environment == environment)
        #expect(key.publicID.description == publicID)
        #expect(key.publicID == APIKey.PublicID(publicID))
        #expect(key.revealed == text)
        #expect(key.lastFour == String(text.suffix(4)))
        #expect(CRC32.checksum(text.utf8.prefix(55)) == checksum)
    }

    @Test("a change of any one byte is refused")
    func everyByte() {
        for position in 0..<APIKey.length {
            for replacement in [UInt8(ascii: "0"), UInt8(ascii: "Q"), UInt8(ascii: "q"), 0x00, 0x20, 0x27, 0x5F, 0xC3] {
                var bytes = Array(Self.valid.utf8)
                guard bytes[position] != replacement else { continue }
                bytes[position] = replacement
                #expect(APIKey(parsing: bytes) == nil, "byte \(position) as \(replacement)")
            }
        }
    }

    @Test("two neighbours that are swapped are refused")
    func swapped() {
        let text = Array("weir_test_AbCdEfGhIjKl_abcdefghijklmnopqrstuvwxyzABCDEF01X7c1".utf8)
        for position in 0..<text.count - 1 where text[position] != text[position + 1] {
            var bytes = text
            bytes.swapAt(position, position + 1)
            #expect(APIKey(parsing: bytes) == nil, "at \(position)")
        }
    }

    @Test(
        "what has another length or shape is refused",
        arguments: [
            "", "weir_", String(valid.dropLast()), valid + "0", " " + valid, valid + "\n", "Bearer " + valid,
            valid.uppercased(),
            "weir_prod_0123456789AB_000000000000000000000000000000000sImyu", "' OR '1'='1",
            String(repeating: "a", count: 10_240),
            String(repeating: "a", count: 61), String(repeating: "é", count: 30) + "a",
        ])
    func shape(text: String) {
        #expect(APIKey(parsing: Array(text.utf8)) == nil)
    }

    @Test("a generated key parses and differs from the next one", arguments: APIKey.Environment.allCases)
    func generated(environment: APIKey.Environment) throws {
        var random = SeededRandom(seed: 7)
        var seen: Set<String> = []
        for _ in 0..<200 {
            let made = APIKey(environment: environment, using: &random)
            let read = try #require(APIKey(parsing: made.text))
            #expect(read.environment == environment)
            #expect(read.publicID == made.publicID)
            #expect(made.revealed.utf8.count == APIKey.length)
            #expect(seen.insert(made.publicID.description).inserted)
        }
    }

    @Test(
        "a public id is exactly twelve base-62 characters",
        arguments: [
            "", "0123456789A", "0123456789ABC", "0123456789A_", "0123456789A-", "0123456789Aé", "0123456789A\u{0}",
        ])
    func publicID(text: String) {
        #expect(APIKey.PublicID(text) == nil)
    }

    @Test("a public id keeps its text and tells neighbours apart")
    func publicIDText() throws {
        let texts = ["000000000000", "000000000001", "100000000000", "zzzzzzzzzzzz", "AbCdEfGhIjKl", "aBcDeFgHiJkL"]
        let ids = try texts.map { try #require(APIKey.PublicID($0)) }
        #expect(ids.map(\.description) == texts)
        #expect(Set(ids).count == texts.count)
    }

    @Test(
        "the checksum is that of gzip",
        arguments: [("", UInt32(0)), ("123456789", 0xCBF4_3926), ("a", 0xE8B7_BE43)] as [(String, UInt32)])
    func checksum(text: String, expected: UInt32) {
        #expect(CRC32.checksum(text.utf8) == expected)
    }

    @Test("thirty-two bits fit into six base-62 digits")
    func digits() {
        #expect(String(decoding: Base62.digits(of: 0), as: UTF8.self) == "000000")
        #expect(String(decoding: Base62.digits(of: 61), as: UTF8.self) == "00000z")
        #expect(String(decoding: Base62.digits(of: 62), as: UTF8.self) == "000010")
        var value: UInt64 = 0
        for digit in Base62.digits(of: .max) { value = value * 62 + UInt64(Base62.value(of: digit) ?? 0) }
        #expect(value == UInt64(UInt32.max))
    }
}
