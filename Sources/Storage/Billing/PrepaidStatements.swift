internal import Domain
internal import PostgresDriver

struct SetPrepaid: PostgresStatement {
    static let sql = """
        UPDATE tenants SET prepaid = $2, is_exhausted = is_exhausted AND $2 WHERE tenant_id = $1 AND prepaid <> $2
        """
    static let parameters: [PostgresType] = [.uuid, .bool]

    let tenantID: TenantID
    let isPrepaid: Bool

    func bind(to binds: inout PostgresBinds) {
        binds.append(tenantID.postgres)
        binds.append(isPrepaid)
    }
}

struct FindPrepaidStanding: PostgresStatement {
    static let sql = "SELECT tenant_id, prepaid, is_exhausted FROM tenants WHERE tenant_id = $1"
    static let parameters: [PostgresType] = [.uuid]
    static let columns: [PostgresType] = [.uuid, .bool, .bool]

    let tenantID: TenantID

    func bind(to binds: inout PostgresBinds) { binds.append(tenantID.postgres) }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> PrepaidStanding {
        PrepaidStanding(tenantID: TenantID(try row.uuid()), isPrepaid: try row.bool(), isExhausted: try row.bool())
    }
}

struct ListPrepaidTenants: PostgresStatement {
    static let sql = """
        SELECT tenant_id FROM tenants WHERE prepaid AND ($1::uuid IS NULL OR tenant_id > $1) ORDER BY tenant_id LIMIT $2
        """
    static let parameters: [PostgresType] = [.uuid, .int8]
    static let columns: [PostgresType] = [.uuid]

    let after: TenantID?
    let limit: Int

    func bind(to binds: inout PostgresBinds) {
        binds.append(after?.postgres)
        binds.append(Int64(limit))
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> TenantID { TenantID(try row.uuid()) }
}

/// Changes nothing where it is known: every change wakes all gateways.
struct NoteExhaustion: PostgresStatement {
    static let sql = "UPDATE tenants SET is_exhausted = $2 WHERE tenant_id = $1 AND prepaid AND is_exhausted <> $2"
    static let parameters: [PostgresType] = [.uuid, .bool]

    let tenantID: TenantID
    let isExhausted: Bool

    func bind(to binds: inout PostgresBinds) {
        binds.append(tenantID.postgres)
        binds.append(isExhausted)
    }
}

/// Whose a request is and what it comes to with its corrections: requests, input tokens, cached ones, output tokens.
struct ReadRequestSum: PostgresStatement {
    struct Found: Sendable {
        let tenantID: TenantID
        let sum: [Int64]
    }

    static let sql = """
        SELECT l.tenant_id, l.requests + coalesce(c.requests, 0), l.input_tokens + coalesce(c.input_tokens, 0),
            l.cached_input_tokens + coalesce(c.cached_input_tokens, 0), l.output_tokens + coalesce(c.output_tokens, 0)
        FROM ledger l
        LEFT JOIN LATERAL (
            SELECT sum(e.requests)::bigint AS requests, sum(e.input_tokens)::bigint AS input_tokens,
                sum(e.cached_input_tokens)::bigint AS cached_input_tokens, sum(e.output_tokens)::bigint AS output_tokens
            FROM adjustments a JOIN ledger e ON e.entry_id = a.entry_id WHERE a.request_id = l.entry_id) c ON true
        WHERE l.entry_id = $1 AND l.kind = 'usage'
        """
    static let parameters: [PostgresType] = [.uuid]
    static let columns: [PostgresType] = [.uuid, .int8, .int8, .int8, .int8]

    let requestID: RequestID

    func bind(to binds: inout PostgresBinds) { binds.append(requestID.postgres) }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> Found {
        Found(
            tenantID: TenantID(try row.uuid()),
            sum: [try row.int64(), try row.int64(), try row.int64(), try row.int64()])
    }
}

/// At the price version and model of the request; it counts when it is posted.
struct InsertCorrection: PostgresStatement {
    static let sql = """
        INSERT INTO ledger (entry_id, tenant_id, user_id, key_id, request_id, kind, model, model_version, tier_version_id, requests,
            input_tokens, cached_input_tokens, output_tokens, token_source, occurred_at)
        SELECT $1, tenant_id, user_id, key_id, entry_id, 'correction', model, model_version, tier_version_id, $3, $4, $5, $6, token_source,
            clock_timestamp()
        FROM ledger WHERE entry_id = $2 AND kind = 'usage'
        """
    static let parameters: [PostgresType] = [.uuid, .uuid, .int8, .int8, .int8, .int8]

    let entryID: RequestID
    let adjustment: NewAdjustment

    func bind(to binds: inout PostgresBinds) {
        binds.append(entryID.postgres)
        binds.append(adjustment.requestID.postgres)
        binds.append(adjustment.requests)
        binds.append(adjustment.inputTokens)
        binds.append(adjustment.cachedInputTokens)
        binds.append(adjustment.outputTokens)
    }
}

struct InsertAdjustment: PostgresStatement {
    static let sql = """
        INSERT INTO adjustments (entry_id, tenant_id, request_id, reason, actor) VALUES ($1, $2, $3, $4, $5)
        """
    static let parameters: [PostgresType] = [.uuid, .uuid, .uuid, .text, .text]

    let entryID: RequestID
    let tenantID: TenantID
    let adjustment: NewAdjustment
    let actor: AuditActor

    func bind(to binds: inout PostgresBinds) {
        binds.append(entryID.postgres)
        binds.append(tenantID.postgres)
        binds.append(adjustment.requestID.postgres)
        binds.append(adjustment.reason)
        binds.append(actor.text)
    }
}

/// For the audit log.
struct DescribeAdjustment: PostgresStatement {
    static let sql = """
        SELECT jsonb_build_object('request_id', a.request_id, 'reason', a.reason, 'requests', l.requests, 'input_tokens', l.input_tokens,
            'cached_input_tokens', l.cached_input_tokens, 'output_tokens', l.output_tokens)
        FROM adjustments a JOIN ledger l ON l.entry_id = a.entry_id WHERE a.entry_id = $1
        """
    static let parameters: [PostgresType] = [.uuid]
    static let columns: [PostgresType] = [.jsonb]

    let entryID: RequestID

    func bind(to binds: inout PostgresBinds) { binds.append(entryID.postgres) }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> String { try row.jsonText() }
}
