internal import Domain
internal import HTTPListener
internal import Hummingbird

/// `/admin/v1/models/{model}/routing` and its versions: which version a request gets, and where copies go.
struct ModelRoutingEndpoint: Sendable {
    let administration: any Administration

    private static let tokenLimit: Int64 = 1_000_000_000

    func get(_ call: AdminCall) async throws -> Response {
        try .json(ModelRoutingAnswer(try await administration.modelRouting(try call.model())))
    }

    func change(_ call: AdminCall) async throws -> Response {
        let model = try call.model()
        let input = try await RequestBodyReader.object(
            call, fields: ["default_version", "sticky_by", "mirror", "split"])
        var change = ModelRoutingChange()
        if input.isNull("default_version") {
            change.defaultVersion = .clear
        } else if let version = input.optional("default_version", .modelVersion) {
            change.defaultVersion = .set(version)
        }
        change.stickiness = input.optional("sticky_by", .stickiness)
        if input.isNull("mirror") {
            change.mirror = .clear
        } else if input.has("mirror"), let mirror = input.object("mirror", fields: ["model", "version", "share"]) {
            if let rule = Self.mirror(mirror, of: model) { change.mirror = .set(rule) }
        }
        if input.has("split") { change.shares = Self.shares(input) }
        if input.isEmpty { input.problems.add("", "changes nothing", fix: "Send at least one field.") }
        try input.problems.check()
        return try .json(
            ModelRoutingAnswer(try await administration.changeModelRouting(model, change, by: call.actor)))
    }

    private static func mirror(_ input: InputObject, of model: String) -> MirrorRule? {
        let target = input.nullable("model", .modelName)
        let version = input.nullable("version", .modelVersionOrLatest)
        let share = input.required("share", .integer(1...Int64(MirrorRule.shareLimit)))
        if version == nil, target == nil || target == model {
            input.note("version", "is missing", fix: "Name another version of the model, or another model.")
        }
        guard let share else { return nil }
        return MirrorRule(model: target, version: version, share: Int(share))
    }

    private static func shares(_ input: InputObject) -> [TrafficSplit.Share] {
        var shares: [TrafficSplit.Share] = []
        for item in input.objects("split", count: 0...64, fields: ["version", "weight"]) {
            let version = item.required("version", .modelVersion)
            let weight = item.required("weight", .integer(0...Int64(TrafficSplit.weightLimit)))
            guard let version, let weight else { continue }
            if shares.contains(where: { $0.version == version }) {
                item.note("version", "is there twice", fix: "Send it once.")
            }
            shares.append(TrafficSplit.Share(version: version, weight: Int(weight)))
        }
        if !shares.isEmpty, shares.allSatisfy({ $0.weight == 0 }) {
            input.note("split", "has no weight", fix: "Give one version a weight, or send an empty list to end it.")
        }
        return shares
    }

    func setVersion(_ call: AdminCall) async throws -> Response {
        let model = try call.model()
        guard let text = call.context.parameters.get("version"),
            let version = InputRule.modelVersion.read(.string(text))
        else { throw Refusal(.notFound, "This cannot be the name of a version. \(InputRule.modelVersion.fix)") }
        let input = try await RequestBodyReader.object(
            call,
            fields: [
                "state", "feature_count", "fixed_tokens_per_request", "maximum_output_tokens", "token_counting",
                "bytes_per_token",
            ])
        var overrides = ProfileOverrides()
        overrides.featureCount = input.nullable("feature_count", .integer(1...4_096)).map { Int($0) }
        overrides.fixedTokensPerRequest = input.nullable("fixed_tokens_per_request", .integer(0...Self.tokenLimit))
        overrides.maximumOutputTokens = input.nullable("maximum_output_tokens", .integer(0...Self.tokenLimit))
        overrides.tokenCounting = input.nullable("token_counting", .oneOf(TokenCounting.allCases))
        overrides.bytesPerToken = input.nullable("bytes_per_token", .integer(1...1_000))
        let state = input.optional("state", .oneOf(ModelVersion.State.allCases)) ?? .active
        try input.problems.check()
        return try .json(
            ModelRoutingAnswer(
                try await administration.setModelVersion(
                    model, ModelVersion(name: version, state: state, overrides: overrides), by: call.actor)))
    }
}

extension AdminCall {
    /// A part of the path; what cannot be a name is unknown.
    func model() throws(Refusal) -> String {
        guard let name = context.parameters.get("model"), ModelName.isValid(name.utf8) else {
            throw Refusal(.notFound, "There is no such model.")
        }
        return name
    }
}

private struct ModelRoutingAnswer: Encodable {
    struct Version: Encodable {
        let version: String
        let state: String
        @Present var weight: Int?
        @Present var featureCount: Int?
        @Present var fixedTokensPerRequest: Int64?
        @Present var maximumOutputTokens: Int64?
        @Present var tokenCounting: String?
        @Present var bytesPerToken: Int64?

        enum CodingKeys: String, CodingKey {
            case version, state, weight
            case featureCount = "feature_count"
            case fixedTokensPerRequest = "fixed_tokens_per_request"
            case maximumOutputTokens = "maximum_output_tokens"
            case tokenCounting = "token_counting"
            case bytesPerToken = "bytes_per_token"
        }

        init(_ version: ModelVersion) {
            self.version = version.name
            state = version.state.rawValue
            weight = version.weight
            featureCount = version.overrides.featureCount
            fixedTokensPerRequest = version.overrides.fixedTokensPerRequest
            maximumOutputTokens = version.overrides.maximumOutputTokens
            tokenCounting = version.overrides.tokenCounting?.rawValue
            bytesPerToken = version.overrides.bytesPerToken
        }
    }

    struct Mirror: Encodable {
        @Present var model: String?
        @Present var version: String?
        let share: Int
    }

    let object = "model_routing"
    let model: String
    @Present var defaultVersion: String?
    let stickyBy: String
    @Present var mirror: Mirror?
    let versions: [Version]
    let aliases: [AliasAnswer]

    enum CodingKeys: String, CodingKey {
        case object, model, mirror, versions, aliases
        case defaultVersion = "default_version"
        case stickyBy = "sticky_by"
    }

    init(_ row: ModelRoutingRow) {
        model = row.model
        defaultVersion = row.rules.defaultVersion
        stickyBy = row.rules.stickiness.text
        mirror = row.rules.mirror.map { Mirror(model: $0.model, version: $0.version, share: $0.share) }
        versions = row.versions.map(Version.init)
        aliases = row.aliases.map(AliasAnswer.init)
    }
}
