/// One quarter of an hour of a model.
public struct ModelUsageBucket: Hashable, Sendable {
    public let start: Timestamp
    /// Completed and billed, corrections included.
    public let requests: Int64
    public let tokens: Int64
    /// Requests that failed.
    public let errors: Int64
    public let cacheHits: Int64
    /// The sum of the processing times of all of them.
    public let busyMicroseconds: Int64
    /// The most requests that a gateway saw waiting for a worker or with one.
    public let queueDepth: Int64

    public init(
        start: Timestamp, requests: Int64, tokens: Int64, errors: Int64, cacheHits: Int64, busyMicroseconds: Int64,
        queueDepth: Int64
    ) {
        self.start = start
        self.requests = requests
        self.tokens = tokens
        self.errors = errors
        self.cacheHits = cacheHits
        self.busyMicroseconds = busyMicroseconds
        self.queueDepth = queueDepth
    }
}

/// What the operator asks and does about the usage of models.
public protocol ModelUsageAdministration: Sendable {
    /// The buckets of `start <= bucket < end` in which something happened, oldest first. As rolled up, which is about a second behind.
    /// - Throws: `not_found` for a model that was never registered.
    func modelUsage(_ model: String, from start: Timestamp, to end: Timestamp) async throws(AdministrationFailure)
        -> [ModelUsageBucket]
    /// Computes the roll-ups of a range anew from ledger and requests. Both ends are on a quarter of an hour.
    /// - Returns: buckets of models that were computed.
    func rebuildUsage(from start: Timestamp, to end: Timestamp, by actor: AuditActor)
        async throws(AdministrationFailure) -> Int64
}

/// Where gateways note how long their queues were.
public protocol QueueJournal: Sendable {
    /// Notes the depths of a bucket; of several the greatest stays.
    func note(_ depths: [String: Int64], inBucketAt start: Timestamp) async throws(StoreUnavailable)
}
