/// What background jobs do to the store. Every verb is one transaction and may be called by any number of processes at once.
public protocol Housekeeping: Sendable {
    /// Adds what the ledger gained to the roll-ups.
    /// - Returns: entries added.
    func rollUpUsage() async throws(StoreUnavailable) -> Int64
    /// Books one lease whose owner let it expire. One that cannot be booked is put off, so that the others have their turn.
    /// - Returns: what became of it; `nil` when none is overdue.
    func reapLease() async throws(StoreUnavailable) -> LeaseReaping?
    /// Makes the partitions of the coming months.
    /// - Returns: partitions made.
    func ensurePartitions() async throws(StoreUnavailable) -> Int
    /// Whether rows lie in a default partition, which means that a month was missing.
    func hasStrayRows() async throws(StoreUnavailable) -> Bool
    /// What the requests of each model kept busy in the buckets from an instant on.
    /// - Returns: microseconds by model; models without requests are left out.
    func busyMicroseconds(since start: Timestamp) async throws(StoreUnavailable) -> [String: Int64]
    /// Removes idempotency keys whose answers have been kept long enough.
    /// - Returns: keys removed, at most `limit`.
    func removeExpiredKeys(limit: Int) async throws(StoreUnavailable) -> Int
    /// Finds periods in which use may have crossed a threshold that has no event yet. One process looks at a time; another gets none.
    func lookAtQuotas() async throws(StoreUnavailable) -> [QuotaStanding]
    /// Raises the events that standings make due, and notes which quotas are exceeded. An event that is there stays as it is.
    /// - Returns: the events that were not there before.
    func raiseEvents(_ standings: [QuotaStanding]) async throws(StoreUnavailable) -> [QuotaEvent]
    /// Removes leases that were closed more than `keepHours` ago, with their slices.
    /// - Returns: leases removed, at most `limit`.
    func removeClosedLeases(keepHours: Int, limit: Int) async throws(StoreUnavailable) -> Int
    /// Removes the records of refusals that are more than `keepHours` old.
    /// - Returns: records removed, at most `limit`.
    func removeRefusals(keepHours: Int, limit: Int) async throws(StoreUnavailable) -> Int
    /// Removes cached predictions whose end has come.
    /// - Returns: predictions removed, at most `limit`.
    func removeExpiredPredictions(limit: Int) async throws(StoreUnavailable) -> Int
    /// Removes cached predictions of tenants that have more than `rowsPerTenant` in the table, those that end soonest.
    /// - Returns: predictions removed, at most `limit`.
    func removeExcessPredictions(rowsPerTenant: Int, limit: Int) async throws(StoreUnavailable) -> Int
    /// Removes kept results that no request needs any more.
    /// - Returns: contents removed, at most `limit`.
    func removeExpiredResults(limit: Int) async throws(StoreUnavailable) -> Int
    /// Erases a batch of what tenants no longer want to be kept.
    /// - Returns: rows looked at, at most `limit`; 0 when nothing is due.
    func eraseKept(limit: Int) async throws(StoreUnavailable) -> Int
}

/// What became of a lease that was overdue.
public struct LeaseReaping: Equatable, Sendable {
    public enum Outcome: Equatable, Sendable {
        case closed
        /// Its gateway, or another reaper, was there first.
        case alreadyClosed
        /// It stays open, and what it holds is held, until a later attempt succeeds.
        case failed(cause: String)
    }

    public let leaseID: LeaseID
    public let outcome: Outcome

    public init(leaseID: LeaseID, outcome: Outcome) {
        self.leaseID = leaseID
        self.outcome = outcome
    }
}
