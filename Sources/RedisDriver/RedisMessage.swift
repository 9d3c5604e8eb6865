/// A message that came over a subscription.
public struct RedisMessage: Hashable, Sendable {
    public var channel: String
    public var payload: [UInt8]
    /// The pattern of PSUBSCRIBE that the channel matched; `nil` for a channel of SUBSCRIBE.
    public var pattern: String?

    public init(channel: String, payload: [UInt8], pattern: String? = nil) {
        self.channel = channel
        self.payload = payload
        self.pattern = pattern
    }

    /// Reads `[message, channel, payload]` or `[pmessage, pattern, channel, payload]`.
    ///
    /// Source: Redis documentation, "Pub/sub", section "Format of pushed messages".
    /// - Returns: `nil` for anything else, such as the reply to PING or the confirmation of SUBSCRIBE.
    init?(push value: RedisValue) {
        guard case .array(let elements) = value, case .bulk(let kind)? = elements.first else { return nil }
        switch elements.count {
        case 3 where kind.elementsEqual("message".utf8):
            guard case .bulk(let channel) = elements[1], case .bulk(let payload) = elements[2] else { return nil }
            self.init(channel: String(decoding: channel, as: UTF8.self), payload: payload)
        case 4 where kind.elementsEqual("pmessage".utf8):
            guard case .bulk(let pattern) = elements[1], case .bulk(let channel) = elements[2],
                case .bulk(let payload) = elements[3]
            else { return nil }
            self.init(
                channel: String(decoding: channel, as: UTF8.self), payload: payload,
                pattern: String(decoding: pattern, as: UTF8.self))
        default:
            return nil
        }
    }
}
