internal import Domain
internal import HTTPListener
internal import Hummingbird

/// `/admin/v1/routes`: which workers answer for a model.
struct RoutesEndpoint: Sendable {
    let administration: any Administration
    /// Which addresses may be named at all: a route decides where customers' data is sent.
    let isAllowed: @Sendable (WorkerAddress) -> Bool

    func list(_ call: AdminCall) async throws -> Response {
        let page = try await administration.routes(try call.query.page(QueryParameters.nameCursor))
        return try .json(ListAnswer(page, cursor: \.model, RouteAnswer.init))
    }

    func set(_ call: AdminCall) async throws -> Response {
        let model = try call.modelName()
        let input = try await RequestBodyReader.object(call, fields: ["replicas"])
        var replicas: [Replica] = []
        for item in input.objects("replicas", count: 1...256, fields: ["address", "protocol", "weight", "version"]) {
            let address = item.required("address", .workerAddress)
            let workerProtocol = item.required("protocol", .oneOf(WorkerProtocol.allCases))
            let weight = item.optional("weight", .integer(1...1_000)) ?? 1
            let version = item.optional("version", .modelVersionOrNone) ?? ""
            guard let address, let workerProtocol else { continue }
            if !isAllowed(address) {
                item.note(
                    "address", "is outside the networks that workers may be in",
                    fix: "See the setting WEIR_WORKER_NETWORKS.")
            }
            if replicas.contains(where: { $0.address == address && $0.version == version }) {
                item.note("address", "is there twice", fix: "Send it once, with a greater weight.")
            }
            replicas.append(
                Replica(address: address, workerProtocol: workerProtocol, weight: Int(weight), version: version))
        }
        try input.problems.check()
        return try .json(RouteAnswer(try await administration.setRoute(model, replicas, by: call.actor)))
    }

    func delete(_ call: AdminCall) async throws -> Response {
        try await administration.deleteRoute(try call.modelName(), by: call.actor)
        return Response(status: .noContent)
    }

    private static func model(_ call: AdminCall) throws(Refusal) -> String {
        guard let name = call.context.parameters.get("model"), ModelName.isValid(name.utf8) else {
            throw Refusal(.notFound, "There is no such model.")
        }
        return name
    }
}

private struct RouteAnswer: Encodable {
    struct Item: Encodable {
        let address: String
        let `protocol`: String
        let weight: Int
        let version: String
    }

    let model: String
    let object = "route"
    let replicas: [Item]
    let updatedAt: String

    enum CodingKeys: String, CodingKey {
        case model, object, replicas
        case updatedAt = "updated_at"
    }

    init(_ row: RouteRow) {
        model = row.model
        replicas = row.replicas.map { replica in
            Item(
                address: replica.address.shown,
                protocol: replica.workerProtocol.rawValue, weight: replica.weight, version: replica.version)
        }
        updatedAt = row.updatedAt.description
    }
}

extension WorkerAddress {
    /// The form of inputs; unlike the description it says whether TLS is used.
    var shown: String { usesTLS ? "https://\(description)" : description }
}
