internal import Domain
internal import PostgresDriver

struct WriteAudit: PostgresStatement {
    static let sql = """
        INSERT INTO audit_log (audit_id, actor, action, subject_type, subject_id, tenant_id, before, after)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
        """
    static let parameters: [PostgresType] = [.uuid, .text, .text, .text, .text, .uuid, .jsonb, .jsonb]

    let id: AuditID
    let actor: AuditActor
    let action: String
    let subjectType: String
    let subjectID: String
    let tenantID: TenantID?
    let before: String?
    let after: String?

    func bind(to binds: inout PostgresBinds) {
        binds.append(id.postgres)
        binds.append(actor.text)
        binds.append(action)
        binds.append(subjectType)
        binds.append(subjectID)
        binds.append(tenantID?.postgres)
        binds.appendJSONB(before)
        binds.appendJSONB(after)
    }
}

struct ListAudit: PostgresStatement {
    static let sql = """
        WITH page AS (
            (SELECT audit_id FROM audit_log
            WHERE $2::uuid IS NULL AND audit_id < coalesce($1::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
                AND ($4::uuid IS NULL OR tenant_id = $4) AND ($5::text IS NULL OR action = $5)
            ORDER BY audit_id DESC LIMIT $3)
            UNION ALL
            (SELECT audit_id FROM audit_log
            WHERE audit_id > $2::uuid AND ($4::uuid IS NULL OR tenant_id = $4) AND ($5::text IS NULL OR action = $5)
            ORDER BY audit_id LIMIT $3)
        )
        SELECT audit_id, a.at, a.actor, a.action, a.subject_type, a.subject_id, a.tenant_id, a.before, a.after
        FROM page JOIN audit_log a USING (audit_id)
        ORDER BY audit_id DESC
        """
    static let parameters: [PostgresType] = [.uuid, .uuid, .int8, .uuid, .text]
    static let columns: [PostgresType] = [.uuid, .timestamptz, .text, .text, .text, .text, .uuid, .jsonb, .jsonb]

    let query: AuditQuery

    func bind(to binds: inout PostgresBinds) {
        binds.append(query.page.after?.postgres)
        binds.append(query.page.before?.postgres)
        binds.append(Int64(query.page.limit + 1))
        binds.append(query.tenantID?.postgres)
        binds.append(query.action)
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> AuditRow {
        AuditRow(
            id: AuditID(try row.uuid()), at: Timestamp(try row.timestamp()), actor: try row.text(),
            action: try row.text(),
            subjectType: try row.text(), subjectID: try row.text(),
            tenantID: try row.optionalUUID().map { TenantID($0) },
            before: try row.optionalJSONText(), after: try row.optionalJSONText())
    }
}
