/// What an attempt that is not completed leaves behind.
public struct JobReturn: Sendable {
    public let attempt: JobAttempt
    public let disposition: JobDisposition
    public let code: FailureCode
    /// For an operator; at most 1000 characters are kept, and nothing of the customer's may be in it.
    public let detail: String

    public init(attempt: JobAttempt, disposition: JobDisposition, code: FailureCode, detail: String) {
        self.attempt = attempt
        self.disposition = disposition
        self.code = code
        self.detail = detail
    }
}

/// What a claim gave.
public struct JobClaim: Sendable {
    public let jobs: [ClaimedJob]
    /// The tenant after which the next claim begins, so that all have their turn; also where nothing was claimed.
    public let goOnAfter: TenantID

    public init(jobs: [ClaimedJob], goOnAfter: TenantID) {
        self.jobs = jobs
        self.goOnAfter = goOnAfter
    }
}

/// How many jobs of dead owners were found.
public struct JobRecovery: Sendable, Equatable {
    public let returned: Int
    public let dead: Int

    public init(returned: Int, dead: Int) {
        self.returned = returned
        self.dead = dead
    }
}

/// The queue of jobs as those who run them use it. Every verb is one atomic statement. Completing a job is not here: the ``Settler`` does it in
/// the statement that charges.
public protocol JobQueue: Sendable {
    /// Claims ready jobs, and counts their attempts. They are this process's until their lease has run out.
    func claim(limit: Int, after tenant: TenantID) async throws(StoreUnavailable) -> JobClaim
    /// Moves the ends of leases that are still held.
    /// - Returns: those that are not: cancelled, or claimed by others.
    func renew(_ attempts: [JobAttempt]) async throws(StoreUnavailable) -> Set<JobAttempt>
    /// Ends attempts that were not completed. Those that no longer hold their jobs change nothing.
    /// - Returns: the attempts that did hold them.
    func giveBack(_ returns: [JobReturn]) async throws(StoreUnavailable) -> Set<JobAttempt>
    /// Takes jobs from owners whose leases have run out. They come back apart, each after the pause of a suspect
    /// (``JobBackoff/ceilingMilliseconds(afterSuspectAttempt:)``).
    func recover(limit: Int, backoff: JobBackoff) async throws(StoreUnavailable) -> JobRecovery
}

/// Puts jobs into the queue, many in one commit.
public protocol JobSubmitter: Sendable {
    /// Returns when the jobs are committed, or it is known that they are not; in the order of the submissions.
    func submit(_ submissions: [JobSubmission]) async -> [SubmissionResult]
}

/// What customers ask about their jobs.
public protocol JobRecords: Sendable {
    func job(_ id: RequestID, tenantID: TenantID) async throws(StoreUnavailable) -> JobReading
    func cancel(_ id: RequestID, tenantID: TenantID) async throws(StoreUnavailable) -> CancelOutcome
    /// Cancels at most `limit` jobs of a batch; fewer than that is all.
    func cancel(batch: BatchID, tenantID: TenantID, limit: Int) async throws(StoreUnavailable) -> Int
    /// The jobs of a batch in the order of their ids, with their answers.
    func jobs(of batch: BatchID, tenantID: TenantID, after: RequestID?, limit: Int) async throws(StoreUnavailable)
        -> [JobRow]
    /// How many jobs of a batch there are in each state.
    func counts(of batch: BatchID, tenantID: TenantID) async throws(StoreUnavailable) -> [JobState: Int64]
    /// Those of the given jobs that have ended, or are gone.
    func ended(among ids: [RequestID]) async throws(StoreUnavailable) -> Set<RequestID>
    /// How many jobs of a tenant are queued, counted up to `bound`.
    func queuedCount(of tenantID: TenantID, bound: Int) async throws(StoreUnavailable) -> Int
}

/// What an operator does with the queue.
public protocol QueueAdministration: Sendable {
    /// The thousand tenants with the most jobs that have not ended.
    func queueDepths() async throws(AdministrationFailure) -> [QueueDepth]
    /// Newest first.
    func deadJobs(after: RequestID?, limit: Int) async throws(AdministrationFailure) -> [DeadJob]
    /// Gives a dead job five more attempts.
    /// - Throws: `not_found` where there is no such dead job; `conflict` where it is a line of a batch that has reported it as failed.
    func retryDead(_ id: RequestID, by actor: AuditActor) async throws(AdministrationFailure)
}
