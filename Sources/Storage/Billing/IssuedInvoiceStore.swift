public import Domain
public import PostgresDriver

/// Reads what was issued, so that it can be rated anew.
public struct IssuedInvoiceStore: IssuedInvoiceRecords {
    private let pool: PostgresPool

    /// - Parameter pool: connections of the role `weir_reports`.
    public init(pool: PostgresPool) { self.pool = pool }

    public func invoicedTenants(after: TenantID?, limit: Int) async throws(StoreUnavailable) -> [TenantID] {
        do throws(PostgresError) {
            return try await pool.execute(ListInvoicedTenants(after: after, limit: limit))
        } catch {
            throw StoreUnavailable(error)
        }
    }

    public func issuedInvoices(of tenant: TenantID) async throws(StoreUnavailable) -> [InvoiceID] {
        do throws(PostgresError) {
            return try await pool.execute(ListIssuedInvoices(tenantID: tenant))
        } catch {
            throw StoreUnavailable(error)
        }
    }

    public func issuedInvoice(_ id: InvoiceID) async throws(StoreUnavailable) -> IssuedInvoice? {
        do throws(PostgresError) {
            let (heads, lines, charged) = try await pool.pipeline(
                ReadIssuedInvoice(id: id), ReadInvoiceLines(id: id), ReadChargedUsage(id: id))
            guard let head = heads.first else { return nil }
            return IssuedInvoice(
                id: id, tenantID: head.tenantID, number: head.number, periodID: head.periodID,
                periodStart: head.periodStart, periodEnd: head.periodEnd, timeZone: head.timeZone,
                currency: head.currency, subtotal: head.subtotal, finalisedAt: head.finalisedAt,
                voidedAt: head.voidedAt, lines: lines, charged: charged)
        } catch {
            throw StoreUnavailable(error)
        }
    }

    public func stays(of tenant: TenantID) async throws(StoreUnavailable) -> (
        stays: [TenantStay], terms: [TierVersionID: TierTerms]
    ) {
        do throws(PostgresError) {
            let (stays, versions) = try await pool.pipeline(
                ReadTenantStays(tenantID: tenant), ReadVersionsOfTenant(tenantID: tenant))
            return (stays, try await pool.terms(versions, of: tenant))
        } catch {
            throw StoreUnavailable(error)
        }
    }
}

/// Tenants with an issued invoice, by id.
struct ListInvoicedTenants: PostgresStatement {
    static let sql = """
        SELECT t.tenant_id FROM tenants t
        WHERE ($1::uuid IS NULL OR t.tenant_id > $1)
            AND EXISTS (SELECT FROM invoices i WHERE i.tenant_id = t.tenant_id AND i.kind = 'invoice' AND i.state <> 'draft')
        ORDER BY t.tenant_id LIMIT $2
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

/// A tenant's issued invoices, the first one first.
struct ListIssuedInvoices: PostgresStatement {
    static let sql = """
        SELECT invoice_id FROM invoices WHERE tenant_id = $1 AND kind = 'invoice' AND state <> 'draft' ORDER BY finalised_at, number
        """
    static let parameters: [PostgresType] = [.uuid]
    static let columns: [PostgresType] = [.uuid]

    let tenantID: TenantID

    func bind(to binds: inout PostgresBinds) { binds.append(tenantID.postgres) }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> InvoiceID { InvoiceID(try row.uuid()) }
}

struct ReadIssuedInvoice: PostgresStatement {
    struct Head: Sendable {
        let tenantID: TenantID
        let number: String
        let periodID: String
        let periodStart: Timestamp
        let periodEnd: Timestamp
        let timeZone: String
        let currency: String
        let subtotal: Micros
        let finalisedAt: Timestamp
        let voidedAt: Timestamp?
    }

    static let sql = """
        SELECT tenant_id, number_prefix || lpad(number::text, greatest(6, length(number::text)), '0'), period_id, period_start, period_end,
            time_zone, currency, subtotal_micros, finalised_at, voided_at
        FROM invoices WHERE invoice_id = $1 AND kind = 'invoice' AND state <> 'draft'
        """
    static let parameters: [PostgresType] = [.uuid]
    static let columns: [PostgresType] = [
        .uuid, .text, .text, .timestamptz, .timestamptz, .text, .text, .int8, .timestamptz, .timestamptz,
    ]

    let id: InvoiceID

    func bind(to binds: inout PostgresBinds) { binds.append(id.postgres) }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> Head {
        Head(
            tenantID: TenantID(try row.uuid()), number: try row.text(), periodID: try row.text(),
            periodStart: Timestamp(try row.timestamp()), periodEnd: Timestamp(try row.timestamp()),
            timeZone: try row.text(), currency: try row.text(), subtotal: Micros(try row.int64()),
            finalisedAt: Timestamp(try row.timestamp()), voidedAt: try row.optionalTimestamp().map { Timestamp($0) })
    }
}

/// What an invoice took from the ledger.
struct ReadChargedUsage: PostgresStatement {
    static let sql = """
        SELECT usage_period_start, tier_version_id, is_trial, model, requests, input_tokens, cached_input_tokens, output_tokens
        FROM invoice_usage WHERE invoice_id = $1 ORDER BY 1, 2, 3, 4
        """
    static let parameters: [PostgresType] = [.uuid]
    static let columns: [PostgresType] = [.timestamptz, .uuid, .bool, .text, .int8, .int8, .int8, .int8]

    let id: InvoiceID

    func bind(to binds: inout PostgresBinds) { binds.append(id.postgres) }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> IssuedInvoice.Charged {
        let start = Timestamp(try row.timestamp())
        let version = TierVersionID(try row.uuid())
        let isTrial = try row.bool()
        return IssuedInvoice.Charged(
            periodStart: start,
            usage: UsageQuantity(
                tierVersionID: version, isTrial: isTrial, model: try row.text(), requests: try row.int64(),
                inputTokens: try row.int64(), cachedInputTokens: try row.int64(), outputTokens: try row.int64()))
    }
}

struct ReadTenantStays: PostgresStatement {
    static let sql = """
        SELECT tier_version_id, starts_at, ends_at, trial_ends_at FROM subscriptions WHERE tenant_id = $1 ORDER BY starts_at
        """
    static let parameters: [PostgresType] = [.uuid]
    static let columns: [PostgresType] = [.uuid, .timestamptz, .timestamptz, .timestamptz]

    let tenantID: TenantID

    func bind(to binds: inout PostgresBinds) { binds.append(tenantID.postgres) }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> TenantStay {
        TenantStay(
            tierVersionID: TierVersionID(try row.uuid()), startsAt: Timestamp(try row.timestamp()),
            endsAt: try row.optionalTimestamp().map { Timestamp($0) },
            trialEndsAt: try row.optionalTimestamp().map { Timestamp($0) })
    }
}

/// Every version that a tenant was on or was charged for.
struct ReadVersionsOfTenant: PostgresStatement {
    static let sql = """
        SELECT tier_version_id FROM subscriptions WHERE tenant_id = $1
        UNION
        SELECT u.tier_version_id FROM invoices i JOIN invoice_usage u ON u.invoice_id = i.invoice_id WHERE i.tenant_id = $1
        ORDER BY 1
        """
    static let parameters: [PostgresType] = [.uuid]
    static let columns: [PostgresType] = [.uuid]

    let tenantID: TenantID

    func bind(to binds: inout PostgresBinds) { binds.append(tenantID.postgres) }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> TierVersionID {
        TierVersionID(try row.uuid())
    }
}
