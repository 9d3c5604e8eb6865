import ArgumentParser
import Domain

struct ModelDeliveryCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "delivery",
        abstract: "Say how a model's replicas are called.",
        discussion: """
            Replaces what was said before; what is left out is the gateways' default. Every gateway follows within a second.

            Settings: balancing, safe_to_repeat, probe_path, stream_leave, \
            \(DeliverySettings.Number.allCases.map(\.rawValue).joined(separator: ", ")).

            Examples:
              weir models delivery iris attempts=2 total_ms=2000
              weir models delivery iris balancing=least_latency hedge_after_ms=150
              weir models delivery iris
            """)

    @Argument(help: "The model's name.") var name: String
    @Argument(help: ArgumentHelp("What to set.", valueName: "setting=value")) var settings: [String] = []
    @OptionGroup var admin: AdminOptions

    func validate() throws {
        guard ModelName.isValid(name.utf8) else { throw ValidationError("\(name) is no name for a model") }
        _ = try body()
    }

    /// What is sent.
    func body() throws -> [String: DeliveryWord] {
        var body: [String: DeliveryWord] = [:]
        for setting in settings {
            let parts = setting.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
            guard parts.count == 2 else { throw ValidationError("\(setting) is not of the form setting=value") }
            guard body[parts[0]] == nil else { throw ValidationError("\(parts[0]) is there twice") }
            body[parts[0]] = try Self.word(parts[0], parts[1])
        }
        return body
    }

    private static func word(_ name: String, _ value: String) throws -> DeliveryWord {
        switch name {
        case "balancing":
            guard Balancing(rawValue: value) != nil else {
                throw ValidationError(
                    "balancing is one of \(Balancing.allCases.map(\.rawValue).joined(separator: ", "))")
            }
            return .text(value)
        case "safe_to_repeat":
            guard let truth = Bool(value) else { throw ValidationError("safe_to_repeat is true or false") }
            return .boolean(truth)
        case "probe_path":
            guard DeliverySettings.isValid(probePath: value) else {
                throw ValidationError("probe_path is a path such as /healthz")
            }
            return .text(value)
        case "stream_leave":
            guard StreamLeave(rawValue: value) != nil else {
                throw ValidationError("stream_leave is cancel or drain")
            }
            return .text(value)
        default:
            guard let number = DeliverySettings.Number(rawValue: name) else {
                throw ValidationError("there is no setting \(name)")
            }
            guard let amount = Int64(value), number.range.contains(amount) else {
                throw ValidationError(
                    "\(name) is a whole number from \(number.range.lowerBound) to \(number.range.upperBound)")
            }
            return .number(amount)
        }
    }

    func run() async throws {
        try await admin.send(AdminRequest(.put, ["models", name, "delivery"], body: try body())) {
            ModelDeliveryCommand.table(try $0.decoded(AdminModel.self))
        }
    }

    static func table(_ model: AdminModel) -> String {
        var table = TextTable(["setting", "value"])
        guard let delivery = model.delivery else { return table.text }
        for child in Mirror(reflecting: delivery).children {
            if let label = child.label, let value = Self.text(child.value) { table.add([snakeCase(label), value]) }
        }
        return table.text
    }

    private static func text(_ value: Any) -> String? {
        switch value {
        case let text as String: text
        case let number as Int64: String(number)
        case let truth as Bool: String(truth)
        default: nil
        }
    }

    private static func snakeCase(_ name: String) -> String {
        name.reduce(into: "") { $0 += $1.isUppercase ? "_\($1.lowercased())" : String($1) }
    }
}

/// A setting's value as JSON has it.
enum DeliveryWord: Encodable, Equatable {
    case text(String)
    case number(Int64)
    case boolean(Bool)

    func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        switch self {
        case .text(let text): try container.encode(text)
        case .number(let number): try container.encode(number)
        case .boolean(let truth): try container.encode(truth)
        }
    }
}
