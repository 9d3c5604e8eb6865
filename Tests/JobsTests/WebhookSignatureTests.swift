import Domain
import Foundation
import TestSupport
import Testing

@testable import Jobs

@Suite("signatures of webhooks")
struct WebhookSignatureTests {
    @Test("the example of the Standard Webhooks specification")
    func example() throws {
        let secret = try #require(Data(base64Encoded: "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"))
        let signature = WebhookSignature.signature(
            id: "msg_p5jXN8AQM9LWM0D4loKWxJek", seconds: "1614265330", body: Array(#"{"test": 2432232314}"#.utf8),
            secret: Array(secret))
        #expect(signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=")
    }

    @Test("each valid secret signs, an empty one does not, and without any nothing is sent")
    func secrets() throws {
        var random = SeededRandom(seed: 1)
        let id = WebhookEventID(at: Timestamp(microsecondsSince1970: 1_000_000), using: &random)
        let now = Timestamp(microsecondsSince1970: 1_700_000_000_999_999)
        let fields = try #require(
            WebhookSignature.fields(eventID: id, at: now, body: [1], secrets: [[1, 2], [], [3, 4]]))
        let values = Dictionary(uniqueKeysWithValues: fields.map { ($0.name, $0.value) })
        #expect(values["webhook-id"] == "evt_\(id)")
        #expect(values["webhook-timestamp"] == "1700000000")
        #expect(values["webhook-signature"]?.split(separator: " ").count == 2)
        #expect(WebhookSignature.fields(eventID: id, at: now, body: [1], secrets: [[]]) == nil)
        #expect(WebhookSignature.fields(eventID: id, at: now, body: [1], secrets: []) == nil)
    }
}
