public import Domain

/// Rates all issued invoices anew from what they charge, and tells which of them say something else.
public struct InvoiceReplayer: Sendable {
    public struct Summary: Sendable {
        /// How many invoices that differ are told of, one by one.
        public static let listLimit = 100

        /// Standing ones.
        public fileprivate(set) var count = 0
        public fileprivate(set) var equalCount = 0
        /// The first hundred by tenant and in the order in which they were issued.
        public fileprivate(set) var differing: [ReplayedInvoice] = []

        public var differingCount: Int { count - equalCount }
    }

    /// Tenants that are read at once.
    private static let pageLength = 100

    private let records: any IssuedInvoiceRecords

    public init(records: any IssuedInvoiceRecords) { self.records = records }

    /// - Parameter tenant: only this one's; `nil` for all, a page at a time.
    /// - Throws: `StoreUnavailable`; `CancellationError`.
    public func replay(only tenant: TenantID?) async throws -> Summary {
        var summary = Summary()
        if let tenant {
            try await replay(tenant, &summary)
            return summary
        }
        var after: TenantID?
        while true {
            let tenants = try await records.invoicedTenants(after: after, limit: Self.pageLength)
            for tenant in tenants { try await replay(tenant, &summary) }
            guard tenants.count == Self.pageLength, let last = tenants.last else { return summary }
            after = last
        }
    }

    private func replay(_ tenant: TenantID, _ summary: inout Summary) async throws {
        let ids = try await records.issuedInvoices(of: tenant)
        guard !ids.isEmpty else { return }
        let past = try await records.stays(of: tenant)
        var replay = InvoiceReplay(stays: past.stays, terms: past.terms)
        for id in ids {
            try Task.checkCancellation()
            guard let invoice = try await records.issuedInvoice(id) else { continue }
            let replayed = replay.add(invoice)
            guard invoice.voidedAt == nil else { continue }
            summary.count += 1
            if replayed.isEqual {
                summary.equalCount += 1
            } else if summary.differing.count < Summary.listLimit {
                summary.differing.append(replayed)
            }
        }
    }
}
