import PostgresDriver
import Testing

@testable import Storage

@Suite("the statements of the product")
struct StatementCatalogTests {
    /// Whose statement it is; those of the administration are the rest.
    private static func role(of statement: any PostgresStatement.Type) -> String {
        let roles: [(String, [any PostgresStatement.Type])] = [
            (
                "weir_directory",
                [
                    ReadGeneration.self, FindKeys.self, ReadRegistry.self, ReadPrices.self, ReadCacheClearings.self,
                    ReadSigningKeys.self,
                ]
            ),
            (
                "weir_writer",
                [
                    ClaimBatch.self, HoldBatch.self, ReadBatchInput.self, FinishBatchValidation.self,
                    NoteBatchReading.self, CollectBatch.self,
                    TakeLease.self, RenewLeases.self, ReturnSlices.self, CloseLeases.self, HoldGatewayLock.self,
                    HoldGatewayLockAlone.self, SettleBatch.self, SettleClaimedBatch.self, ClaimKey.self,
                    RenewClaims.self, ReleaseClaim.self, InsertRefusals.self, FindCachedPrediction.self,
                    KeepCachedPredictions.self, NoteCacheAccesses.self, AddCacheStatistics.self, NoteQueueDepths.self,
                    SubmitJobs.self, NotifyJobs.self, ClaimJobs.self, RenewJobs.self, ReturnJobs.self,
                    RecoverJobs.self, CancelJobs.self, CancelBatchJobs.self, ForgetDeadJob.self, FindEndedJobs.self,
                    CountQueuedJobs.self, SettleJobBatch.self,
                ]
            ),
            (
                "weir_reader",
                [
                    ActAsTenant.self, ReadUsage.self, ReadTagUsage.self, ReadHourlyUsage.self, ReadQuotaStates.self,
                    ReadRequestsBefore.self,
                    ReadRequestsAfter.self,
                    ReadRequest.self, ReadAdmission.self, ReadLeasePolicies.self, ReadRefusal.self,
                    ReadNotCompletedBefore.self, ReadNotCompletedAfter.self, ReadRequestDetail.self,
                    ReadResultBytes.self, ActAsTenantWithOwnPlan.self,
                    ReadJob.self, FindFormerJob.self, ReadBatchJobs.self, CountBatchJobs.self,
                    ReadLastHead.self, ReadHeads.self, ReadSealedEntries.self, ReadChainHash.self, FindProofPlace.self,
                    ListTenantAudit.self,
                ]
            ),
            (
                "weir_customer",
                [
                    LockWebhooksOfTenant.self, InsertWebhook.self, ReadWebhooks.self, DeleteWebhook.self,
                    RotateWebhookSecret.self, EnableWebhook.self, ReadWebhookDeliveries.self, RetryWebhookDelivery.self,
                    ReadWebhookDeliveryState.self, BeginFile.self, AppendToFile.self, CompleteFile.self, ReadFiles.self,
                    ReadFile.self, ReadFilePiece.self, RemoveFile.self, LockBatchesOfTenant.self,
                    CountOpenBatches.self, InsertBatch.self, ReadBatches.self, CancelBatch.self,
                ]
            ),
            (
                "weir_reports",
                [
                    SetExportScope.self, FindExportSubject.self, FindPartEnd<JobEntriesOfAll>.self,
                    FindPartEnd<JobEntriesOfTenant>.self, FindPartEnd<NewEntriesOfAll>.self,
                    FindFocusRows<FocusOfAll>.self, FindFocusRows<FocusOfTenant>.self,
                    CompareRequests.self, CompareUsage.self, CompareModels.self, CompareInvoiceSums.self,
                    CompareTermUsage.self, CompareMinutes.self,
                    CompareInvoiceUsage.self, CompareInvoicePeriods.self, CompareAdjustments.self, CompareUnsealed.self,
                    CompareInvoiceDigests.self,
                    CompareInvoiceNumbers.self, CompareCreditGrants.self, FindSealedStretches.self, FindStraySeals.self,
                    ReadSeals.self, ReadHeadsOfSeals.self, HasHeadBehind.self, CompareExportManifests.self,
                    CompareExportParts.self,
                    CompareExportHashes.self, CompareStripe.self,
                    FindPartEnd<NewEntriesOfTenant>.self, FindSums<JobSumsOfAll>.self, FindSums<JobSumsOfTenant>.self,
                    ReadReportUsage.self, ReadReportTagUsage.self, ReadLatencies.self, ReadOutcomes.self,
                    ReadTenantNames.self, ReadInvoicedAmounts.self,
                ]
            ),
            (
                "weir_jobs",
                [
                    ClaimWebhookDeliveries.self, FinishWebhookDelivery.self, TrimWebhookDeliveries.self,
                    RemoveWebhookDeliveries.self, RemoveExpiredFiles.self,
                    RollUpUsage.self, ClaimOverdueLease.self, ReapLease.self, EnsurePartitions.self, FindStrayRows.self,
                    RemoveExpiredKeys.self, LookAtQuotas.self, InsertQuotaEvents.self, NoteExceededUse.self,
                    RemoveClosedLeases.self, RemoveRefusals.self, RemoveExpiredPredictions.self,
                    RemoveExcessPredictions.self,
                    ClaimExport.self, AppendExportPiece.self, FinishExportPart.self, CompleteExport.self,
                    FailExport.self, RenewExport.self, RemoveExpiredExports.self, PlanStripeDeliveries.self,
                    ClaimStripeDeliveries.self, FinishStripeDelivery.self,
                    ReadBusyTimes.self, RemoveExpiredJobs.self, RemoveExpiredResults.self, EraseKept.self,
                    InsertSigningKey.self, TryLockSealer.self, ReadUnsealedEntries.self, ReadUnsealedAudit.self,
                    ReadChainTips.self, ReadAuditTip.self, ReadDistrustedPlaces.self, ReadDistrustedAuditPlaces.self,
                    InsertSealedEntries.self, InsertSealedAudit.self, InsertLedgerHeads.self,
                    InsertAuditHeads.self, MoveSealWatermark.self, ReadUnsealedAge.self, ReadUnsealedAuditAge.self,
                ]
            ),
        ]
        return roles.first { $0.1.contains { ObjectIdentifier($0) == ObjectIdentifier(statement) } }?.0 ?? "weir_admin"
    }

