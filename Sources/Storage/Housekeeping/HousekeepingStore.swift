public import Domain
public import PostgresDriver

/// Background work in PostgreSQL: functions of the schema, one call each.
public struct HousekeepingStore: Housekeeping {
    private let pool: PostgresPool

    /// - Parameter pool: connections of the role `weir_jobs`.
    public init(pool: PostgresPool) { self.pool = pool }

    public func rollUpUsage() async throws(StoreUnavailable) -> Int64 { try await first(RollUpUsage()) ?? 0 }

    public func reapLease() async throws(StoreUnavailable) -> LeaseReaping? {
        // Two transactions: that a lease was tried has to stay when trying it fails, or it would be the first one for ever.
        guard let lease = try await first(ClaimOverdueLease()) else { return nil }
        do throws(PostgresError) {
            let isClosed = try await pool.execute(ReapLease(leaseID: lease)).first != nil
            return LeaseReaping(leaseID: lease, outcome: isClosed ? .closed : .alreadyClosed)
        } catch {
            // With the database away every lease fails; that is no fault of this one.
            guard error.code == .serverError else { throw StoreUnavailable(error) }
            return LeaseReaping(leaseID: lease, outcome: .failed(cause: error.description))
        }
    }

    public func ensurePartitions() async throws(StoreUnavailable) -> Int {
        Int(try await first(EnsurePartitions()) ?? 0)
    }

    public func hasStrayRows() async throws(StoreUnavailable) -> Bool { try await first(FindStrayRows()) ?? false }

    public func removeExpiredKeys(limit: Int) async throws(StoreUnavailable) -> Int {
        Int(try await first(RemoveExpiredKeys(limit: Int32(clamping: limit))) ?? 0)
    }

    public func busyMicroseconds(since start: Timestamp) async throws(StoreUnavailable) -> [String: Int64] {
        do throws(PostgresError) {
            let rows = try await pool.execute(ReadBusyTimes(start: start))
            return Dictionary(rows.map { ($0.model, $0.busyMicroseconds) }) { _, last in last }
        } catch {
            throw StoreUnavailable(error)
        }
    }

    public func lookAtQuotas() async throws(StoreUnavailable) -> [QuotaStanding] {
        do throws(PostgresError) {
            return try await pool.execute(
                LookAtQuotas(pauseMilliseconds: Self.pauseMilliseconds, sweepMilliseconds: Self.sweepMilliseconds))
        } catch {
            throw StoreUnavailable(error)
        }
    }

    /// Between two looks, whichever processes make them.
    private static let pauseMilliseconds: Int64 = 900
    /// Between two looks at all running periods.
    private static let sweepMilliseconds: Int64 = 60_000

    public func raiseEvents(_ standings: [QuotaStanding]) async throws(StoreUnavailable) -> [QuotaEvent] {
        var generator = SystemRandomNumberGenerator()
        var due: [QuotaEvent] = []
        for standing in standings {
            for percent in standing.dueThresholds {
                due.append(QuotaEvent(standing, thresholdPercent: percent, using: &generator))
            }
        }
        let exceeded = standings.filter(\.isExceeded)
        guard !due.isEmpty || !exceeded.isEmpty else { return [] }
        do throws(PostgresError) {
            // Two transactions: together they would hold rows of the second half of the order while they begin again at its start, and
            // could wait for a lease that waits for them. What is not noted is found again by the next look.
            let written = due.isEmpty ? [] : try await pool.execute(InsertQuotaEvents(events: due))
            if !exceeded.isEmpty { _ = try await pool.execute(NoteExceededUse(standings: exceeded)) }
            let times = Dictionary(written.map { ($0.id, $0.at) }, uniquingKeysWith: { first, _ in first })
            return due.compactMap { event in times[event.id].map { event.raised(at: $0) } }
        } catch {
            throw StoreUnavailable(error)
        }
    }

    public func removeClosedLeases(keepHours: Int, limit: Int) async throws(StoreUnavailable) -> Int {
        Int(
            try await first(
                RemoveClosedLeases(keepHours: Int32(clamping: keepHours), limit: Int32(clamping: limit))) ?? 0)
    }

    public func removeRefusals(keepHours: Int, limit: Int) async throws(StoreUnavailable) -> Int {
        Int(
            try await first(RemoveRefusals(keepHours: Int32(clamping: keepHours), limit: Int32(clamping: limit))) ?? 0)
    }

    public func removeExpiredPredictions(limit: Int) async throws(StoreUnavailable) -> Int {
        Int(try await first(RemoveExpiredPredictions(limit: Int32(clamping: limit))) ?? 0)
    }

