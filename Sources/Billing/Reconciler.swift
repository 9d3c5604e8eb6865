public import Domain

/// Compares the books with each other.
public struct Reconciler: Sendable {
    private let books: any BookComparing

    /// How many differences are named.
    public static let listLimit = 100

    public init(books: any BookComparing) { self.books = books }

    /// Whether a period of a tenant may be invoiced: its requests, its entries and its sums say the same.
    public func differences(tenant: TenantID, period: Period) async throws(StoreUnavailable) -> BookDifferences {
        try await books.compare(
            [.requests, .usage], in: ReconciliationScope(tenantID: tenant, start: period.start, end: period.end),
            limit: Self.listLimit)
    }

    /// Everything that can be compared.
    public func differences(in scope: ReconciliationScope) async throws(StoreUnavailable) -> BookDifferences {
        // Models and numbers are counted over all tenants.
        let ofAll: Set<BookComparison> = [.models, .invoiceNumbers]
        let comparisons = BookComparison.allCases.filter { !ofAll.contains($0) || scope.tenantID == nil }
        return try await books.compare(comparisons, in: scope, limit: Self.listLimit)
    }
}
