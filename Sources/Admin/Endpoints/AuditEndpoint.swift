internal import Domain
internal import HTTPListener
internal import Hummingbird

/// `GET /admin/v1/audit`: who did what.
struct AuditEndpoint: Sendable {
    let administration: any Administration

    func list(_ call: AdminCall) async throws -> Response {
        let page = try call.query.page { AuditID($0) }
        let tenantID = try call.query.value("tenant_id", "a tenant's id", fix: "Take it from GET /admin/v1/tenants.") {
            TenantID($0)
        }
        let action = try call.query.value(
            "action", "an action such as tenant.change", fix: "Take it from an entry.", Self.action)
        let entries = try await administration.audit(AuditQuery(page: page, tenantID: tenantID, action: action))
        return try .json(ListAnswer(entries, cursor: \.id.description, AuditAnswer.init))
    }

    private static func action(_ text: String) -> String? {
        let parts = text.split(separator: ".", omittingEmptySubsequences: false)
        let isWord = { (part: Substring) in
            !part.isEmpty && part.utf8.allSatisfy { (0x61...0x7A).contains($0) || $0 == UInt8(ascii: "_") }
        }
        return parts.count == 2 && parts.allSatisfy(isWord) && text.utf8.count <= 64 ? text : nil
    }
}

private struct AuditAnswer: Encodable {
    let id: String
    let object = "audit_entry"
    let at: String
    let actor: String
    let action: String
    let subjectType: String
    let subjectID: String
    @Present var tenantID: String?
    @Present var before: JSONValue?
    @Present var after: JSONValue?

    enum CodingKeys: String, CodingKey {
        case id, object, at, actor, action, before, after
        case subjectType = "subject_type"
        case subjectID = "subject_id"
        case tenantID = "tenant_id"
    }

    init(_ row: AuditRow) {
        id = row.id.description
        at = row.at.description
        actor = row.actor
        action = row.action
        subjectType = row.subjectType
        subjectID = row.subjectID
        tenantID = row.tenantID?.description
        before = row.before.flatMap(Self.document)
        after = row.after.flatMap(Self.document)
    }

    private static func document(_ text: String) -> JSONValue? { try? JSONDocument.parse(Array(text.utf8)) }
}
