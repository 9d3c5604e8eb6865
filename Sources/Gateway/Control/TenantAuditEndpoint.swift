internal import Domain
internal import HTTPListener
internal import Hummingbird

/// `GET /api/v1/audit`: what was done to the tenant, with the places in the installation's chain.
struct TenantAuditEndpoint: Sendable {
    let records: any LedgerProofRecords

    func list(_ request: Request, _ context: ControlContext) async throws -> Response {
        let query = try QueryParameters(request, allowed: ["limit", "after", "before"])
        func edge(_ name: String) throws(Refusal) -> AuditID? {
            try query.value(name, "the id of an entry", fix: "Take it from first_id or last_id of a page.") {
                AuditID($0)
            }
        }
        let (after, before) = (try edge("after"), try edge("before"))
        guard after == nil || before == nil else {
            throw Refusal.invalid("before", "cannot be sent together with after", fix: "Send one of them.")
        }
        let page = try await records.audit(
            tenantID: try context.caller.tenantID,
            PageRequest(limit: try query.integer("limit", in: 1...100, default: 20), after: after, before: before))
        let data = page.elements.map { AuditAnswer($0) }
        return try .json(
            ListAnswer(data: data, firstID: data.first?.id, lastID: data.last?.id, hasMore: page.hasMore))
    }
}

/// The documents of before and after are given as the texts that are hashed.
private struct AuditAnswer: Encodable {
    let id: String
    let object = "audit_entry"
    let at: String
    let actor: String
    let action: String
    let subjectType: String
    let subjectID: String
    @Present var before: String?
    @Present var after: String?
    @Present var sequence: Int64?
    @Present var hash: String?

    enum CodingKeys: String, CodingKey {
        case id, object, at, actor, action, before, after, hash
        case subjectType = "subject_type"
        case subjectID = "subject_id"
        case sequence = "seq"
    }

    init(_ placed: PlacedAuditRow) {
        id = placed.row.id.description
        at = placed.row.at.description
        actor = placed.row.actor
        action = placed.row.action
        subjectType = placed.row.subjectType
        subjectID = placed.row.subjectID
        before = placed.row.before
        after = placed.row.after
        sequence = placed.sequence
        hash = placed.hash?.hexadecimal
    }
}
