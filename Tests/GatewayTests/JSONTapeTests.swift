import Foundation
import NIOCore
import TestSupport
import Testing

@testable import Gateway

@Suite("JSON") struct JSONTapeTests {
    private func failure(_ bytes: [UInt8]) -> JSONTape.Failure? {
        do throws(JSONTape.Failure) {
            _ = try JSONTape(ByteBuffer(bytes: bytes))
            return nil
        } catch {
            return error
        }
    }

    private func failure(_ text: String) -> JSONTape.Failure? { failure(Array(text.utf8)) }

    private func isInvalid(_ failure: JSONTape.Failure?) -> Bool {
        if case .invalid = failure { true } else { false }
    }

    @Test(
        "a document that RFC 8259 allows is accepted",
        arguments: [
            "{}", "[]", "null", "true", "false", "0", "-0", "1", "-1", "10", "1.5", "-1.5e10", "1E5", "1e+5", "1e-5",
            "0.0", "0e0", "0E-0",
            #""""#, #""a""#, " \t\r\n1 \t\r\n", "[1,2]", "[ 1 , 2 ]", "[[],{}]", #"{"a":1}"#,
            #"{"a":{"b":[null,true,false]}}"#, #"{"":0}"#,
            #"{"a":1,"b":2}"#, #""\"\\\/\b\f\n\r\t""#, #""\u0041\u00e9\u20AC""#, #""\uD83D\uDE00""#, #""é€😀""#,
            "\"\u{7F}\"", "\"\u{2028}\"",
            #""\uFFFF""#, "\"\u{FFFF}\"", "1e308", "1.7976931348623157e308", "-1.7976931348623157e308", "1e-400",
            "0e999", "0.001e310",
            "1e0000001", "123456789012345678901234567890", #"{"a":{"x":1},"b":{"x":1}}"#, #"[{"x":1},{"x":1}]"#,
            #"{"é":1,"e":2}"#,
        ])
    func accepted(text: String) {
        #expect(failure(text) == nil)
    }

    @Test(
        "anything else is refused as invalid",
        arguments: [
            "", " ", "{", "}", "[", "]", "[1", "[1,", "[1,]", "[,1]", "[,]", "[1 2]", "[1]]", "{]", "[}", "{\"a\"}",
            "{\"a\":}", "{\"a\":1,}", "{,}", "{a:1}",
            "{'a':1}", "{1:1}", "{\"a\" 1}", "{\"a\":1 \"b\":2}", "{\"a\":1,,\"b\":2}", "{\"a\"::1}", "{null:1}",
            "[1:2]", "nul", "nulll", "True", "TRUE", "tru", "undefined", "+1", "01", "-01",
            "00", "1.", ".5", "-.5", "-", "--1", "1e", "1e+", "1e-", "1.e5", "1.5.5", "0x10", "1_000", "1,000", "1 2",
            "{} {}", "{}x", "null,", "\"", "\"a",
            "\"\\\"", "\"\\\\\"\"", "\"\\x\"", "\"\\U0041\"", "\"\\u\"", "\"\\u00\"", "\"\\u004\"", "\"\\u00G1\"",
            "\"\\u+041\"", "\"\\u０041\"", "\"\n\"", "\"\t\"", "\"\r\"",
            "\"\u{1F}\"", "\u{FEFF}{}", "{}\u{FEFF}", "// c\n{}", "/* c */{}", "{}//", "[1]#", "\u{A0}{}", "\u{0B}1",
            "\u{0C}1", "{}\u{0}", "\u{0}",
            "\"\\uD800\"", "\"\\uDC00\"", "\"\\uD800\\uD800\"", "\"\\uDC00\\uD800\"", "\"\\uD800x\"", "\"\\uD800\\n\"",
            "\"\\uD800\\u0041\"", "\"\\uDBFF\"",
        ])
    func refused(text: String) {
        #expect(isInvalid(failure(text)), "\(String(describing: failure(text)))")
    }

    @Test(
        "the escape of U+0000 is told from what is no JSON",
        arguments: ["\"\\u0000\"", "{\"\\u0000\":1}", "[\"a\\u0000b\"]"])
    func nul(text: String) {
        guard case .nul(let byte)? = failure(text) else {
            Issue.record("\(String(describing: failure(text)))")
            return
        }
        #expect(Array(text.utf8)[byte...].starts(with: Array("\\u0000".utf8)))
    }

