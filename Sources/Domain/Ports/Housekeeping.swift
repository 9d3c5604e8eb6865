/// What background jobs do to the store. Every verb is one transaction and may be called by any number of processes at once.
public protocol Housekeeping: Sendable {
    /// Adds what the ledger gained to the roll-ups.
    /// - Returns: entries added.
    func rollUpUsage() async throws(StoreUnavailable) -> Int64
    /// Books one lease whose owner let it expire.
    /// - Returns: the lease; `nil` when none is overdue.
    func reapLease() async throws(StoreUnavailable) -> LeaseID?
    /// Makes the partitions of the coming months.
    /// - Returns: partitions made.
    func ensurePartitions() async throws(StoreUnavailable) -> Int
    /// Whether rows lie in a default partition, which means that a month was missing.
    func hasStrayRows() async throws(StoreUnavailable) -> Bool
    /// Removes idempotency keys whose answers have been kept long enough.
    /// - Returns: keys removed, at most `limit`.
    func removeExpiredKeys(limit: Int) async throws(StoreUnavailable) -> Int
}
