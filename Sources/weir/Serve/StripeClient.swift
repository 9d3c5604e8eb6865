import AsyncHTTPClient
import Domain
import Foundation
import NIOCore

/// Sends meter events to Stripe's `POST /v1/billing/meter_events`.
struct StripeClient: StripeTransport {
    let client: HTTPClient
    let baseURL: String
    /// Secret.
    private let key: String
    private let eventNames: [Meter: String]

    private static let timeoutSeconds: Int64 = 20
    private static let answerBytes = 65_536

    init(client: HTTPClient, settings: StripeSettings, key: String) {
        self.client = client
        self.key = key
        baseURL = settings.url
        eventNames = settings.eventNames
    }

    func send(_ event: StripeEvent) async -> StripeReply {
        var request = HTTPClientRequest(url: "\(baseURL)/v1/billing/meter_events")
        request.method = .POST
        request.headers.add(name: "authorization", value: "Bearer \(key)")
        request.headers.add(name: "content-type", value: "application/x-www-form-urlencoded")
        // No Idempotency-Key: Stripe answers a key that it knows with what it said the first time, also where that was a failure of its own, for
        // a day. The event's identifier is what it takes once.
        request.headers.add(name: "user-agent", value: "weir/\(Weir.version)")
        request.body = .bytes(ByteBuffer(string: body(of: event)))
        do {
            let response = try await client.execute(request, timeout: .seconds(Self.timeoutSeconds))
            let status = Int(response.status.code)
            if (200..<300).contains(status) { return .accepted(status: status) }
            let text = String(buffer: try await response.body.collect(upTo: Self.answerBytes))
            return Self.reply(status, text, retryAfter: response.headers.first(name: "retry-after"))
        } catch {
            return .failed(status: nil, reason: "no answer: \(type(of: error))")
        }
    }

    private func body(of event: StripeEvent) -> String {
        [
            ("event_name", eventNames[event.meter] ?? event.meter.rawValue), ("identifier", event.identifier),
            ("timestamp", String(event.at.microsecondsSince1970 / 1_000_000)),
            ("payload[stripe_customer_id]", event.customerID), ("payload[value]", String(event.value)),
        ].map { "\(PercentEncoding.component($0))=\(PercentEncoding.component($1))" }.joined(separator: "&")
    }

    /// Nothing of the answer's text is kept but a code of a few characters: a message could repeat what was sent.
    /// - Parameter retryAfter: in seconds; a date is not read.
    static func reply(_ status: Int, _ text: String, retryAfter: String? = nil) -> StripeReply {
        struct Answer: Decodable {
            struct Failure: Decodable {
                let code: String?
                let message: String?
            }
            let error: Failure?
        }
        let failure = (try? JSONDecoder().decode(Answer.self, from: Data(text.utf8)))?.error
        let code = String((failure?.code ?? "").unicodeScalars.filter { $0.isASCII && $0.value > 0x20 }.prefix(64))
        let isDuplicate =
            ["duplicate_meter_event", "resource_already_exists"].contains(code)
            || failure?.message?.lowercased().contains("already exists with identifier") == true
        switch status {
        case 400 where isDuplicate, 409 where isDuplicate: return .accepted(status: status)
        // What is wrong with the key, or takes too long, is wrong with every event, and a person mends it: no reason to give up one.
        case 401, 403, 408, 409, 429, 500...:
            let seconds = retryAfter.flatMap { Int64($0.trimmingCharacters(in: .whitespaces)) } ?? 0
            return .failed(
                status: status, reason: code.isEmpty ? "status \(status)" : code,
                afterMilliseconds: (1...86_400).contains(seconds) ? seconds * 1_000 : nil)
        default: return .refused(status: status, reason: code.isEmpty ? "status \(status)" : code)
        }
    }
}