    @Test(
        "bytes that are not UTF-8 are refused inside strings and outside",
        arguments: [
            [UInt8(0x80)], [0xBF], [0xC0, 0x80], [0xC1, 0xBF], [0xC2], [0xC2, 0x20], [0xC3, 0x28], [0xE0, 0x80, 0x80],
            [0xE0, 0x9F, 0xBF], [0xE2, 0x82],
            [0xE2, 0x28, 0xA1], [0xE2, 0x82, 0x28], [0xED, 0xA0, 0x80], [0xED, 0xBF, 0xBF], [0xF0, 0x80, 0x80, 0x80],
            [0xF0, 0x8F, 0xBF, 0xBF], [0xF0, 0x9F, 0x98],
            [0xF0, 0x28, 0x8C, 0xBC], [0xF0, 0x90, 0x28, 0xBC], [0xF0, 0x90, 0x8C, 0x28], [0xF4, 0x90, 0x80, 0x80],
            [0xF5, 0x80, 0x80, 0x80], [0xF8, 0x88, 0x80, 0x80, 0x80], [0xFE], [0xFF],
        ] as [[UInt8]])
    func notUTF8(bytes: [UInt8]) {
        #expect(isInvalid(failure([0x22] + bytes + [0x22])))
        #expect(isInvalid(failure([0x22] + bytes)))
        #expect(isInvalid(failure(Array("{\"".utf8) + bytes + Array("\":1}".utf8))))
        #expect(isInvalid(failure(bytes)))
    }

    @Test(
        "the first and last of every length of UTF-8 are accepted",
        arguments: [
            "\u{20}", "\u{7F}", "\u{80}", "\u{7FF}", "\u{800}", "\u{D7FF}", "\u{E000}", "\u{FFFD}", "\u{10000}",
            "\u{FFFFF}", "\u{10FFFF}",
        ])
    func edgesOfUTF8(text: String) throws {
        let tape = try JSONTape(ByteBuffer(string: "\"\(text)\""))
        #expect(tape.string(tape.root) == text)
    }

    @Test("UTF-16 is refused", arguments: [String.Encoding.utf16, .utf16LittleEndian, .utf16BigEndian, .utf32])
    func utf16(encoding: String.Encoding) throws {
        #expect(isInvalid(failure(Array(try #require(#"{"a":1}"#.data(using: encoding))))))
    }

    @Test(
        "what no 64-bit float can hold is an invalid number",
        arguments: [
            "1e309", "-1e309", "1e400", "1.8e308", "17976931348623159e292", "1e99999999999999999999",
            String(repeating: "1", count: 400), "[1e999]", "NaN", "-Infinity", "Infinity", "[NaN]",
            "1" + String(repeating: "0", count: 309), "0." + String(repeating: "0", count: 2_000) + "1e5000",
        ])
    func number(text: String) {
        #expect(failure(text) == .invalidNumber)
    }

    @Test(
        "a key may be there once in each object, however it is spelt",
        arguments: [
            #"{"a":1,"a":2}"#, #"{"a":1,"\u0061":2}"#, #"{"\u0061":1,"a":2}"#, #"{"\u0061":1,"\u0061":2}"#,
            #"{"b":{"a":1,"c":2,"a":3}}"#, #"[{"":1,"":2}]"#, #"{"/":1,"\/":2}"#,
            #"{"😀":1,"\uD83D\uDE00":2}"#, #"{"x":[{"y":{}}],"z":1,"x":2}"#, #"{"a\n":1,"a\u000a":1}"#,
        ])
    func duplicate(text: String) {
        #expect(failure(text) == .duplicateKey)
    }

    @Test(
        "keys that only look alike are two keys",
        arguments: [
            #"{"a":1,"A":2}"#, #"{"a":1,"а":2}"#, "{\"\u{E9}\":1,\"e\u{301}\":2}", #"{"a":1,"a ":2}"#,
            #"{"a":{"a":{"a":1}}}"#, #"{"a":1,"\\u0061":2}"#,
        ])
    func alike(text: String) {
        #expect(failure(text) == nil)
    }

