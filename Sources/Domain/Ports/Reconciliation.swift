/// Compares the books in one snapshot, so that what happens meanwhile is no difference.
public protocol BookComparing: Sendable {
    /// - Parameter limit: how many differences are named; all are counted.
    func compare(
        _ comparisons: [BookComparison], in scope: ReconciliationScope, limit: Int
    ) async throws(StoreUnavailable) -> BookDifferences
}

/// What an operator does with comparisons.
public protocol ReconciliationAdministration: Sendable {
    /// - Throws: `not_found` for an unknown tenant.
    func recordReconciliation(
        _ differences: BookDifferences, of scope: ReconciliationScope, tookMilliseconds: Int64, by actor: AuditActor
    ) async throws(AdministrationFailure) -> ReconciliationRecord
    /// Newest first.
    func reconciliations(_ page: PageRequest<AuditID>) async throws(AdministrationFailure) -> Page<ReconciliationRecord>
    /// - Throws: `not_found`.
    func tenant(_ id: TenantID) async throws(AdministrationFailure) -> TenantRow
}