    public func removeExcessPredictions(rowsPerTenant: Int, limit: Int) async throws(StoreUnavailable) -> Int {
        Int(
            try await first(
                RemoveExcessPredictions(
                    rowsPerTenant: Int32(clamping: rowsPerTenant), limit: Int32(clamping: limit))) ?? 0)
    }

    public func removeExpiredResults(limit: Int) async throws(StoreUnavailable) -> Int {
        Int(try await first(RemoveExpiredResults(limit: Int32(clamping: limit))) ?? 0)
    }

    public func eraseKept(limit: Int) async throws(StoreUnavailable) -> Int {
        Int(try await first(EraseKept(limit: Int32(clamping: limit))) ?? 0)
    }

    private func first<S: PostgresStatement>(_ statement: S) async throws(StoreUnavailable) -> S.Row? {
        do throws(PostgresError) {
            return try await pool.execute(statement).first
        } catch {
            throw StoreUnavailable(error)
        }
    }
}

struct RollUpUsage: PostgresStatement {
    static let sql = "SELECT roll_up_usage()"
    static let columns: [PostgresType] = [.int8]
    static func row(from row: inout PostgresRow) throws(PostgresError) -> Int64 { try row.int64() }
}

struct ClaimOverdueLease: PostgresStatement {
    static let sql = "SELECT claim_overdue_lease()"
    static let columns: [PostgresType] = [.uuid]
    static func row(from row: inout PostgresRow) throws(PostgresError) -> LeaseID { LeaseID(try row.uuid()) }
}

struct ReapLease: PostgresStatement {
    static let sql = "SELECT reap_lease($1)"
    static let parameters: [PostgresType] = [.uuid]
    static let columns: [PostgresType] = [.uuid]

    let leaseID: LeaseID

    func bind(to binds: inout PostgresBinds) { binds.append(leaseID.postgres) }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> LeaseID { LeaseID(try row.uuid()) }
}

struct EnsurePartitions: PostgresStatement {
    static let sql = "SELECT ensure_partitions(now(), 3)"
    static let columns: [PostgresType] = [.int4]
    static func row(from row: inout PostgresRow) throws(PostgresError) -> Int32 { try row.int32() }
}

struct FindStrayRows: PostgresStatement {
    static let sql = "SELECT EXISTS (SELECT FROM requests_default) OR EXISTS (SELECT FROM ledger_default)"
    static let columns: [PostgresType] = [.bool]
    static func row(from row: inout PostgresRow) throws(PostgresError) -> Bool { try row.bool() }
}

struct RemoveExpiredKeys: PostgresStatement {
    static let sql = "SELECT remove_expired_idempotency_keys($1)"
    static let parameters: [PostgresType] = [.int4]
    static let columns: [PostgresType] = [.int4]

    let limit: Int32

    func bind(to binds: inout PostgresBinds) { binds.append(limit) }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> Int32 { try row.int32() }
}

