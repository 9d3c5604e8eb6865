internal import Domain
internal import PostgresDriver

/// What invoices have taken of a tenant's time; one that is void and may be issued anew has taken nothing.
struct ReadTakenPeriods: PostgresStatement {
    static let sql = """
        SELECT invoice_id, currency, period_start, period_end, time_zone, state <> 'void' FROM invoices
        WHERE tenant_id = $1 AND kind = 'invoice' AND (state IN ('finalised', 'paid') OR state = 'void' AND reissue IS NOT TRUE)
        ORDER BY period_start, invoice_id
        """
    static let parameters: [PostgresType] = [.uuid]
    static let columns: [PostgresType] = [.uuid, .text, .timestamptz, .timestamptz, .text, .bool]

    let tenantID: TenantID

    func bind(to binds: inout PostgresBinds) { binds.append(tenantID.postgres) }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> BillingTimeline.Taken {
        BillingTimeline.Taken(
            invoiceID: InvoiceID(try row.uuid()), currency: try row.text(), start: Timestamp(try row.timestamp()),
            end: Timestamp(try row.timestamp()), timeZone: try row.text(), stands: try row.bool())
    }
}

/// The first instant of a stay or of use that lies in none of the periods that are taken. A tenant whose invoices are up to date has no such
/// stretch, so its usage is not read.
struct FindUnbilled: PostgresStatement {
    static let sql = """
        WITH issued AS MATERIALIZED (
            SELECT tstzrange(period_start, period_end) AS period, state <> 'void' OR reissue IS NOT TRUE AS is_taken FROM invoices
            WHERE tenant_id = $1 AND kind = 'invoice' AND state <> 'draft'
        ), holes AS (
            SELECT unnest(
                tstzmultirange(tstzrange(
                    least(greatest(coalesce($2, '-infinity'), coalesce((SELECT min(lower(period)) FROM issued), '-infinity')), $3), $3))
                - coalesce((SELECT range_agg(period) FROM issued WHERE is_taken), '{}')) AS hole
        )
        SELECT min(instant) FROM (
            SELECT (SELECT u.bucket_start FROM usage u
                WHERE u.tenant_id = $1 AND u.bucket_start >= lower(hole) AND u.bucket_start < upper(hole)
                ORDER BY u.bucket_start LIMIT 1) AS instant
            FROM holes
            UNION ALL
            SELECT greatest(s.starts_at, lower(hole)) FROM holes JOIN subscriptions s
                ON s.tenant_id = $1 AND s.starts_at < upper(hole) AND coalesce(s.ends_at, 'infinity') > lower(hole)
        ) found
        """
    static let parameters: [PostgresType] = [.uuid, .timestamptz, .timestamptz]
    static let columns: [PostgresType] = [.timestamptz]

    let tenantID: TenantID
    let start: Timestamp?
    let end: Timestamp

    func bind(to binds: inout PostgresBinds) {
        binds.append(tenantID.postgres)
        binds.append(start?.postgres)
        binds.append(end.postgres)
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> Timestamp? {
        try row.optionalTimestamp().map { Timestamp($0) }
    }
}

/// Periods with a standing invoice and, in another currency, a draft or one that is void and to be issued anew.
struct ReadHalfIssued: PostgresStatement {
    static let sql = """
        WITH issued AS MATERIALIZED (
            SELECT currency, period_start, period_end, time_zone, state IN ('finalised', 'paid') AS stands,
                state = 'draft' OR state = 'void' AND reissue IS TRUE AS waits
            FROM invoices WHERE tenant_id = $1 AND kind = 'invoice' AND period_end <= $2
        )
        SELECT w.period_start, w.period_end, max(s.time_zone), array_agg(DISTINCT w.currency)
        FROM issued w JOIN issued s ON s.stands AND s.period_start = w.period_start AND s.period_end = w.period_end
        WHERE w.waits AND NOT EXISTS (
            SELECT FROM issued i WHERE NOT i.waits AND i.period_start = w.period_start AND i.currency = w.currency)
        GROUP BY w.period_start, w.period_end
        ORDER BY w.period_start
        """
    static let parameters: [PostgresType] = [.uuid, .timestamptz]
    static let columns: [PostgresType] = [.timestamptz, .timestamptz, .text, .textArray]

    let tenantID: TenantID
    let end: Timestamp

    func bind(to binds: inout PostgresBinds) {
        binds.append(tenantID.postgres)
        binds.append(end.postgres)
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> HalfIssuedPeriod {
        HalfIssuedPeriod(
            start: Timestamp(try row.timestamp()), end: Timestamp(try row.timestamp()), timeZone: try row.text(),
            currencies: Set(try row.array()))
    }
}
