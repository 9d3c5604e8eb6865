import Admin
import Domain

/// What the routes of exports, comparisons and Stripe are answered in tests.
extension FakeAdministration: ExportAdministration {
    static let exportID = ExportID(high: 0x0195_0000_0000_7000, low: 0x8000_0000_0000_0E0E)

    private func record(_ window: NewExport.Window? = nil) -> ExportRecord {
        var query = ExportQuery(
            tenantID: Self.tenantID, format: .csv, granularity: .entries, start: Self.instant,
            end: Self.instant.advanced(byMilliseconds: 3_600_000))
        var isIncremental = false
        switch window {
        case .query(let asked): query = asked
        case .incremental: isIncremental = true
        case nil: break
        }
        return ExportRecord(
            id: Self.exportID, query: query, isIncremental: isIncremental, state: .completed, nextPosition: 7, parts: 1,
            rowCount: 2,
            byteCount: 3, error: nil, createdBy: "key:x", createdAt: Self.instant, startedAt: Self.instant,
            finishedAt: Self.instant, expiresAt: Self.instant)
    }

    func createExport(_ export: NewExport, by actor: AuditActor) async throws(AdministrationFailure) -> ExportRecord {
        try note("createExport", actor)
        return record(export.window)
    }

    func exports(_ page: PageRequest<ExportID>) async throws(AdministrationFailure) -> Page<ExportRecord> {
        try note("exports")
        return Page([record()], hasMore: false)
    }

    func export(_ id: ExportID) async throws(AdministrationFailure) -> ExportRecord {
        try note("export")
        return record()
    }

    func cancelExport(_ id: ExportID, by actor: AuditActor) async throws(AdministrationFailure) -> ExportRecord {
        try note("cancelExport", actor)
        return record()
    }

    func exportManifest(_ id: ExportID) async throws(AdministrationFailure) -> String {
        try note("exportManifest")
        return "{}"
    }

    func exportPart(_ part: Int32, of id: ExportID) async throws(AdministrationFailure) -> ExportPart {
        try note("exportPart")
        return ExportPart(part: part, attempt: 1, pieces: 1, byteCount: 3, sha256: [UInt8](repeating: 7, count: 32))
    }

    func exportPiece(
        _ position: Int32, of part: ExportPart, in id: ExportID
    ) async throws(AdministrationFailure) -> [UInt8]? {
        Array("abc".utf8)
    }
}

extension FakeAdministration: ReconciliationAdministration {
    private func reconciliation(
        _ differences: BookDifferences = BookDifferences(), _ scope: ReconciliationScope? = nil
    ) -> ReconciliationRecord {
        ReconciliationRecord(
            id: Self.auditID,
            scope: scope ?? ReconciliationScope(tenantID: nil, start: Self.instant, end: Self.instant),
            differences: differences, createdBy: "key:x", createdAt: Self.instant, tookMilliseconds: 5)
    }

    func recordReconciliation(
        _ differences: BookDifferences, of scope: ReconciliationScope, tookMilliseconds: Int64, by actor: AuditActor
    ) async throws(AdministrationFailure) -> ReconciliationRecord {
        try note("recordReconciliation", actor)
        return reconciliation(differences, scope)
    }

    func reconciliations(
        _ page: PageRequest<AuditID>
    ) async throws(AdministrationFailure) -> Page<ReconciliationRecord> {
        try note("reconciliations")
        return Page([reconciliation()], hasMore: false)
    }
}

extension FakeAdministration: StripeAdministration {
    func stripeCustomer(_ id: TenantID) async throws(AdministrationFailure) -> StripeCustomer {
        try note("stripeCustomer")
        return StripeCustomer(tenantID: id, customerID: nil, since: nil)
    }

    func setStripeCustomer(
        _ id: TenantID, customerID: String?, since: Timestamp?, by actor: AuditActor
    ) async throws(AdministrationFailure) -> StripeCustomer {
        try note("setStripeCustomer", actor)
        return StripeCustomer(tenantID: id, customerID: customerID, since: since ?? Self.instant)
    }

    func stripeDeliveries(
        after: String?, state: StripeDeliveryRow.State?, limit: Int
    ) async throws(AdministrationFailure) -> [StripeDeliveryRow] {
        try note("stripeDeliveries")
        return [
            StripeDeliveryRow(
                identifier: "a:b:request:1", tenantID: Self.tenantID, windowStart: Self.instant, meter: .request,
                revision: 1, value: 3, state: .failed, attempts: 2, lastStatus: 400, lastError: "resource_missing",
                createdAt: Self.instant, finishedAt: Self.instant)
        ]
    }

    func retryStripeDelivery(_ identifier: String, by actor: AuditActor) async throws(AdministrationFailure) {
        try note("retryStripeDelivery", actor)
    }
}

/// Books that agree.
struct FakeBooks: BookComparing {
    func compare(
        _ comparisons: [BookComparison], in scope: ReconciliationScope, limit: Int
    ) async throws(StoreUnavailable) -> BookDifferences { BookDifferences() }
}

/// Two rows for everybody.
struct FakeStreams: UsageExports {
    var refusal: ExportRefusal?

    func open(_ query: ExportQuery) async throws(ExportRefusal) -> any UsageExportStream {
        if let refusal { throw refusal }
        return TwoRows()
    }

    private struct TwoRows: UsageExportStream {
        func read(_ body: @Sendable ([UInt8]) async throws -> Void) async throws -> Int64 {
            try await body(Array("a\r\n".utf8))
            try await body(Array("b\r\n".utf8))
            return 2
        }
    }
}
