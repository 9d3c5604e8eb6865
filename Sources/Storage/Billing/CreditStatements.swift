internal import Domain
internal import PostgresDriver

private let grantColumns: [PostgresType] = [
    .uuid, .uuid, .text, .text, .int8, .int2, .timestamptz, .timestamptz, .text, .int8, .timestamptz, .timestamptz,
]

private func grantRow(_ row: inout PostgresRow) throws(PostgresError) -> CreditGrantRow {
    let id = CreditGrantID(try row.uuid())
    let tenantID = TenantID(try row.uuid())
    guard let kind = CreditKind(rawValue: try row.text()) else { throw row.failure(2, "is no kind of a credit") }
    let currency = try row.text()
    let amount = Micros(try row.int64())
    let priority = try row.int16()
    let effectiveAt = Timestamp(try row.timestamp())
    let grant = NewCreditGrant(
        tenantID: tenantID, kind: kind, currency: currency, amount: amount, priority: priority,
        effectiveAt: effectiveAt, expiresAt: try row.optionalTimestamp().map { Timestamp($0) },
        reason: try row.text())
    return CreditGrantRow(
        id: id, grant: grant, effectiveAt: effectiveAt, remaining: Micros(try row.int64()),
        createdAt: Timestamp(try row.timestamp()), revokedAt: try row.optionalTimestamp().map { Timestamp($0) })
}

/// What is left of a tenant's grants. One that was revoked ends with the quarter of an hour before.
struct ReadCreditSources: PostgresStatement {
    static let sql = """
        SELECT g.grant_id, g.amount_micros - coalesce(a.used, 0), g.priority, g.effective_at,
            least(g.expires_at, usage_bucket(g.revoked_at))
        FROM credit_grants g
        LEFT JOIN LATERAL (
            SELECT sum(a.amount_micros)::bigint AS used FROM credit_applications a JOIN invoices i ON i.invoice_id = a.invoice_id
            WHERE a.grant_id = g.grant_id AND i.state IN ('finalised', 'paid')) a ON true
        WHERE g.tenant_id = $1 AND g.currency = $2 AND g.amount_micros > coalesce(a.used, 0)
        ORDER BY g.grant_id
        """
    static let parameters: [PostgresType] = [.uuid, .text]
    static let columns: [PostgresType] = [.uuid, .int8, .int2, .timestamptz, .timestamptz]

    let tenantID: TenantID
    let currency: String

    func bind(to binds: inout PostgresBinds) {
        binds.append(tenantID.postgres)
        binds.append(currency)
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> CreditSource {
        CreditSource(
            grantID: CreditGrantID(try row.uuid()), remaining: Micros(try row.int64()), priority: try row.int16(),
            effectiveAt: Timestamp(try row.timestamp()), expiresAt: try row.optionalTimestamp().map { Timestamp($0) })
    }
}

/// Newest first.
struct ListCreditGrants: PostgresStatement {
    static let sql = """
        WITH page AS (
            (SELECT grant_id FROM credit_grants
            WHERE tenant_id = $3 AND $2::uuid IS NULL AND grant_id < coalesce($1::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
            ORDER BY grant_id DESC LIMIT $4)
            UNION ALL
            (SELECT grant_id FROM credit_grants WHERE tenant_id = $3 AND grant_id > $2::uuid ORDER BY grant_id LIMIT $4)
        )
        SELECT g.grant_id, g.tenant_id, g.kind, g.currency, g.amount_micros, g.priority, g.effective_at, g.expires_at, g.reason,
            g.amount_micros - coalesce((
                SELECT sum(a.amount_micros)::bigint FROM credit_applications a JOIN invoices i ON i.invoice_id = a.invoice_id
                WHERE a.grant_id = g.grant_id AND i.state IN ('finalised', 'paid')), 0), g.created_at, g.revoked_at
        FROM page JOIN credit_grants g ON g.grant_id = page.grant_id
        ORDER BY g.grant_id DESC
        """
    static let parameters: [PostgresType] = [.uuid, .uuid, .uuid, .int8]
    static let columns = grantColumns

    let tenantID: TenantID
    let page: PageRequest<CreditGrantID>

    func bind(to binds: inout PostgresBinds) {
        binds.append(page.after?.postgres)
        binds.append(page.before?.postgres)
        binds.append(tenantID.postgres)
        binds.append(Int64(page.limit + 1))
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> CreditGrantRow { try grantRow(&row) }
}

struct FindCreditGrant: PostgresStatement {
    static let sql = """
        SELECT g.grant_id, g.tenant_id, g.kind, g.currency, g.amount_micros, g.priority, g.effective_at, g.expires_at, g.reason,
            g.amount_micros - coalesce((
                SELECT sum(a.amount_micros)::bigint FROM credit_applications a JOIN invoices i ON i.invoice_id = a.invoice_id
                WHERE a.grant_id = g.grant_id AND i.state IN ('finalised', 'paid')), 0), g.created_at, g.revoked_at
        FROM credit_grants g WHERE g.grant_id = $1
        """
    static let parameters: [PostgresType] = [.uuid]
    static let columns = grantColumns

