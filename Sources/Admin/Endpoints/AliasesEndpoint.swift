internal import Domain
internal import HTTPListener
internal import Hummingbird

/// `/admin/v1/aliases`: second names of models.
struct AliasesEndpoint: Sendable {
    let administration: any Administration

    func list(_ call: AdminCall) async throws -> Response {
        let page = try await administration.aliases(try call.query.page(QueryParameters.nameCursor))
        return try .json(ListAnswer(page, cursor: \.name, AliasAnswer.init))
    }

    func set(_ call: AdminCall) async throws -> Response {
        let name = try Self.name(call)
        let input = try await RequestBodyReader.object(call, fields: ["model", "version"])
        let model = input.required("model", .modelName)
        let version = input.nullable("version", .modelVersion)
        try input.problems.check()
        guard let model else { throw input.problems.refusal }
        let alias = ModelAlias(name: name, model: model, version: version)
        return try .json(AliasAnswer(try await administration.setAlias(alias, by: call.actor)))
    }

    func delete(_ call: AdminCall) async throws -> Response {
        try await administration.deleteAlias(try Self.name(call), by: call.actor)
        return Response(status: .noContent)
    }

    private static func name(_ call: AdminCall) throws(Refusal) -> String {
        guard let name = call.context.parameters.get("alias"), ModelName.isValid(name.utf8) else {
            throw Refusal(.notFound, "This cannot be the name of an alias. \(InputRule.modelName.fix)")
        }
        return name
    }
}

struct AliasAnswer: Encodable {
    let alias: String
    let object = "alias"
    let model: String
    @Present var version: String?

    init(_ alias: ModelAlias) {
        self.alias = alias.name
        model = alias.model
        version = alias.version
    }
}
