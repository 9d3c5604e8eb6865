internal import Domain
internal import HTTPListener
internal import Hummingbird

/// `/admin/v1/tenants/{id}/keys` and `/admin/v1/keys/{key_id}`: what customers call with.
struct KeysEndpoint: Sendable {
    let administration: any Administration
    let time: any TimeSource

    /// What a customer's key may be given; the other scopes are an administrator's.
    private static let scopes: [Scope] = [.predict, .read, .billing, .keys, .webhooks, .repository, .admin]
    private static let environments: [APIKey.Environment] = [.live, .test]

    func list(_ call: AdminCall) async throws -> Response {
        let page = try await administration.keys(of: try call.tenantID(), try call.query.page { KeyID($0) })
        return try .json(ListAnswer(page, cursor: \.id.description) { KeyAnswer($0) })
    }

    func create(_ call: AdminCall) async throws -> Response {
        let tenantID = try call.tenantID()
        let input = try await RequestBodyReader.object(
            call, fields: ["name", "environment", "scopes", "allowed_models", "expires_at", "rate_limits"])
        let name = input.nullable("name", .name) ?? ""
        let environment = input.optional("environment", .oneOf(Self.environments)) ?? .live
        let scopes = input.required(
            "scopes", InputRule<Scope>.set(of: .oneOf(Self.scopes), count: 1...Self.scopes.count))
        let models = input.nullable("allowed_models", InputRule<String>.set(of: .modelName, count: 1...1_000))
        let expiresAt = input.nullable("expires_at", .instant)
        let rateLimits = input.rateLimits(.key) ?? []
        if let expiresAt, expiresAt <= time.now {
            input.note(
                "expires_at", "has passed already",
                fix: "Send a later time, or leave it out for a key that does not expire.")
        }
        try input.problems.check()
        guard let scopes else { throw input.problems.refusal }
        let created = try await administration.createKey(
            NewKey(
                tenantID: tenantID, name: name, environment: environment, scopes: scopes, allowedModels: models,
                expiresAt: expiresAt, rateLimits: rateLimits),
            by: call.actor)
        var response = try Response.json(KeyAnswer(created.row, key: created.key.revealed), status: .created)
        response.headers[.cacheControl] = "no-store"
        return response
    }

    func change(_ call: AdminCall) async throws -> Response {
        let key = try Self.key(call)
        let input = try await RequestBodyReader.object(call, fields: ["rate_limits"])
        let rateLimits = input.rateLimits(.key)
        if input.isEmpty { input.problems.add("", "changes nothing", fix: "Send rate_limits.") }
        try input.problems.check()
        guard let rateLimits else { throw input.problems.refusal }
        let change = KeyChange(rateLimits: rateLimits)
        return try .json(KeyAnswer(try await administration.changeKey(key, change, by: call.actor)))
    }

    func revoke(_ call: AdminCall) async throws -> Response {
        try .json(KeyAnswer(try await administration.revokeKey(try Self.key(call), by: call.actor)))
    }

    private static func key(_ call: AdminCall) throws -> KeyReference {
        guard let text = call.context.parameters.get("key_id"), let key = reference(text) else {
            throw Refusal(.notFound, "There is no such key.")
        }
        return key
    }

    /// The id, or the public part: it is what somebody has who found a leaked key.
    private static func reference(_ text: String) -> KeyReference? {
        if let id = KeyID(text) { return .id(id) }
        return APIKey.PublicID(text).map { .publicID($0) }
    }
}

private struct KeyAnswer: Encodable {
    let id: String
    let object = "key"
    let publicID: String
    @Present var tenantID: String?
    @Present var name: String?
    let environment: String
    let lastFour: String
    let scopes: [String]
    @Present var allowedModels: [String]?
    let createdAt: String
    @Present var expiresAt: String?
    @Present var revokedAt: String?
    let rateLimits: [RateLimitAnswer]
    /// The whole key, in the one answer that shows it.
    let key: String?

    enum CodingKeys: String, CodingKey {
        case id, object, name, environment, scopes, key
        case publicID = "public_id"
        case tenantID = "tenant_id"
        case lastFour = "last_four"
        case allowedModels = "allowed_models"
        case createdAt = "created_at"
        case expiresAt = "expires_at"
        case revokedAt = "revoked_at"
        case rateLimits = "rate_limits"
    }

    init(_ row: KeyRow, key: String? = nil) {
        id = row.id.description
        publicID = row.publicID
        tenantID = row.tenantID?.description
        name = row.name.isEmpty ? nil : row.name
        environment = row.environment.rawValue
        lastFour = row.lastFour
        scopes = row.scopes.map(\.rawValue).sorted()
        allowedModels = row.allowedModels?.sorted()
        createdAt = row.createdAt.description
        expiresAt = row.expiresAt?.description
        revokedAt = row.revokedAt?.description
        rateLimits = row.rateLimits.map { RateLimitAnswer($0) }
        self.key = key
    }
}
