internal import Domain
internal import HTTPListener
internal import Hummingbird

/// `/admin/v1/tenants`: who pays.
struct TenantsEndpoint: Sendable {
    let administration: any Administration

    private static let fields: Set<String> = [
        "name", "time_zone", "state", "retention", "result_ttl_seconds", "retention_max_bytes", "tier", "rate_limits",
        "receipts",
    ]
    /// Ten years.
    static let longestResultTTLSeconds: Int64 = 315_360_000
    private static let mostRetentionBytes: Int64 = 16_777_216

    func list(_ call: AdminCall) async throws -> Response {
        let page = try await administration.tenants(try call.query.page { TenantID($0) })
        return try .json(ListAnswer(page, cursor: \.id.description, TenantAnswer.init))
    }

    func one(_ call: AdminCall) async throws -> Response {
        try .json(TenantAnswer(try await administration.tenant(try call.tenantID())))
    }

    func create(_ call: AdminCall) async throws -> Response {
        let input = try await RequestBodyReader.object(
            call, fields: Self.fields)
        let name = input.required("name", .name)
        let timeZone = input.optional("time_zone", .timeZone) ?? "UTC"
        let state = input.optional("state", .oneOf(TenantState.allCases)) ?? .active
        let retention = input.optional("retention", .oneOf(Retention.allCases)) ?? .none
        let tier = input.required("tier", .tierCode)
        let ttl = input.optional("result_ttl_seconds", .integer(0...Self.longestResultTTLSeconds)) ?? 0
        let bytes = input.optional("retention_max_bytes", .integer(0...Self.mostRetentionBytes)) ?? 1_048_576
        let rateLimits = input.rateLimits(.subscription) ?? []
        let receipts = input.optional("receipts", .oneOf(ReceiptForm.allCases)) ?? .none
        try input.problems.check()
        guard let name, let tier else { throw input.problems.refusal }
        let row = try await administration.createTenant(
            NewTenant(
                name: name, timeZone: timeZone, state: state, retention: retention, tierCode: tier,
                rateLimits: rateLimits, resultTTLSeconds: ttl == 0 ? nil : ttl, retentionBytes: bytes,
                receipts: receipts),
            by: call.actor)
        var response = try Response.json(TenantAnswer(row), status: .created)
        response.headers[.location] = "/admin/v1/tenants/\(row.id)"
        return response
    }

    func change(_ call: AdminCall) async throws -> Response {
        let id = try call.tenantID()
        let input = try await RequestBodyReader.object(
            call, fields: Self.fields)
        let change = TenantChange(
            name: input.optional("name", .name), timeZone: input.optional("time_zone", .timeZone),
            state: input.optional("state", .oneOf(TenantState.allCases)),
            retention: input.optional("retention", .oneOf(Retention.allCases)),
            tierCode: input.optional("tier", .tierCode), rateLimits: input.rateLimits(.subscription),
            resultTTLSeconds: input.optional("result_ttl_seconds", .integer(0...Self.longestResultTTLSeconds)),
            retentionBytes: input.optional("retention_max_bytes", .integer(0...Self.mostRetentionBytes)),
            receipts: input.optional("receipts", .oneOf(ReceiptForm.allCases)))
        if input.isEmpty { input.problems.add("", "changes nothing", fix: "Send at least one field.") }
        try input.problems.check()
        return try .json(TenantAnswer(try await administration.changeTenant(id, change, by: call.actor)))
    }
}

private struct TenantAnswer: Encodable {
    let id: String
    let object = "tenant"
    let name: String
    let timeZone: String
    let state: String
    let retention: String
    @Present var resultTTLSeconds: Int64?
    let retentionMaximumBytes: Int64
    let isErasing: Bool
    let receipts: String
    @Present var tier: String?
    @Present var priceVersion: String?
    let rateLimits: [RateLimitAnswer]
    let createdAt: String

    enum CodingKeys: String, CodingKey {
        case id, object, name, state, retention, tier, receipts
        case resultTTLSeconds = "result_ttl_seconds"
        case retentionMaximumBytes = "retention_max_bytes"
        case isErasing = "erasing"
        case timeZone = "time_zone"
        case priceVersion = "price_version"
        case rateLimits = "rate_limits"
        case createdAt = "created_at"
    }

    init(_ row: TenantRow) {
        id = row.id.description
        name = row.name
        timeZone = row.timeZone
        state = row.state.rawValue
        retention = row.retention.rawValue
        resultTTLSeconds = row.resultTTLSeconds
        retentionMaximumBytes = row.retentionBytes
        isErasing = row.isErasing
        receipts = row.receipts.rawValue
        tier = row.tierCode
        priceVersion = row.tierVersionID?.priceVersion
        rateLimits = row.rateLimits.map { RateLimitAnswer($0) }
        createdAt = row.createdAt.description
    }
}

extension Identifier where Kind == Entity.TierVersion {
    /// The form in answers.
    var priceVersion: String { "pv_\(self)" }
}
