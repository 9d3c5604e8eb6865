internal import Domain
internal import HTTPListener
internal import Hummingbird

/// `GET /v1/models` and `/v1/models/{id}`: the models that the caller's key may call, in the form of the OpenAI API. Aliases are models here:
/// that they stand for another one is the operator's business.
struct ModelsEndpoint: Sendable {
    let routes: RouteDirectory

    func list(_ request: Request, _ context: ControlContext) async throws -> Response {
        let caller = try context.caller
        _ = try QueryParameters(request, allowed: [])
        let table = routes.current.table
        return try .json(Models(data: table.names.filter { caller.mayCall($0, in: table) }.map { Model(id: $0) }))
    }

    func one(_ request: Request, _ context: ControlContext) async throws -> Response {
        let caller = try context.caller
        _ = try QueryParameters(request, allowed: [])
        let table = routes.current.table
        guard let id = context.parameters.get("id"), table.realModel(of: id) != nil, caller.mayCall(id, in: table)
        else {
            // The same words for a model that is not there and for one that is not this key's.
            throw Refusal(
                .modelNotFound, "There is no such model, or it is not yours to call. GET /v1/models lists yours.")
        }
        return try .json(Model(id: id))
    }

    private struct Models: Encodable {
        let object = "list"
        let data: [Model]
    }

    private struct Model: Encodable {
        let id: String
        let object = "model"
        /// That API has a time here and no word for "not known".
        let created = 0
        let ownedBy = "weir"

        enum CodingKeys: String, CodingKey {
            case id, object, created
            case ownedBy = "owned_by"
        }
    }
}

extension Principal {
    /// A key that may call a model may call it by every name; one that may only use another name may use that one.
    func mayCall(_ name: String, in table: RouteTable) -> Bool {
        guard let allowedModels else { return true }
        return allowedModels.contains(name) || (table.realModel(of: name).map(allowedModels.contains) ?? false)
    }
}
