import Foundation
import NIOCore
import Testing

@testable import ReferenceWorker

@Suite("Reading and writing JSON")
struct JSONReaderTests {
    private func double(_ text: String) throws -> Double {
        var reader = JSONReader(Array(text.utf8))
        let value = try reader.readDouble()
        try reader.finish()
        return value
    }

    @Test(
        "a number is the nearest double",
        arguments: [
            "0", "-0", "1", "-1.5", "5.1", "0.1", "1e22", "1e23", "123456789012345678", "9007199254740993",
            "1.7976931348623157e308",
            "5e-324", "2.2250738585072014e-308", "1e-400", "0e999999999999", "3.141592653589793238462643383279", "1E+2",
            "10.00e-2",
            "18446744073709551615", "18446744073709551616",
        ])
    func numbers(text: String) throws {
        let expected = try #require(Double(text))
        let actual = try double(text)
        #expect(actual.bitPattern == expected.bitPattern)
    }

    @Test("random doubles come back from their shortest text, bit by bit")
    func roundTrip() throws {
        // A fixed multiplicative generator: the same numbers on every run.
        var state: UInt64 = 0x9E37_79B9_7F4A_7C15
        for _ in 0..<20_000 {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            let value = Double(bitPattern: state)
            guard value.isFinite else { continue }
            var writer = JSONWriter()
            writer.double(value)
            #expect(try double(String(buffer: writer.buffer)).bitPattern == value.bitPattern)
            let short = (Double(state >> 44) / 1000).description
            #expect(try double(short).bitPattern == Double(short)?.bitPattern)
        }
    }

    @Test(
        "what is not a number of JSON is refused",
        arguments: [
            "", "-", "+1", ".5", "5.", "01", "-01", "1e", "1e+", "0x10", "1_000", "NaN", "Infinity", "-Infinity",
            "1e309", "--1", "1.e2",
        ])
    func notNumbers(text: String) {
        #expect(throws: JSONError.self) { try double(text) }
    }

    @Test("strings are decoded and validated")
    func strings() throws {
        func string(_ bytes: [UInt8]) throws -> String {
            var reader = JSONReader(bytes)
            let value = try reader.readString()
            try reader.finish()
            return value
        }
        #expect(try string(Array(#""a\"\\\/\b\f\n\r\t\u00e9\uD83D\ude00é😀""#.utf8)) == "a\"\\/\u{8}\u{C}\n\r\té😀é😀")
        for bad in [
            #""\x""#, #""\u12""#, #""\ud800""#, #""\ud800\u0041""#, #""\udc00""#, "\"a", "\"a\\", "\"\u{1}\"",
            "\"\\n\u{1}\"",
        ] {
            #expect(throws: JSONError.self) { try string(Array(bad.utf8)) }
        }
        for bytes in [[0x22, 0xFF, 0x22], [0x22, 0xC3, 0x22], [0x22, 0x5C, 0x6E, 0xED, 0xA0, 0x80, 0x22]] as [[UInt8]] {
            #expect(throws: JSONError.self) { try string(bytes) }
        }
    }

    @Test("a comma before the end is refused", arguments: ["[1,]", #"{"a":1,}"#, "[,]", "{,}"])
    func trailingComma(text: String) {
        #expect(throws: JSONError.self) {
            var reader = JSONReader(Array(text.utf8))
            try reader.skipValue()
        }
    }

    @Test("what Foundation refuses is refused, and what it takes is taken")
    func agreesWithFoundation() {
        let texts = [
            "{}", "[]", "[[],{}]", #"{"a":1,"b":[true,false,null]}"#, "[,1]", #"{"a"}"#, #"{"a":}"#,
            #"{"a" 1}"#, "[1 2]", "[tru]", "[nul]", "[", "{", "]", "[}", "{]", "[1]]", " [1] ", "\t\n\r[1]", "[\u{b}1]",
            "[1]//x",
            "['a']", "[\"a\":1]", "{1:2}", "[\"\\u0000\"]", "[-]", "[1.5e3]", "\u{FEFF}x",
        ]
        for text in texts {
            let isTakenByFoundation = (try? JSONSerialization.jsonObject(with: Data(text.utf8))) != nil
            var reader = JSONReader(Array(text.utf8))
            let isTaken: Bool
            do throws(JSONError) {
                try reader.skipValue()
                try reader.finish()
                isTaken = true
            } catch {
                isTaken = false
            }
            #expect(isTaken == isTakenByFoundation, "\(text)")
        }
    }

    @Test("written strings are read by Foundation as they were")
    func writing() throws {
        let text = String((0..<0x180).compactMap { Unicode.Scalar($0) }.map(Character.init)) + "\"\\😀"
        var writer = JSONWriter()
        writer.list([text, "plain", ""]) { $0.string($1) }
        let data = Data(String(buffer: writer.buffer).utf8)
        #expect(try JSONSerialization.jsonObject(with: data) as? [String] == [text, "plain", ""])
    }
}
