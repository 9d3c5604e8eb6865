public import Domain
public import PostgresDriver

/// A customer's own invoices and credits; each read in one transaction with the tenant set, as ``CustomerStore``'s are.
public struct CustomerInvoiceStore: CustomerInvoices {
    private let pool: PostgresPool

    /// - Parameter pool: connections of the role `weir_reader`.
    public init(pool: PostgresPool) { self.pool = pool }

    public func invoices(_ tenant: TenantID, after: InvoiceID?, limit: Int) async throws(StoreUnavailable)
        -> [InvoiceRow]
    {
        // Statements of lists ask for one row more; who calls wants to know whether there is more.
        try await read(
            ListInvoices(
                query: InvoiceQuery(
                    tenantID: tenant, state: nil, page: PageRequest(limit: limit - 1, after: after))), as: tenant)
    }

    public func invoice(_ id: InvoiceID, tenantID: TenantID) async throws(StoreUnavailable) -> Invoice? {
        do throws(PostgresError) {
            let (_, rows, lines, credits) = try await pool.pipeline(
                ActAsTenant(tenantID: tenantID), FindInvoice(id: id, tenantID: tenantID), ReadInvoiceLines(id: id),
                ReadInvoiceCredits(id: id))
            guard let row = rows.first, row.state != .draft else { return nil }
            return Invoice(row: row, lines: lines, credits: credits)
        } catch {
            throw StoreUnavailable(error)
        }
    }

    public func requests(
        behind line: Int, of id: InvoiceID, tenantID: TenantID, after: RequestID?, limit: Int
    ) async throws(StoreUnavailable) -> [BilledRequest]? {
        do throws(PostgresError) {
            let (_, rows, lines, requests) = try await pool.pipeline(
                ActAsTenant(tenantID: tenantID), FindInvoice(id: id, tenantID: tenantID), ReadInvoiceLines(id: id),
                ReadBilledRequests(invoiceID: id, tenantID: tenantID, line: line, after: after, limit: limit))
            guard let row = rows.first, row.state != .draft, (1...max(1, lines.count)).contains(line),
                !lines.isEmpty
            else { return nil }
            return requests
        } catch {
            throw StoreUnavailable(error)
        }
    }

    public func credits(_ tenant: TenantID) async throws(StoreUnavailable) -> [CreditGrantRow] {
        try await read(ListCreditGrants(tenantID: tenant, page: PageRequest(limit: 999)), as: tenant)
    }

    private func read<S: PostgresStatement>(_ statement: S, as tenantID: TenantID) async throws(StoreUnavailable) -> [S
        .Row]
    {
        do throws(PostgresError) {
            return try await pool.pipeline(ActAsTenant(tenantID: tenantID), statement).1
        } catch {
            throw StoreUnavailable(error)
        }
    }
}

/// The ledger's entries behind a line: those of the line's tier version, models and period that this invoice was the first to charge, or the first
/// since the one that had charged them was void. Where a tier includes amounts or has bands, several lines share their requests.
///
/// What was used in a period is found by its key, as exports do: within an hour of it, and by the index of strays where the key is older than the
/// use, as that of a job that waited. What is put into the text are the constants below; values are parameters.
struct ReadBilledRequests: PostgresStatement {
    private static let range = """
        entry_id >= uuid_lower_bound(n.used_from - interval '1 hour') AND entry_id < uuid_lower_bound(n.used_to + interval '1 hour')
        """
    private static let meant = """
        tenant_id = $2 AND tier_version_id = n.tier_version_id AND occurred_at >= n.used_from AND occurred_at < n.used_to
            AND entry_id > coalesce($4, '00000000-0000-0000-0000-000000000000')
        """

