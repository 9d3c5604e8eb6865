import Domain
import Testing

@Suite("Tags of requests") struct RequestTagsTests {
    private static let longKey = String(repeating: "k", count: 32)
    private static let longValue = String(repeating: "V", count: 64)
    private static let sixteen = (0..<16).map { "k\($0)=1" }.joined(separator: ",")

    @Test(
        "pairs are read, trimmed and put into the order of their keys",
        arguments: [
            (["team=search"], "team=search"), (["b=2,a=1"], "a=1,b=2"), ([" a=1 ,\tb=2 "], "a=1,b=2"),
            (["b=2", "a=1"], "a=1,b=2"), (["a.b_c-9=x"], "a.b_c-9=x"), (["0=Az09_.:/@+-"], "0=Az09_.:/@+-"),
            (["\(longKey)=\(longValue)"], "\(longKey)=\(longValue)"),
        ])
    func valid(fields: [String], text: String) throws {
        #expect(try RequestTags(fields: fields).text == text)
    }

    @Test("sixteen pairs are taken, in one field or in several")
    func sixteenPairs() throws {
        #expect(try RequestTags(fields: [Self.sixteen]).text.split(separator: ",").count == 16)
        #expect(throws: Refusal.self) { try RequestTags(fields: [Self.sixteen, "z=1"]) }
    }

    @Test(
        "anything else is refused, and nothing that could be taken apart otherwise is let through",
        arguments: [
            "", " ", "a", "=1", "a=", "a=1,", ",a=1", "a=1,,b=2", "a=1,a=2", "A=1", "-a=1", "a b=1", "a=b c", "a=b=c",
            "a=\"x\"", "a={x}", "a=x\\y", "a='x'", "ä=1", "a=ä", "a=x;b=y", "a=x\u{0}", "other", "a=1\nb=2",
            "\(longKey)k=1", "a=\(longValue)V", "a=,b", "a=%2C",
        ])
    func invalid(field: String) {
        let refusal = #expect(throws: Refusal.self) { try RequestTags(fields: [field]) }
        #expect(refusal?.code == .invalidTags)
        #expect(refusal?.errors.first?.location == "x-weir-tags")
    }
}