    let id: CreditGrantID

    func bind(to binds: inout PostgresBinds) { binds.append(id.postgres) }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> CreditGrantRow { try grantRow(&row) }
}

struct InsertCreditGrant: PostgresStatement {
    static let sql = """
        INSERT INTO credit_grants (grant_id, tenant_id, kind, currency, amount_micros, priority, effective_at, expires_at, reason,
            source_invoice_id)
        VALUES ($1, $2, $3, $4, $5, $6, coalesce($7, usage_bucket(clock_timestamp())), $8, $9, $10)
        """
    static let parameters: [PostgresType] = [
        .uuid, .uuid, .text, .text, .int8, .int2, .timestamptz, .timestamptz, .text, .uuid,
    ]

    let id: CreditGrantID
    let grant: NewCreditGrant
    let source: InvoiceID?

    func bind(to binds: inout PostgresBinds) {
        binds.append(id.postgres)
        binds.append(grant.tenantID.postgres)
        binds.append(grant.kind.rawValue)
        binds.append(grant.currency)
        binds.append(grant.amount.value)
        binds.append(grant.priority)
        binds.append(grant.effectiveAt?.postgres)
        binds.append(grant.expiresAt?.postgres)
        binds.append(grant.reason)
        binds.append(source?.postgres)
    }
}

struct RevokeCreditGrant: PostgresStatement {
    static let sql = """
        UPDATE credit_grants SET revoked_at = clock_timestamp() WHERE grant_id = $1 AND revoked_at IS NULL
        """
    static let parameters: [PostgresType] = [.uuid]

    let id: CreditGrantID

    func bind(to binds: inout PostgresBinds) { binds.append(id.postgres) }
}

/// What a void invoice gave back is not given any more.
struct RevokeCreditsOfInvoice: PostgresStatement {
    static let sql = """
        UPDATE credit_grants SET revoked_at = effective_at WHERE source_invoice_id = $1 AND revoked_at IS NULL
        """
    static let parameters: [PostgresType] = [.uuid]

    let id: InvoiceID

    func bind(to binds: inout PostgresBinds) { binds.append(id.postgres) }
}

/// For the audit log.
struct DescribeCreditGrant: PostgresStatement {
    static let sql = "SELECT to_jsonb(g) - ARRAY['grant_id', 'tenant_id'] FROM credit_grants g WHERE grant_id = $1"
    static let parameters: [PostgresType] = [.uuid]
    static let columns: [PostgresType] = [.jsonb]

    let id: CreditGrantID

    func bind(to binds: inout PostgresBinds) { binds.append(id.postgres) }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> String { try row.jsonText() }
}

extension AdministrationTransaction {
    func grantCredit(_ grant: NewCreditGrant) async throws -> CreditGrantRow {
        guard try await !connection.execute(LockBillingAccount(tenantID: grant.tenantID)).isEmpty else {
            throw Refusal.noSuchTenant
        }
        let id: CreditGrantID = newID()
        _ = try await connection.execute(InsertCreditGrant(id: id, grant: grant, source: nil))
        let after = try await connection.execute(DescribeCreditGrant(id: id)).first
        try await audit(
            "credit.grant", "credit_grant", id.publicText, tenantID: grant.tenantID, before: nil, after: after)
        return try await creditGrant(id)
    }

    func revokeCredit(_ id: CreditGrantID) async throws -> CreditGrantRow {
        let row = try await creditGrant(id)
        // A bill that is being made has this grant, or does not, to its end.
        _ = try await connection.execute(LockBillingAccount(tenantID: row.grant.tenantID))
        let before = try await connection.execute(DescribeCreditGrant(id: id)).first
        guard try await connection.affectedRows(by: RevokeCreditGrant(id: id)) == 1 else {
            return try await creditGrant(id)
        }
        let after = try await connection.execute(DescribeCreditGrant(id: id)).first
        try await audit(
            "credit.revoke", "credit_grant", id.publicText, tenantID: row.grant.tenantID, before: before, after: after)
        return try await creditGrant(id)
    }

    private func creditGrant(_ id: CreditGrantID) async throws -> CreditGrantRow {
        guard let row = try await connection.execute(FindCreditGrant(id: id)).first else {
            throw Refusal(.notFound, "There is no such credit grant.")
        }
        return row
    }
}
