/// Background work on the queue of jobs.
public protocol QueueUpkeep: Sendable {
    /// Removes jobs whose results are past their time, at most `limit`.
    /// - Returns: how many.
    func removeExpiredJobs(limit: Int) async throws(StoreUnavailable) -> Int
    /// The thousand tenants with the most jobs that have not ended.
    func depths() async throws(StoreUnavailable) -> [QueueDepth]
    func deadCount() async throws(StoreUnavailable) -> Int64
}
