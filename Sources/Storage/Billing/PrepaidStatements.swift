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

/// With texts that change when something does that a balance follows from. The quarter of an hour is one of them: credits begin and end on its
/// edges, and so do months.
struct ListPrepaidTenants: PostgresStatement {
    static let sql = """
        SELECT t.tenant_id, concat_ws(' ', i.number, i.finalised_at, i.voided_at),
            concat_ws(' ', t.time_zone, t.is_exhausted, usage_bucket(clock_timestamp()), g.number, g.revoked, s.number, s.starts_at, s.ends_at)
        FROM tenants t
        CROSS JOIN LATERAL (
            SELECT count(*) AS number, max(finalised_at) AS finalised_at, max(voided_at) AS voided_at FROM invoices
            WHERE tenant_id = t.tenant_id AND state <> 'draft') i
        CROSS JOIN LATERAL (
            SELECT count(*) AS number, count(revoked_at) AS revoked FROM credit_grants WHERE tenant_id = t.tenant_id) g
        CROSS JOIN LATERAL (
            SELECT count(*) AS number, max(starts_at) AS starts_at, max(ends_at) AS ends_at FROM subscriptions
            WHERE tenant_id = t.tenant_id) s
        WHERE t.prepaid AND ($1::uuid IS NULL OR t.tenant_id > $1) ORDER BY t.tenant_id LIMIT $2
        """
    static let parameters: [PostgresType] = [.uuid, .int8]
    static let columns: [PostgresType] = [.uuid, .text, .text]

    let after: TenantID?
    let limit: Int

    func bind(to binds: inout PostgresBinds) {
        binds.append(after?.postgres)
        binds.append(Int64(limit))
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> PrepaidTenant {
        PrepaidTenant(tenantID: TenantID(try row.uuid()), billStamp: try row.text(), stamp: try row.text())
    }
}

/// Asked for only where it changes something: the trigger of the table wakes all gateways for every statement, whether it finds a row or not.
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

/// Whether something still looks at the month of a request: its partition is there, fewer than so many invoiced periods lie behind it, and
/// the run is to invoice it or has (``FindUnbilled``).
struct FindCorrectionBounds: PostgresStatement {
    struct Found: Sendable {
        let isArchived: Bool
        let isTooOld: Bool
        /// The invoice of its month is void and not to be issued anew, and no other stands for it.
        let isLeftAlone: Bool
        let isBeforeInvoices: Bool
    }

    static let sql = """
        SELECT $2 < clock_timestamp() AND NOT EXISTS (
                SELECT FROM pg_inherits h JOIN pg_class c ON c.oid = h.inhrelid
                WHERE h.inhparent = 'ledger'::regclass AND NOT h.inhdetachpending
                    AND c.relname = 'ledger_y' || to_char($2 AT TIME ZONE 'UTC', 'YYYY') || 'm' || to_char($2 AT TIME ZONE 'UTC', 'MM'))
                AND NOT EXISTS (SELECT FROM ledger WHERE entry_id = $3),
            coalesce((SELECT count(DISTINCT i.period_start) >= $4 FROM invoices i
                WHERE i.tenant_id = $1 AND i.kind = 'invoice' AND i.state IN ('finalised', 'paid')
                    AND i.period_start > l.occurred_at), false),
            coalesce((SELECT bool_and(i.state = 'void') AND bool_or(i.reissue IS NOT TRUE) FROM invoices i
                WHERE i.tenant_id = $1 AND i.kind = 'invoice' AND i.state <> 'draft'
                    AND i.period_start <= l.occurred_at AND i.period_end > l.occurred_at), false),
            coalesce(l.occurred_at < (SELECT min(i.period_start) FROM invoices i
                WHERE i.tenant_id = $1 AND i.kind = 'invoice' AND i.state <> 'draft'), false)
        FROM (SELECT (SELECT occurred_at FROM ledger WHERE entry_id = $3) AS occurred_at) l
        """
    static let parameters: [PostgresType] = [.uuid, .timestamptz, .uuid, .int8]
    static let columns: [PostgresType] = [.bool, .bool, .bool, .bool]

    /// `nil` where the request is not known.
    let tenantID: TenantID?
    let requestID: RequestID
    let periodLimit: Int

    func bind(to binds: inout PostgresBinds) {
        binds.append(tenantID?.postgres)
        binds.append(Timestamp(microsecondsSince1970: Int64(requestID.high >> 16) * 1_000).postgres)
        binds.append(requestID.postgres)
        binds.append(Int64(periodLimit))
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> Found {
        Found(
            isArchived: try row.bool(), isTooOld: try row.bool(), isLeftAlone: try row.bool(),
            isBeforeInvoices: try row.bool())
    }
}

/// All that decides over a price and a report is the request's, its instant too: what it takes back is what the request came to in its month.
struct InsertCorrection: PostgresStatement {
    static let sql = """
        INSERT INTO ledger (entry_id, tenant_id, user_id, key_id, request_id, kind, model, model_version, tier_version_id, requests,
            input_tokens, cached_input_tokens, output_tokens, token_source, occurred_at, tags)
        SELECT $1, tenant_id, user_id, key_id, entry_id, 'correction', model, model_version, tier_version_id, $3, $4, $5, $6, token_source,
            occurred_at, tags
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