    @Test("thirty-two levels are accepted and thirty-three are too deep, of arrays, of objects and of both")
    func depth() {
        func arrays(_ depth: Int) -> String {
            String(repeating: "[", count: depth) + String(repeating: "]", count: depth)
        }
        func objects(_ depth: Int) -> String {
            String(repeating: "{\"a\":", count: depth - 1) + "{}" + String(repeating: "}", count: depth - 1)
        }
        func both(_ depth: Int) -> String {
            String(repeating: "[{\"a\":", count: depth / 2) + "1" + String(repeating: "}]", count: depth / 2)
        }
        #expect(failure(arrays(32)) == nil && failure(arrays(33)) == .tooDeep)
        #expect(failure(objects(32)) == nil && failure(objects(33)) == .tooDeep)
        #expect(failure(both(32)) == nil && failure(both(34)) == .tooDeep)
        #expect(failure(String(repeating: "[", count: 1_000_000)) == .tooDeep)
        #expect(failure(String(repeating: "{\"a\":", count: 100_000)) == .tooDeep)
        #expect(failure("[" + String(repeating: "[],", count: 1_000) + "[]]") == nil, "width is no depth")
    }

    @Test("an object has at most 4,096 keys")
    func keys() {
        func object(_ count: Int) -> String { "{" + (0..<count).map { "\"k\($0)\":0" }.joined(separator: ",") + "}" }
        #expect(failure(object(4_096)) == nil)
        #expect(failure(object(4_097)) == .tooManyKeys)
    }

