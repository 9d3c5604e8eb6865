public import Domain
public import PostgresDriver

/// Reads reports over all tenants.
public struct ReportStore: ReportRecords {
    private let pool: PostgresPool

    /// - Parameter pool: connections of the role `weir_reports`.
    public init(pool: PostgresPool) { self.pool = pool }

    public func usage(_ query: ReportQuery) async throws(StoreUnavailable) -> [ReportRow] {
        guard query.groupsByTag else { return try await read(ReadReportUsage(query: query)) }
        return try await read(ReadReportTagUsage(query: query))
    }

    public func latencies(from start: Timestamp, to end: Timestamp) async throws(StoreUnavailable) -> [LatencyCount] {
        try await read(ReadLatencies(start: start, end: end))
    }

    public func outcomes(from start: Timestamp, to end: Timestamp) async throws(StoreUnavailable) -> [OutcomeCount] {
        try await read(ReadOutcomes(start: start, end: end))
    }

    public func invoiced(from start: Timestamp, to end: Timestamp) async throws(StoreUnavailable) -> [InvoicedAmount] {
        try await read(ReadInvoicedAmounts(start: start, end: end))
    }

    public func hours(
        of tenant: TenantID, from start: Timestamp, to end: Timestamp
    ) async throws(StoreUnavailable) -> [HourlyUsage] {
        try await read(ReadHourlyUsage(tenantID: tenant, start: start, end: end))
    }

    public func names(of tenants: [TenantID]) async throws(StoreUnavailable) -> [TenantID: String] {
        let rows = try await read(ReadTenantNames(tenants: tenants))
        return Dictionary(rows.map { ($0.tenantID, $0.name) }) { first, _ in first }
    }

    private func read<S: PostgresStatement>(_ statement: S) async throws(StoreUnavailable) -> [S.Row] {
        do throws(PostgresError) {
            return try await pool.execute(statement)
        } catch {
            throw StoreUnavailable(error)
        }
    }
}
