public import Domain
public import PostgresDriver

/// One of the comparisons: what differs, at most so much of it, and how much there is.
protocol ComparisonStatement: PostgresStatement where Row == (BookDifference, Int64) {
    var scope: ReconciliationScope { get }
    var limit: Int64 { get }
    init(scope: ReconciliationScope, limit: Int64)
}

extension ComparisonStatement {
    static var columns: [PostgresType] { [.text, .text, .text, .text, .int8] }

    func bind(to binds: inout PostgresBinds) {
        binds.append(scope.tenantID?.postgres)
        binds.append(scope.start.postgres)
        binds.append(scope.end.postgres)
        binds.append(limit)
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> (BookDifference, Int64) {
        (
            BookDifference(
                kind: try row.text(), id: try row.text(), expected: try row.text(), found: try row.text()),
            try row.int64()
        )
    }
}

/// Compares the books in one read-only snapshot of PostgreSQL.
public struct ReconciliationStore: BookComparing {
    private let pool: PostgresPool

    /// - Parameter pool: connections of the role `weir_reports`, with the time that a comparison may take.
    public init(pool: PostgresPool) { self.pool = pool }

    public func compare(
        _ comparisons: [BookComparison], in scope: ReconciliationScope, limit: Int
    ) async throws(StoreUnavailable) -> BookDifferences {
        do throws(PostgresTransactionError) {
            return try await pool.transaction(.readOnlySnapshot) { connection in
                var differences = BookDifferences()
                for comparison in comparisons {
                    if comparison == .seals {
                        try await SealComparison(scope, limit: limit, on: connection).run(into: &differences)
                    } else if let statement = Self.statement(of: comparison) {
                        try await Self.run(statement, scope, Int64(limit), on: connection, into: &differences)
                    }
                }
                return differences
            }
        } catch {
            throw StoreUnavailable(cause: error.cause?.description ?? "\(error)")
        }
    }

    private static func run<S: ComparisonStatement>(
        _ type: S.Type, _ scope: ReconciliationScope, _ limit: Int64, on connection: PostgresConnection,
        into differences: inout BookDifferences
    ) async throws {
        let rows = try await connection.execute(S(scope: scope, limit: limit))
        differences.count += rows.first?.1 ?? 0
        differences.list += rows.prefix(max(0, Int(limit) - differences.list.count)).map(\.0)
    }

    /// `nil` where it takes more than one statement.
    private static func statement(of comparison: BookComparison) -> (any ComparisonStatement.Type)? {
        switch comparison {
        case .requests: CompareRequests.self
        case .adjustments: CompareAdjustments.self
        case .seals: nil
        case .unsealed: CompareUnsealed.self
        case .usage: CompareUsage.self
        case .termUsage: CompareTermUsage.self
        case .minutes: CompareMinutes.self
        case .models: CompareModels.self
        case .invoiceSums: CompareInvoiceSums.self
        case .invoiceUsage: CompareInvoiceUsage.self
        case .invoicePeriods: CompareInvoicePeriods.self
        case .invoiceDigests: CompareInvoiceDigests.self
        case .invoiceNumbers: CompareInvoiceNumbers.self
        case .creditGrants: CompareCreditGrants.self
        case .exportManifests: CompareExportManifests.self
        case .exportParts: CompareExportParts.self
        case .exportHashes: CompareExportHashes.self
        case .stripe: CompareStripe.self
        }
    }
}