/// Every statement of the product, so that a test can prepare each of them on the migrated schema and compare the types.
public enum StatementCatalog {
    public static let all: [any PostgresStatement.Type] = [
        ReadGeneration.self, FindKeys.self, TakeLease.self, RenewLeases.self, ReturnSlices.self, CloseLeases.self,
        HoldGatewayLock.self,
        HoldGatewayLockAlone.self, SettleBatch.self, ReadRegistry.self, ActAsTenant.self, ReadUsage.self,
        ReadTagUsage.self,
        ReadQuotaStates.self, ReadRequestsBefore.self,
        ReadRequestsAfter.self, ReadRequest.self, ReadAdmission.self, ReadLeasePolicies.self, ReadPrices.self,
        RollUpUsage.self, ClaimOverdueLease.self,
        ReapLease.self,
        EnsurePartitions.self,
        FindStrayRows.self, InspectServer.self, InspectSchema.self, ClaimKey.self, RenewClaims.self, ReleaseClaim.self,
        SettleClaimedBatch.self, RemoveExpiredKeys.self, LookAtQuotas.self, InsertQuotaEvents.self,
        NoteExceededUse.self, RemoveClosedLeases.self, InsertRefusals.self, ReadRefusal.self, RemoveRefusals.self,
        FindCachedPrediction.self, KeepCachedPredictions.self, NoteCacheAccesses.self, AddCacheStatistics.self,
        ReadCacheClearings.self, RemoveExpiredPredictions.self, RemoveExcessPredictions.self,
        LockWebhooksOfTenant.self, InsertWebhook.self, ReadWebhooks.self,
        DeleteWebhook.self, RotateWebhookSecret.self, EnableWebhook.self, ReadWebhookDeliveries.self,
        RetryWebhookDelivery.self, ReadWebhookDeliveryState.self, ClaimWebhookDeliveries.self,
        FinishWebhookDelivery.self, TrimWebhookDeliveries.self, RemoveWebhookDeliveries.self,
        BeginFile.self, AppendToFile.self, CompleteFile.self, ReadFiles.self, ReadFile.self, ReadFilePiece.self,
        RemoveFile.self, LockBatchesOfTenant.self, CountOpenBatches.self, InsertBatch.self, ReadBatches.self,
        CancelBatch.self, ClaimBatch.self, HoldBatch.self, ReadBatchInput.self, FinishBatchValidation.self,
        NoteBatchReading.self, CollectBatch.self, RemoveExpiredFiles.self,
        SubmitJobs.self, NotifyJobs.self, ClaimJobs.self, RenewJobs.self, ReturnJobs.self, RecoverJobs.self,
        RemoveExpiredJobs.self, ReadJob.self, FindFormerJob.self, ReadBatchJobs.self, CountBatchJobs.self,
        CancelJobs.self, CancelBatchJobs.self, ForgetDeadJob.self, FindEndedJobs.self, CountQueuedJobs.self,
        SettleJobBatch.self,
        ReadQueueDepths.self, ListDeadJobs.self, CountDeadJobs.self, RetryDeadJob.self,
        ReadBusyTimes.self, NoteQueueDepths.self,
        ReadNotCompletedBefore.self, ReadNotCompletedAfter.self, ReadRequestDetail.self, ReadResultBytes.self,
        RemoveExpiredResults.self, EraseKept.self, ActAsTenantWithOwnPlan.self,
        SetExportScope.self, FindExportSubject.self, ClaimExport.self, AppendExportPiece.self, FinishExportPart.self,
        CompleteExport.self, FailExport.self, RemoveExpiredExports.self, CountOpenExports.self, InsertExport.self,
        ListExports.self, FindExport.self, CancelExport.self, ReadExportManifest.self, FindExportPart.self,
        ReadExportPiece.self, FindPartEnd<JobEntriesOfAll>.self, FindPartEnd<JobEntriesOfTenant>.self,
        FindPartEnd<NewEntriesOfAll>.self, FindPartEnd<NewEntriesOfTenant>.self, FindSums<JobSumsOfAll>.self,
        FindSums<JobSumsOfTenant>.self, FindFocusRows<FocusOfAll>.self, FindFocusRows<FocusOfTenant>.self,
        CompareRequests.self, CompareUsage.self, CompareModels.self, CompareTermUsage.self, CompareMinutes.self,
        CompareInvoiceSums.self, CompareInvoiceUsage.self, CompareInvoicePeriods.self, CompareExportManifests.self,
        CompareExportParts.self,
        CompareExportHashes.self, CompareStripe.self, CompareAdjustments.self, CompareUnsealed.self,
        CompareInvoiceDigests.self, CompareInvoiceNumbers.self, CompareCreditGrants.self, FindSealedStretches.self,
        FindStraySeals.self, ReadSeals.self, ReadHeadsOfSeals.self, HasHeadBehind.self, RenewExport.self,
        DistrustSigningKey.self, InsertReconciliation.self, ListReconciliations.self,
        PlanStripeDeliveries.self, ClaimStripeDeliveries.self, FinishStripeDelivery.self, FindStripeCustomer.self,
        ConnectStripeCustomer.self, ListStripeDeliveries.self, RetryStripeDelivery.self,
        ReadReportUsage.self, ReadReportTagUsage.self, ReadLatencies.self, ReadOutcomes.self, ReadHourlyUsage.self,
        ReadTenantNames.self, ReadInvoicedAmounts.self,
        ReadSigningKeys.self, ListSigningKeys.self, InsertSigningKey.self, RetireSigningKey.self,
        LockSigningKeys.self, TryLockSealer.self, ReadUnsealedEntries.self, ReadUnsealedAudit.self,
        ReadChainTips.self, ReadAuditTip.self, ReadDistrustedPlaces.self, ReadDistrustedAuditPlaces.self,
        InsertSealedEntries.self, InsertSealedAudit.self, InsertLedgerHeads.self, InsertAuditHeads.self,
        MoveSealWatermark.self, ReadUnsealedAge.self, ReadUnsealedAuditAge.self, ReadLastHead.self, ReadHeads.self,
        ReadSealedEntries.self, ReadChainHash.self, FindProofPlace.self, ListTenantAudit.self,
        ReadLastAuditHead.self, ReadAuditHeads.self, ReadSealedAudit.self,
    ]
}
