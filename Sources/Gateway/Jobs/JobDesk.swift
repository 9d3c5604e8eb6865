public import Domain
internal import Synchronization

/// Takes jobs in: the submitter, and the bound on what one tenant may have queued.
public final class JobDesk: Sendable {
    /// Tenants whose counts are remembered.
    private static let tenantLimit = 10_000

    private struct Count {
        var queued: Int
        var knownAtNanoseconds: UInt64
        var isBeingCounted = false
    }

    let submitter: any JobSubmitter
    private let records: any JobRecords
    private let queuedLimit: Int
    private let time: any TimeSource
    private let counts = Mutex<[TenantID: Count]>([:])

    /// - Parameter queuedLimit: how many jobs of one tenant may be queued.
    public init(submitter: any JobSubmitter, records: any JobRecords, queuedLimit: Int, time: any TimeSource) {
        self.submitter = submitter
        self.records = records
        self.queuedLimit = queuedLimit
        self.time = time
    }

    /// Whether one more job of a tenant may be queued. The number is counted in the database at most once a second for a tenant that submits,
    /// less often where there are many, and one submission waits for that; between two counts this gateway adds what it submits. So the
    /// bound can be overshot by what other gateways take in meanwhile.
    /// - Throws: `too_many_jobs`, or `metering_unavailable`.
    func admit(_ tenantID: TenantID) async throws(Refusal) {
        let now = time.monotonicNanoseconds
        let mustCount = counts.withLock { counts -> Bool in
            if counts.count >= Self.tenantLimit, counts[tenantID] == nil { counts.removeAll(keepingCapacity: true) }
            var count = counts[tenantID] ?? Count(queued: 0, knownAtNanoseconds: 0)
            let interval: UInt64 = count.queued > 10_000 ? 5_000_000_000 : 1_000_000_000
            let isDue =
                !count.isBeingCounted
                && (count.knownAtNanoseconds == 0 || now &- count.knownAtNanoseconds > interval)
            if isDue { count.isBeingCounted = true }
            counts[tenantID] = count
            return isDue
        }
        if mustCount { try await recount(tenantID) }
        let hasRoom = counts.withLock { counts -> Bool in
            guard let queued = counts[tenantID]?.queued else { return true }
            guard queued < queuedLimit else { return false }
            counts[tenantID]?.queued = queued + 1
            return true
        }
        guard hasRoom else {
            throw Refusal(
                .tooManyJobs,
                "So many jobs of this account are queued already: \(queuedLimit). Wait until some have run, or cancel some.",
                retryAfterSeconds: 5)
        }
    }

    private func recount(_ tenantID: TenantID) async throws(Refusal) {
        do throws(StoreUnavailable) {
            let queued = try await records.queuedCount(of: tenantID, bound: queuedLimit)
            let now = time.monotonicNanoseconds
            counts.withLock { $0[tenantID] = Count(queued: queued, knownAtNanoseconds: max(now, 1)) }
        } catch {
            counts.withLock { $0[tenantID]?.isBeingCounted = false }
            throw .storeAway(cause: error.cause)
        }
    }
}
