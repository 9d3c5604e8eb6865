import ArgumentParser
import Testing

@testable import weir

@Suite("Rate limits on the command line")
struct RateLimitOptionsTests {
    @Test(
        "the short form",
        arguments: [
            ("requests=600", "tenant", "requests", 600, nil), ("requests=600:100", "tenant", "requests", 600, 100),
            ("tenant/tokens=90000", "tenant", "tokens", 90_000, nil),
            ("key/concurrency=8", "key", "concurrency", 8, nil),
            ("key/requests=none", "key", "requests", nil, nil),
        ] as [(String, String, String, Int64?, Int64?)])
    func parses(text: String, scope: String, unit: String, amount: Int64?, burst: Int64?) throws {
        let limit = try RateLimitOptions.parse(text)
        #expect(limit == AdminRateLimit(scope: scope, unit: unit, amount: amount, burst: burst))
        #expect(limit.text == text.replacing("tenant/", with: ""))
    }

    @Test(
        "what is no limit is refused with an example",
        arguments: [
            "", "requests", "requests=", "requests=-1", "requests=5:", "requests=5:-1", "requests=1.5", "words=5",
            "user/requests=5", "key/tenant/requests=5", "requests=none:5", "=5", "requests=5:5:5", "key/=5",
        ])
    func refuses(text: String) {
        #expect(throws: ValidationError.self) { try RateLimitOptions.parse(text) }
    }
}
