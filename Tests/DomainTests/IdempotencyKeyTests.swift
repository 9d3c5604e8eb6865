import Domain
import Testing

@Suite("Idempotency keys") struct IdempotencyKeyTests {
    private static let longest = String(repeating: "k", count: 255)

    @Test(
        "a key is a bare text or the same text as a quoted string",
        arguments: [
            ("a", "a"), (#""a""#, "a"),
            ("8e03978e-40d5-43dd-bc93-6894a57f9324", "8e03978e-40d5-43dd-bc93-6894a57f9324"),
            (#""8e03978e-40d5-43dd-bc93-6894a57f9324""#, "8e03978e-40d5-43dd-bc93-6894a57f9324"),
            (longest, longest), ("\"\(longest)\"", longest), ("!~", "!~"), (#"a"b"#, #"a"b"#), (#"a\b"#, #"a\b"#),
            (#""a\"b""#, #"a"b"#), (#""a\\b""#, #"a\b"#), ("  a\t", "a"), (" \"a\" ", "a"), ("a,b;c=d", "a,b;c=d"),
        ])
    func valid(field: String, text: String) {
        #expect(IdempotencyKey(field: field)?.text == text)
    }

    @Test(
        "anything else is no key",
        arguments: [
            "", " ", "\t", #""""#, #"""#, #""a"#, #""a"b""#, #""a" b"#, #""a";q=1"#, #""a\b""#, #""a\""#, #"" ""#,
            "a b",
            #""a b""#, "a\tb", "a\u{0}", "a\u{7F}", "ä", "\"ä\"", "a\r\nb", "🔑", longest + "k", "\"\(longest)k\"",
        ])
    func invalid(field: String) {
        #expect(IdempotencyKey(field: field) == nil)
    }

    @Test("the length counts what is meant, not how it is escaped")
    func escapedLength() {
        let quotes = String(repeating: #"\""#, count: 255)
        #expect(IdempotencyKey(field: "\"\(quotes)\"")?.text == String(repeating: "\"", count: 255))
        #expect(IdempotencyKey(field: "\"\(quotes)a\"") == nil)
    }
}
