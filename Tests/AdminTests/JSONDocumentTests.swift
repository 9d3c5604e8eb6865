import Domain
import Testing

@testable import Admin

@Suite("The JSON reader of the admin listener")
struct JSONDocumentTests {
    private func parse(_ text: String) throws(Refusal) -> JSONValue { try JSONDocument.parse(Array(text.utf8)) }

    @Test("every kind of value is read")
    func values() throws {
        let value = try parse(#" {"a": [null, true, false, -0.5e+10, "x"], "b": {}, "c": [], "": ""} "#)
        #expect(
            value
                == .object([
                    "a": .array([.null, .bool(true), .bool(false), .number("-0.5e+10"), .string("x")]),
                    "b": .object([:]), "c": .array([]),
                    "": .string(""),
                ]))
    }

    @Test("escapes are read, surrogate pairs among them")
    func escapes() throws {
        #expect(try parse(#""\"\\\/\b\f\n\r\t\u00e4\ud83e\udd50""#) == .string("\"\\/\u{8}\u{c}\n\r\tä🥐"))
    }

    @Test(
        "what is not JSON is refused",
        arguments: [
            "", " ", "nul", "truex", "+1", ".5", "1.", "1e", "1e+", "-", "00", "0x1", "[1 2]", "[1,]", "[,1]", "{,}",
            #"{"a"}"#, #"{"a":}"#,
            #"{"a":1 "b":2}"#, "{1:2}", #"""#, #""\x""#, #""\u12""#, #""\u12G4""#, #""\udc00""#, #""\ud800x""#,
            #""\ud800\u0041""#, "\"\n\"",
            "[", "{", #"{"a":1"#, "1 1", "/* */ 1", "\u{FEFF}{}",
        ])
    func malformed(text: String) {
        #expect(throws: Refusal.self) { _ = try parse(text) }
        do throws(Refusal) {
            _ = try parse(text)
        } catch {
            #expect(error.code == .invalidJSON)
        }
    }

    @Test(
        "bytes that are not UTF-8 are refused",
        arguments: [[0xFF], [0x22, 0xC3, 0x22], [0x22, 0xED, 0xA0, 0x80, 0x22], [0x22, 0xC0, 0x80, 0x22]])
    func notUTF8(bytes: [UInt8]) {
        #expect(throws: Refusal.self) { _ = try JSONDocument.parse(bytes) }
    }

    @Test("the depth is bounded, whatever the document's size")
    func depth() throws {
        let limit = JSONDocument.depthLimit
        _ = try parse(String(repeating: "[", count: limit) + String(repeating: "]", count: limit))
        for count in [limit + 1, 100_000] {
            do throws(Refusal) {
                _ = try parse(String(repeating: "[", count: count))
                Issue.record("read")
            } catch {
                #expect(error.code == .tooDeep)
            }
        }
    }

    @Test("a key twice in one object is refused, in two objects it is not")
    func duplicates() throws {
        do throws(Refusal) {
            _ = try parse(#"{"a": {"b": 1, "b": 1}}"#)
            Issue.record("read")
        } catch {
            #expect(error.code == .duplicateKey)
        }
        _ = try parse(#"[{"a": 1}, {"a": 1, "b": {"a": 1}}]"#)
    }
}
