public import Domain

/// No invoice is issued while the books of its period do not agree.
extension Reconciler: InvoiceGate {
    public func differences(_ tenant: TenantID, _ period: Period) async throws(StoreUnavailable) -> [String] {
        try await differences(tenant: tenant, period: period).list.map { "\($0.kind) \($0.id)" }
    }
}