    @Test(
        "a document that is cut at any byte is refused",
        arguments: [
            #"{"model":"iris","features":[5.1,-3.5e2,0.25],"x":{"y":[true,null,"é\u20AC\n😀"]}}"#,
            #"["a",{"b":[[],{}]}]"#, #""\uD83D\uDE00""#,
        ])
    func truncated(text: String) {
        let bytes = Array(text.utf8)
        #expect(failure(bytes) == nil)
        for count in 0..<bytes.count { #expect(isInvalid(failure(Array(bytes[..<count]))), "cut at \(count)") }
    }

    @Test("a document with a byte that is not JSON is refused wherever it stands")
    func inserted() {
        let text = Array(#"{"a":[1,true],"b":null}"#.utf8)
        for position in 0...text.count {
            for byte in [UInt8(0x00), 0x07, 0xFF, 0x80] {
                #expect(isInvalid(failure(text[..<position] + [byte] + text[position...])), "\(byte) at \(position)")
            }
        }
    }

    @Test("values are read as they were written")
    func values() throws {
        let text = #" {"s":"a\"é\u00e9\uD83D\uDE00","n":-12.50,"o":{"x":[1,[2],3]},"t":true,"z":null,"i":"plain"} "#
        let tape = try JSONTape(ByteBuffer(string: text))
        let root = tape.root
        #expect(tape.kind(root) == .object)
        #expect(tape.string(try #require(tape.member("s", of: root))) == "a\"éé😀")
        #expect(tape.string(try #require(tape.member("i", of: root))) == "plain")
        let number = try #require(tape.member("n", of: root))
        #expect(String(buffer: tape.slice(number)) == "-12.50")
        #expect(tape.string(number) == nil && tape.int64(number) == nil)
        let inner = try #require(tape.member("o", of: root))
        let array = try #require(tape.member("x", of: inner))
        #expect(tape.elements(of: array).map { String(buffer: tape.slice($0)) } == ["1", "[2]", "3"])
        #expect(String(buffer: tape.slice(try #require(tape.member("s", of: root)))) == #""a\"é\u00e9\uD83D\uDE00""#)
        #expect(tape.member("missing", of: root) == nil && tape.member("x", of: array) == nil)
        #expect(tape.elements(of: root).isEmpty)
        var keys: [String?] = []
        tape.forEachMember(of: root) { key, _ in keys.append(tape.string(key)) }
        #expect(keys == ["s", "n", "o", "t", "z", "i"])
    }

    @Test("a document is read from the buffer's reader index")
    func readerIndex() throws {
        var buffer = ByteBuffer(string: #"junk{"a":[7]}"#)
        buffer.moveReaderIndex(forwardBy: 4)
        let tape = try JSONTape(buffer)
        #expect(String(buffer: tape.slice(try #require(tape.member("a", of: tape.root)))) == "[7]")
        let array = try #require(tape.member("a", of: tape.root))
        #expect(tape.elements(of: array).map { tape.int64($0) } == [7])
    }

    @Test(
        "an integer is exact to 64 bits, and nothing else is one",
        arguments: [
            ("0", Int64(0) as Int64?), ("-0", 0), ("9223372036854775807", .max), ("-9223372036854775808", .min),
            ("9007199254740993", 9_007_199_254_740_993),
            ("9223372036854775808", nil), ("-9223372036854775809", nil), ("1.0", nil), ("1e3", nil), ("1E0", nil),
            ("\"1\"", nil), ("null", nil), ("[1]", nil),
        ] as [(String, Int64?)])
    func integer(text: String, expected: Int64?) throws {
        let tape = try JSONTape(ByteBuffer(string: text))
        #expect(tape.int64(tape.root) == expected)
    }

    @Test("a key with escapes matches its name")
    func escapedName() throws {
        let tape = try JSONTape(ByteBuffer(string: #"{"\u006dodel":"iris"}"#))
        #expect(tape.member("model", of: tape.root) != nil)
    }

    @Test("twenty thousand mutations are judged as Foundation judges them, where the rules agree", arguments: 1...4)
    func mutations(seed: Int) throws {
        var random = SeededRandom(seed: UInt64(seed))
        let seeds = [
            #"{"model":"iris","features":[5.1,3.5,1.4,0.2],"version":"1"}"#,
            #"[1,-2.5e3,true,false,null,"a\n\u00e9",{"b":{}}]"#, #"{"a":{"b":["c",[[]]]},"d":-0.0e-1}"#,
        ].map { Array($0.utf8) }
        let alphabet = Array(#"{}[]:,"\u019.eE+-tfnabc x"#.utf8)
        var agreed = (accepted: 0, refused: 0)
        for _ in 0..<5_000 {
            var bytes = seeds[Int.random(in: 0..<seeds.count, using: &random)]
            for _ in 0..<Int.random(in: 1...3, using: &random) where !bytes.isEmpty {
                let index = Int.random(in: 0..<bytes.count, using: &random)
                let byte = alphabet[Int.random(in: 0..<alphabet.count, using: &random)]
                switch Int.random(in: 0..<4, using: &random) {
                case 0: bytes[index] = byte
                case 1: bytes.insert(byte, at: index)
                case 2: bytes.remove(at: index)
                default: bytes.swapAt(index, Int.random(in: 0..<bytes.count, using: &random))
                }
            }
            let ours = failure(bytes)
            // Rules of ours that RFC 8259 leaves open, and Foundation settles otherwise.
            let text = String(decoding: bytes, as: UTF8.self)
            if ours == .duplicateKey || ours == .invalidNumber || ours != nil && text.contains(#"\u0"#) { continue }
            // Foundation takes a comma before a closing bracket; RFC 8259 does not.
            if ours != nil && text.filter({ $0 != " " }).contains(/,[\]}]/) { continue }
            let theirs = (try? JSONSerialization.jsonObject(with: Data(bytes), options: [.fragmentsAllowed])) != nil
            if (ours == nil) == theirs {
                if theirs { agreed.accepted += 1 } else { agreed.refused += 1 }
            } else {
                Issue.record("\(String(decoding: bytes, as: UTF8.self)): \(String(describing: ours)) against \(theirs)")
            }
        }
        #expect(agreed.accepted > 200 && agreed.refused > 2_000, "the mutations meet both: \(agreed)")
    }

    @Test("random bytes never make anything but an answer", arguments: 1...4)
    func noise(seed: Int) {
        var random = SeededRandom(seed: UInt64(seed) << 32)
        for _ in 0..<3_000 {
            let count = Int.random(in: 0...24, using: &random)
            let bytes = (0..<count).map { _ in
                Bool.random(using: &random)
                    ? UInt8.random(in: 0...255, using: &random)
                    : Array("[]{}\",:\\u0e".utf8).randomElement(using: &random) ?? 0
            }
            guard failure(bytes) == nil else { continue }
            #expect(String(validating: bytes, as: UTF8.self) != nil, "accepted what is no text: \(bytes)")
        }
    }
}
