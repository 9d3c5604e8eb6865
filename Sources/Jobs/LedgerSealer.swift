public import Domain
public import Logging
internal import Metrics
public import ServiceLifecycle

/// Gives the entries of the ledger and of the audit log their places in the chains, and signs the heads.
///
/// Any number of processes may run it: a round excludes itself, and one that is cut off leaves nothing behind.
public enum LedgerSealer {
    /// Entries of one transaction.
    private static let roundLimit = 5_000
    /// So many heads come of one round where those of a key that is distrusted are signed anew, and there may be more.
    private static let roundHeads = 1_000
    /// Rounds without a pause, so that a backlog goes and the process can still be stopped.
    private static let passRounds = 200

    public static func jobs(_ sealing: any LedgerSealing, logger: Logger) -> [any Service] {
        [
            job("seal_ledger", "ledger", logger) { limit throws(StoreUnavailable) in
                try await sealing.sealLedger(limit: limit)
            },
            job("seal_audit", "audit", logger) { limit throws(StoreUnavailable) in
                try await sealing.sealAudit(limit: limit)
            },
        ]
    }

    private static func job(
        _ name: String, _ chain: String, _ logger: Logger,
        seal: @escaping @Sendable (_ limit: Int) async throws(StoreUnavailable) -> SealRound?
    ) -> Recurring {
        let labels = [("chain", chain)]
        let entries = Counter(label: "weir_ledger_sealed_entries_total", dimensions: labels)
        let heads = Counter(label: "weir_ledger_heads_total", dimensions: labels)
        let unsealed = Gauge(label: "weir_ledger_unsealed_seconds", dimensions: labels)
        return Recurring(name, everyMilliseconds: 1_000, logger: logger) {
            for _ in 0..<passRounds {
                // Another process is at it, and says how far it has come.
                guard !Task.isCancelled, let round = try await seal(roundLimit) else { return }
                entries.increment(by: Int64(round.entries))
                heads.increment(by: Int64(round.heads))
                unsealed.record(round.unsealedSeconds)
                guard round.entries == roundLimit || round.heads >= roundHeads else { return }
            }
        }
    }
}
