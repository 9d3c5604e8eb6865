import HTTPListener
import Testing

@Suite("places in an answer")
struct PageTokenTests {
    @Test("a token is good for the question that it was made for", arguments: [1, 20, PageToken.offsetLimit])
    func sameQuestion(offset: Int) {
        let token = PageToken.text(offset, of: "usage")
        #expect(PageToken.offset(token, of: "usage") == offset)
        #expect(PageToken.offset(token, of: "costs") == nil)
    }

    @Test(
        "a place that no answer has is refused, though its check fits",
        arguments: [0, -1, PageToken.offsetLimit + 1, .max, .min])
    func noPlace(offset: Int) {
        #expect(PageToken.offset(PageToken.text(offset, of: "usage"), of: "usage") == nil)
    }

    @Test(
        "anything else is no token", arguments: ["", "page", "page_1", "page_1_1", "page_+1_0", "page_1_1_1", "page__"])
    func noToken(text: String) {
        #expect(PageToken.offset(text, of: "usage") == nil)
    }
}
