import Domain
import TestSupport
import Testing

@Suite("webhooks")
struct WebhookTests {
    private static let forbidden = [
        "file:///etc/passwd", "gopher://example.com/", "ftp://example.com/", "https://user:pass@example.com/",
        "https://user@example.com/",
        "https://example.com:22/", "https://example.com:25/", "https://example.com:6379/", "https://localhost./",
        "https://0x7f000001/",
        "https://2130706433/", "https://127.1/", "https://0177.0.0.1/", "https://1.2.3.256/", "https://example.com./x",
        "https://127.0.0.1./",
        "https://127.0.0.0x1/",
    ]

    private static let malformed = [
        "", "example.com", "https:", "https:example.com", "https:///path", "https://", "https://exa mple.com/",
        "https://example.com/#part",
        "https://example.com\\@evil.com/", "https://[::1", "https://[example]/", "https://example.com:/",
        "https://example.com:0/",
        "https://example.com:65536/", "https://example.com:+443/", "https://a..b/", "https://ex%61mple.com/",
        "https://exämple.com/",
        "https://example.com/\u{0}", "https://example.com/\r\nx", "https://[::1]443/",
    ]

    @Test("addresses that are never sent to are refused as such", arguments: forbidden)
    func forbids(text: String) {
        #expect {
            _ = try WebhookURL(text)
        } throws: { error in
            if case .forbidden? = error as? WebhookURL.Problem { true } else { false }
        }
    }

    @Test("what has more than one reading is no address", arguments: malformed)
    func refuses(text: String) {
        #expect {
            _ = try WebhookURL(text)
        } throws: { error in
            if case .malformed? = error as? WebhookURL.Problem { true } else { false }
        }
    }

    @Test("an address is taken apart once")
    func parts() throws {
        let plain = try WebhookURL("HTTPS://Example.COM/a/b?c=d")
        #expect(plain.usesTLS && plain.host == "example.com" && plain.port == 443 && plain.target == "/a/b?c=d")
        #expect(plain.authority == "example.com")
        let query = try WebhookURL("http://example.com:8080?x")
        #expect(query.target == "/?x" && query.authority == "example.com:8080")
        let v6 = try WebhookURL("https://[2606:4700::1111]:8443/")
        #expect(v6.host == "2606:4700::1111" && v6.authority == "[2606:4700::1111]:8443")
        #expect(try WebhookURL("https://1.2.3.4").host == "1.2.3.4")
    }

    @Test("pauses grow fourfold within their chance, up to a longest one, and end with the span")
    func pauses() {
        let policy = WebhookRetryPolicy()
        var random = SeededRandom(seed: 7)
        for (tries, seconds) in [
            (1, Int64(5)), (2, 20), (3, 80), (6, 5_120), (7, 14_400), (50, 14_400), (Int.max, 14_400),
        ] {
            for _ in 0..<50 {
                guard case .again(let pause) = policy.decision(afterTries: tries, ageMilliseconds: 0, using: &random)
                else {
                    Issue.record("given up after \(tries)")
                    continue
                }
                #expect((seconds * 800...seconds * 1_200).contains(pause))
            }
        }
        #expect(policy.decision(afterTries: 9, ageMilliseconds: 86_400_000, using: &random) == .giveUp)
        guard case .again(let last) = policy.decision(afterTries: 9, ageMilliseconds: 86_399_000, using: &random) else {
            Issue.record("no last attempt")
            return
        }
        #expect(last <= 1_000)
    }

    @Test("2xx is success, 410 wants no more, everything else is tried again until the span has passed")
    func outcomes() {
        var random = SeededRandom(seed: 7)
        let policy = WebhookRetryPolicy()
        func outcome(_ reply: WebhookReply, age: Int64 = 0) -> WebhookOutcome {
            WebhookOutcome(reply, tries: 1, ageMilliseconds: age, policy: policy, using: &random)
        }
        for status in [200, 201, 204, 299] { #expect(outcome(.answered(status: status)) == .delivered) }
        #expect(outcome(.answered(status: 410)) == .gone)
        for status in [301, 302, 307, 308, 400, 401, 404, 429, 500, 503] {
            guard case .waiting = outcome(.answered(status: status)) else {
                Issue.record("\(status)")
                continue
            }
            #expect(outcome(.answered(status: status), age: 86_400_000) == .failed)
        }
        for failure in WebhookFailure.allCases where !failure.isOurs {
            guard case .waiting = outcome(.failed(failure)) else {
                Issue.record("\(failure)")
                continue
            }
        }
    }

    @Test("what is our fault is postponed, however old it is, and never given up")
    func ours() {
        var random = SeededRandom(seed: 7)
        for (failure, pause) in [(WebhookFailure.noCapacity, Int64(5_000)), (.secretUnreadable, 300_000)] {
            for age in [Int64(0), 86_400_000, .max] {
                let outcome = WebhookOutcome(
                    .failed(failure), tries: 9, ageMilliseconds: age, policy: WebhookRetryPolicy(), using: &random)
                #expect(outcome == .postponed(pauseMilliseconds: pause))
            }
        }
        #expect(WebhookFailure.allCases.filter(\.isOurs) == [.secretUnreadable, .noCapacity])
    }
}
