internal import Domain
internal import HTTPListener
internal import Hummingbird

/// `/admin/v1/models`: what can be asked.
struct ModelsEndpoint: Sendable {
    let administration: any Administration

    private static let tokenLimit: Int64 = 1_000_000_000

    func list(_ call: AdminCall) async throws -> Response {
        let page = try await administration.models(try call.query.page(QueryParameters.nameCursor))
        return try .json(ListAnswer(page, cursor: \.name, ModelAnswer.init))
    }

    func create(_ call: AdminCall) async throws -> Response {
        let input = try await RequestBodyReader.object(
            call,
            fields: [
                "name", "version", "feature_count", "fixed_tokens_per_request", "maximum_output_tokens",
                "token_counting", "bytes_per_token", "cache",
            ])
        let name = input.required("name", .modelName)
        let version = input.optional("version", .modelVersion) ?? ""
        let featureCount = input.nullable("feature_count", .integer(1...4_096))
        let fixedTokens = input.optional("fixed_tokens_per_request", .integer(0...Self.tokenLimit)) ?? 1
        let outputTokens = input.optional("maximum_output_tokens", .integer(0...Self.tokenLimit)) ?? 64
        let counting = input.optional("token_counting", .oneOf(TokenCounting.allCases)) ?? .worker
        let bytesPerToken = input.optional("bytes_per_token", .integer(1...1_000)) ?? 4
        let cache =
            input.has("cache")
            ? input.object("cache", fields: CachePolicyInput.fields).flatMap(CachePolicyInput.read) ?? .off : .off
        try input.problems.check()
        guard let name else { throw input.problems.refusal }
        let model = try await administration.registerModel(
            ModelProfile(
                name: name, version: version, featureCount: featureCount.map { Int($0) },
                fixedTokensPerRequest: fixedTokens,
                maximumOutputTokens: outputTokens, tokenCounting: counting, bytesPerToken: bytesPerToken,
                cache: cache),
            by: call.actor)
        return try .json(ModelAnswer(model), status: .created)
    }
}

extension ModelsEndpoint {
    /// `/admin/v1/models/{model}/delivery`: how its replicas are called.
    func setDelivery(_ call: AdminCall) async throws -> Response {
        guard let name = call.context.parameters.get("model"), ModelName.isValid(name.utf8) else {
            throw Refusal(.notFound, "There is no such model.")
        }
        let input = try await RequestBodyReader.object(call, fields: DeliveryInput.fields)
        let settings = DeliveryInput.read(input)
        try input.problems.check()
        return try .json(ModelAnswer(try await administration.setDelivery(of: name, settings, by: call.actor)))
    }
}

struct ModelAnswer: Encodable {
    let name: String
    let version: String
    @Present var featureCount: Int?
    let fixedTokensPerRequest: Int64
    let maximumOutputTokens: Int64
    let tokenCounting: String
    let bytesPerToken: Int64
    let delivery: DeliveryAnswer
    let cache: CachePolicyAnswer

    enum CodingKeys: String, CodingKey {
        case name, version, delivery, cache
        case featureCount = "feature_count"
        case fixedTokensPerRequest = "fixed_tokens_per_request"
        case maximumOutputTokens = "maximum_output_tokens"
        case tokenCounting = "token_counting"
        case bytesPerToken = "bytes_per_token"
    }

    init(_ model: ModelProfile) {
        name = model.name
        version = model.version
        featureCount = model.featureCount
        fixedTokensPerRequest = model.fixedTokensPerRequest
        maximumOutputTokens = model.maximumOutputTokens
        tokenCounting = model.tokenCounting.rawValue
        bytesPerToken = model.bytesPerToken
        delivery = DeliveryAnswer(settings: model.delivery)
        cache = CachePolicyAnswer(model.cache)
    }
}
