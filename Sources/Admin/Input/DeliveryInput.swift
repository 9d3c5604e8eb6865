internal import Domain

/// How a model's replicas are called, as an input says it.
enum DeliveryInput {
    static let fields: Set<String> = Set(
        ["balancing", "safe_to_repeat", "probe_path", "stream_leave"] + DeliverySettings.Number.allCases.map(\.rawValue))

    static func read(_ input: InputObject) -> DeliverySettings {
        var settings = DeliverySettings(
            balancing: input.nullable("balancing", .oneOf(Balancing.allCases)),
            isSafeToRepeat: input.nullable("safe_to_repeat", .boolean),
            probePath: input.nullable("probe_path", probePath),
            streamLeave: input.nullable("stream_leave", .oneOf(StreamLeave.allCases)))
        for number in DeliverySettings.Number.allCases {
            settings.numbers[number] = input.nullable(number.rawValue, .integer(number.range))
        }
        return settings
    }

    private static var probePath: InputRule<String> {
        InputRule(
            expectation: "a path of at most 256 visible ASCII characters without a fragment",
            fix: "Send a path such as /healthz."
        ) { value in
            guard case .string(let text) = value, DeliverySettings.isValid(probePath: text) else { return nil }
            return text
        }
    }
}

/// The settings that there are; what is left out is the gateways' default.
struct DeliveryAnswer: Encodable {
    let settings: DeliverySettings

    private struct Name: CodingKey {
        let stringValue: String
        var intValue: Int? { nil }

        init(_ text: String) { stringValue = text }
        init?(stringValue: String) { self.stringValue = stringValue }
        init?(intValue: Int) { nil }
    }

    func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: Name.self)
        try container.encodeIfPresent(settings.balancing?.rawValue, forKey: Name("balancing"))
        try container.encodeIfPresent(settings.isSafeToRepeat, forKey: Name("safe_to_repeat"))
        try container.encodeIfPresent(settings.probePath, forKey: Name("probe_path"))
        try container.encodeIfPresent(settings.streamLeave?.rawValue, forKey: Name("stream_leave"))
        for (number, value) in settings.numbers { try container.encode(value, forKey: Name(number.rawValue)) }
    }
}