    @Test("every statement prepares on the migrated schema as its role, with the types that it declares")
    func prepares() async throws {
        try await StorageHarness.with { harness in
            for statement in StatementCatalog.all {
                let described = try await harness.onSession(Self.role(of: statement)) {
                    try describe(statement, on: $0)
                }
                #expect(described.parameterTypes == statement.parameters.map(\.rawValue), "parameters of \(statement)")
                if !statement.columns.isEmpty {
                    #expect(described.columnTypes == statement.columns.map(\.rawValue), "columns of \(statement)")
                }
            }
        }
    }

    /// Preparing checks no rights; planning for execution does.
    @Test("every statement may be executed by its role", arguments: StatementCatalog.all.indices)
    func isPermitted(index: Int) async throws {
        let statement = StatementCatalog.all[index]
        let types = statement.parameters.map { String(describing: $0).replacing("Array", with: "[]") }
        let script =
            "PREPARE subject\(types.isEmpty ? "" : "(\(types.joined(separator: ", ")))") AS \(statement.sql);"
            + "EXPLAIN EXECUTE subject\(types.isEmpty ? "" : "(\(types.map { _ in "NULL" }.joined(separator: ", ")))")"
        try await StorageHarness.with { harness in
            let state = try await harness.sqlState(of: script, as: Self.role(of: statement))
            #expect(state == nil, "\(statement)")
        }
    }

    @Test("the names of the statements are distinct, so that a log names one")
    func names() {
        let names = StatementCatalog.all.map { $0.name }
        #expect(Set(names).count == names.count)
        #expect(names.count >= 19)
    }
}

private func describe<S: PostgresStatement>(_ statement: S.Type, on session: PostgresSession) throws
    -> PostgresDescription
{
    try session.describe(statement)
}
