internal import Crypto
internal import Domain
internal import Foundation

/// The fields by which a receiver knows who sent a message, when, and whether it had it before: the form of Standard Webhooks.
enum WebhookSignature {
    /// - Parameters:
    ///   - time: of this attempt; receivers refuse one that is minutes away.
    ///   - secrets: those that are valid, each of which signs. Empty ones sign nothing: a signature under no secret could be made by anybody.
    /// - Returns: `nil` where no secret is left to sign with.
    static func fields(
        eventID: WebhookEventID, at time: Timestamp, body: [UInt8], secrets: [[UInt8]]
    ) -> [(name: String, value: String)]? {
        let id = eventID.publicText
        let seconds = String(time.microsecondsSince1970 / 1_000_000)
        let signatures = secrets.filter { !$0.isEmpty }.map {
            signature(id: id, seconds: seconds, body: body, secret: $0)
        }
        guard !signatures.isEmpty else { return nil }
        return [
            ("webhook-id", id), ("webhook-timestamp", seconds),
            ("webhook-signature", signatures.joined(separator: " ")),
        ]
    }

    static func signature(id: String, seconds: String, body: [UInt8], secret: [UInt8]) -> String {
        var code = HMAC<SHA256>(key: SymmetricKey(data: secret))
        code.update(data: Array("\(id).\(seconds).".utf8))
        code.update(data: body)
        return "v1," + Data(code.finalize()).base64EncodedString()
    }
}
