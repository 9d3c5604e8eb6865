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
            call,
            fields: ["user_id", "key_id", "unit", "frequency", "amount", "mode", "alignment", "thresholds_percent"])
        let user = input.nullable("user_id", Self.identifier("a user's id") { UserID($0) })
        let key = input.nullable("key_id", Self.identifier("a key's id") { KeyID($0) })
        let unit = input.required("unit", .oneOf(QuotaUnit.allCases))
        let frequency = input.required("frequency", .oneOf(Frequency.allCases))
        let amount = input.required("amount", .integer(0...Int64.max))
        let mode = input.optional("mode", .oneOf(QuotaMode.allCases)) ?? .hard
        let alignment = input.optional("alignment", .oneOf(QuotaAlignment.allCases)) ?? .calendar
        let thresholds = input.optional("thresholds_percent", .thresholds) ?? .standard
        if user != nil, key != nil {
            input.note("key_id", "cannot be sent together with user_id", fix: "Send one of them, or none.")
        }
        try input.problems.check()
        guard let unit, let frequency, let amount else { throw input.problems.refusal }
        let holder = user.map { QuotaHolder.user($0) } ?? key.map { QuotaHolder.key($0) } ?? .tenant
        let rule = QuotaRule(
            unit: unit, frequency: frequency, amount: amount, mode: mode, alignment: alignment, thresholds: thresholds)
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

    func events(_ call: AdminCall) async throws -> Response {
        let page = try call.query.page { QuotaEventID($0) }
        let tenantID = try call.query.value("tenant", "a tenant's id", fix: "Take it from GET /admin/v1/tenants.") {
            TenantID($0)
        }
        return try .json(
            ListAnswer(
                try await administration.quotaEvents(of: tenantID, page), cursor: \.event.id.description,
                QuotaEventAnswer.init))
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
    let thresholdsPercent: [Int16]
    let createdAt: String

    enum CodingKeys: String, CodingKey {
        case id, object, level, unit, frequency, amount, mode, alignment, origin, raised
        case tenantID = "tenant_id"
        case userID = "user_id"
        case keyID = "key_id"
        case thresholdsPercent = "thresholds_percent"
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
        thresholdsPercent = row.rule.thresholds.percents
        createdAt = row.createdAt.description
    }
}

private struct QuotaEventAnswer: Encodable {
    let id: String
    let object = "quota_event"
    let tenantID: String
    let quotaID: String
    @Present var userID: String?
    @Present var keyID: String?
    let policy: String
    let mode: String
    let thresholdPercent: Int16
    let used: Int64
    let amount: Int64
    let limit: Int64
    let periodStart: String
    @Present var periodEnd: String?
    @Present var crossedAt: String?

    enum CodingKeys: String, CodingKey {
        case id, object, policy, mode, used, amount, limit
        case tenantID = "tenant_id"
        case quotaID = "quota_id"
        case userID = "user_id"
        case keyID = "key_id"
        case thresholdPercent = "threshold_percent"
        case periodStart = "period_start"
        case periodEnd = "period_end"
        case crossedAt = "crossed_at"
    }

    init(_ row: QuotaEventRow) {
        let event = row.event
        id = event.id.description
        tenantID = event.tenantID.description
        quotaID = event.quotaID.description
        userID = row.holder.userID?.description
        keyID = row.holder.keyID?.description
        policy =
            Quota(
                id: event.quotaID, unit: row.unit, frequency: row.frequency, amount: event.amount, mode: event.mode,
                level: row.holder.level
            ).policy
        mode = event.mode.rawValue
        thresholdPercent = event.thresholdPercent
        used = event.used
        amount = event.amount
        limit = event.allowed
        periodStart = event.periodStart.description
        // Nothing that RFC 3339 can say comes behind a quota that never begins anew.
        periodEnd = row.frequency.recurs ? event.periodEnd.description : nil
        crossedAt = event.crossedAt?.description
    }
}
