internal import Domain
internal import HTTPListener
internal import Hummingbird

/// `/admin/v1/tenants/{id}/quotas` and `/admin/v1/quotas/{quota_id}`: limits beside those of the tier, or in their place.
struct QuotasEndpoint: Sendable {
    let administration: any Administration

    func list(_ call: AdminCall) async throws -> Response {
        let page = try await administration.quotas(of: try call.tenantID(), try call.query.page { QuotaID($0) })
        return try .json(ListAnswer(page, cursor: \.id.description, QuotaAnswer.init))
    }

    func set(_ call: AdminCall) async throws -> Response {
        let tenantID = try call.tenantID()
        let input = try await RequestBodyReader.object(
            call, fields: ["user_id", "key_id", "unit", "frequency", "amount", "mode", "alignment"])
        let user = input.nullable("user_id", Self.identifier("a user's id") { UserID($0) })
        let key = input.nullable("key_id", Self.identifier("a key's id") { KeyID($0) })
        let unit = input.required("unit", .oneOf(QuotaUnit.allCases))
        let frequency = input.required("frequency", .oneOf(Frequency.allCases))
        let amount = input.required("amount", .integer(0...Int64.max))
        let mode = input.optional("mode", .oneOf(QuotaMode.allCases)) ?? .hard
        let alignment = input.optional("alignment", .oneOf(QuotaAlignment.allCases)) ?? .calendar
        if user != nil, key != nil {
            input.note("key_id", "cannot be sent together with user_id", fix: "Send one of them, or none.")
        }
        try input.problems.check()
        guard let unit, let frequency, let amount else { throw input.problems.refusal }
        let holder = user.map { QuotaHolder.user($0) } ?? key.map { QuotaHolder.key($0) } ?? .tenant
        let rule = QuotaRule(unit: unit, frequency: frequency, amount: amount, mode: mode, alignment: alignment)
        return try .json(
            QuotaAnswer(
                try await administration.setQuota(
                    NewQuota(tenantID: tenantID, holder: holder, rule: rule), by: call.actor)))
    }

    func raise(_ call: AdminCall) async throws -> Response {
        let id = try Self.quotaID(call)
        let input = try await RequestBodyReader.object(call, fields: ["amount", "periods"])
        let amount = input.required("amount", .integer(1...Int64.max))
        let periods = input.optional("periods", .integer(1...1_000)) ?? 1
        try input.problems.check()
        guard let amount else { throw input.problems.refusal }
        return try .json(
            QuotaAnswer(
                try await administration.raiseQuota(id, by: amount, periods: Int(periods), actor: call.actor)))
    }

    func delete(_ call: AdminCall) async throws -> Response {
        try await administration.deleteQuota(try Self.quotaID(call), by: call.actor)
        return Response(status: .noContent)
    }

    private static func quotaID(_ call: AdminCall) throws(Refusal) -> QuotaID {
        guard let text = call.context.parameters.get("quota_id"), let id = QuotaID(text) else {
            throw Refusal(.notFound, "There is no such quota.")
        }
        return id
    }

    private static func identifier<ID>(_ expectation: String, _ read: @escaping (String) -> ID?) -> InputRule<ID> {
        InputRule(expectation: expectation, fix: "Send an id as the lists show it.") { value in
            guard case .string(let text) = value else { return nil }
            return read(text)
        }
    }
}

private struct QuotaAnswer: Encodable {
    let id: String
    let object = "quota"
    let tenantID: String
    @Present var userID: String?
    @Present var keyID: String?
    let level: String
    let unit: String
    let frequency: String
    let amount: Int64
    let mode: String
    let alignment: String
    let origin: String
    let raised: Int64
    let createdAt: String

    enum CodingKeys: String, CodingKey {
        case id, object, level, unit, frequency, amount, mode, alignment, origin, raised
        case tenantID = "tenant_id"
        case userID = "user_id"
        case keyID = "key_id"
        case createdAt = "created_at"
    }

    init(_ row: QuotaRow) {
        id = row.id.description
        tenantID = row.tenantID.description
        userID = row.holder.userID?.description
        keyID = row.holder.keyID?.description
        level = row.holder.level.rawValue
        unit = row.rule.unit.rawValue
        frequency = row.rule.frequency.rawValue
        amount = row.rule.amount
        mode = row.rule.mode.rawValue
        alignment = row.rule.alignment.rawValue
        origin = row.origin.rawValue
        raised = row.raised
        createdAt = row.createdAt.description
    }
}