    static let sql = """
        WITH line AS MATERIALIZED (
            SELECT i.tenant_id, n.invoice_id, n.kind, n.tier_version_id, n.model, n.meter,
                CASE n.kind WHEN 'late_usage' THEN n.span_start ELSE i.period_start END AS used_from,
                CASE n.kind WHEN 'late_usage' THEN n.span_end ELSE i.period_end END AS used_to
            FROM invoices i JOIN invoice_lines n ON n.invoice_id = i.invoice_id
            WHERE i.invoice_id = $1 AND i.tenant_id = $2 AND n.line_number = $3 AND n.meter IS NOT NULL
        ), history AS MATERIALIZED (
            SELECT u.invoice_id, u.is_trial, u.model, u.seen, i.finalised_at, i.voided_at
            FROM line n JOIN invoice_usage u ON u.usage_period_start = n.used_from AND u.tier_version_id = n.tier_version_id
            JOIN invoices i ON i.invoice_id = u.invoice_id AND i.tenant_id = $2 AND i.state <> 'draft'
        ), found AS (
            SELECT n.kind AS line_kind, n.meter, n.model AS line_model, l.*
            FROM line n CROSS JOIN LATERAL (
                SELECT * FROM ledger WHERE \(range) AND \(meant)
                UNION ALL
                SELECT * FROM ledger WHERE \(ExportText.stray) AND NOT (\(range)) AND \(meant)
            ) l
        ), entries AS (
            SELECT l.entry_id, l.request_id, l.kind = 'correction' AS is_correction, l.model, l.occurred_at, l.tx, l.line_kind,
                CASE l.meter WHEN 'request' THEN l.requests WHEN 'input_token' THEN l.input_tokens - l.cached_input_tokens
                    WHEN 'cached_input_token' THEN l.cached_input_tokens ELSE l.output_tokens END AS quantity,
                EXISTS (
                    SELECT FROM subscriptions s WHERE s.tenant_id = $2 AND s.tier_version_id = l.tier_version_id
                        AND usage_bucket(l.occurred_at) >= usage_bucket(s.starts_at)
                        AND usage_bucket(l.occurred_at) < coalesce(s.ends_at, 'infinity') AND usage_bucket(l.occurred_at) < s.trial_ends_at
                ) AS is_trial
            FROM found l
            WHERE l.model = l.line_model OR l.line_model = '*' AND NOT EXISTS (
                SELECT FROM tier_prices p
                WHERE p.tier_version_id = l.tier_version_id AND p.meter = l.meter AND p.model = l.model)
        )
        SELECT e.entry_id, e.request_id, e.is_correction, e.model, e.occurred_at, e.quantity
        FROM entries e
        WHERE e.quantity <> 0 AND (e.line_kind = 'trial') = e.is_trial AND EXISTS (
            WITH RECURSIVE charged AS (
                (SELECT h.invoice_id, h.voided_at FROM history h
                WHERE h.is_trial = e.is_trial AND h.model = e.model AND pg_visible_in_snapshot(e.tx, h.seen)
                ORDER BY h.finalised_at LIMIT 1)
                UNION ALL
                SELECT following.invoice_id, following.voided_at
                FROM charged c CROSS JOIN LATERAL (
                    SELECT h.invoice_id, h.voided_at FROM history h
                    WHERE h.is_trial = e.is_trial AND h.model = e.model AND pg_visible_in_snapshot(e.tx, h.seen)
                        AND h.finalised_at > c.voided_at
                    ORDER BY h.finalised_at LIMIT 1) following
            )
            SELECT FROM charged WHERE invoice_id = $1)
        ORDER BY e.entry_id LIMIT $5
        """
    static let parameters: [PostgresType] = [.uuid, .uuid, .int4, .uuid, .int8]
    static let columns: [PostgresType] = [.uuid, .uuid, .bool, .text, .timestamptz, .int8]

    let invoiceID: InvoiceID
    let tenantID: TenantID
    let line: Int
    let after: RequestID?
    let limit: Int

    func bind(to binds: inout PostgresBinds) {
        binds.append(invoiceID.postgres)
        binds.append(tenantID.postgres)
        binds.append(Int32(clamping: line))
        binds.append(after?.postgres)
        binds.append(Int64(limit))
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> BilledRequest {
        BilledRequest(
            entryID: RequestID(try row.uuid()), requestID: RequestID(try row.uuid()), isCorrection: try row.bool(),
            model: try row.text(), occurredAt: Timestamp(try row.timestamp()), quantity: try row.int64())
    }
}
