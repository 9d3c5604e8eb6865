internal import Domain
internal import HTTPListener
internal import Hummingbird

/// `/admin/v1/workers`: workers that say by themselves that they are there.
struct WorkersEndpoint: Sendable {
    let administration: any Administration
    /// Which addresses may be named at all, as with routes.
    let isAllowed: @Sendable (WorkerAddress) -> Bool

    func list(_ call: AdminCall) async throws -> Response {
        let page = try await administration.workers(try call.query.page { WorkerID($0) })
        return try .json(ListAnswer(page, cursor: \.id.description, WorkerAnswer.init))
    }

    func register(_ call: AdminCall) async throws -> Response {
        let input = try await RequestBodyReader.object(
            call, fields: ["model", "version", "address", "protocol", "weight", "ttl_seconds"])
        let model = input.required("model", .modelName)
        let version = input.optional("version", .modelVersionOrNone) ?? ""
        let address = input.required("address", .workerAddress)
        let workerProtocol = input.required("protocol", .oneOf(WorkerProtocol.allCases))
        let weight = input.optional("weight", .integer(1...1_000)) ?? 1
        let lifetime = input.optional("ttl_seconds", .integer(NewWorker.lifetimeSeconds)) ?? 15
        if let address, !isAllowed(address) {
            input.note(
                "address", "is outside the networks that workers may be in",
                fix: "See the setting WEIR_WORKER_NETWORKS.")
        }
        try input.problems.check()
        guard let model, let address, let workerProtocol else { throw input.problems.refusal }
        let row = try await administration.registerWorker(
            NewWorker(
                model: model,
                replica: Replica(
                    address: address, workerProtocol: workerProtocol, weight: Int(weight), version: version),
                lifetimeSeconds: Int(lifetime)),
            by: call.actor)
        return try .json(WorkerAnswer(row), status: .created)
    }

    func renew(_ call: AdminCall) async throws -> Response {
        try .json(WorkerAnswer(try await administration.renewWorker(try Self.workerID(call))))
    }

    func remove(_ call: AdminCall) async throws -> Response {
        try await administration.removeWorker(try Self.workerID(call), by: call.actor)
        return Response(status: .noContent)
    }

    private static func workerID(_ call: AdminCall) throws(Refusal) -> WorkerID {
        guard let text = call.context.parameters.get("worker_id"), let id = WorkerID(text) else {
            throw Refusal(.notFound, "There is no such worker.")
        }
        return id
    }
}

private struct WorkerAnswer: Encodable {
    let id: String
    let object = "worker"
    let model: String
    let version: String
    let address: String
    let `protocol`: String
    let weight: Int
    let ttlSeconds: Int
    let heartbeatSeconds: Int
    let state: String
    let registeredAt: String
    let expiresAt: String

    enum CodingKeys: String, CodingKey {
        case id, object, model, version, address, `protocol`, weight, state
        case ttlSeconds = "ttl_seconds"
        case heartbeatSeconds = "heartbeat_seconds"
        case registeredAt = "registered_at"
        case expiresAt = "expires_at"
    }

    init(_ row: WorkerRow) {
        id = row.id.description
        model = row.model
        version = row.replica.version
        address = row.replica.address.shown
        `protocol` = row.replica.workerProtocol.rawValue
        weight = row.replica.weight
        ttlSeconds = row.lifetimeSeconds
        heartbeatSeconds = row.heartbeatSeconds
        state = row.isExpired ? "expired" : "serving"
        registeredAt = row.registeredAt.description
        expiresAt = row.expiresAt.description
    }
}
