/// What a customer reads of its own: usage, quota, requests. Every read names the tenant, and the database checks it a second time.
public protocol CustomerRecords: UsageHistory {
    /// Usage of a stretch of time, roll-up and the ledger's tail together, so that it is exact to the last commit.
    func usage(_ query: UsageQuery) async throws(StoreUnavailable) -> [UsageRow]
    /// Everything that a period of the tenant is rated from, as ``RatingRecords/input(_:_:)``.
    func ratingInput(tenantID: TenantID, period: Period) async throws(StoreUnavailable) -> RatingInput
    /// The quotas of a tenant with the numbers of the given periods.
    func quotaStates(tenantID: TenantID, periods: [(QuotaID, Period)]) async throws(StoreUnavailable) -> [QuotaState]
    /// A page of requests, newest first. It reads a bounded number of rows, however few of them are what is asked for.
    func requests(_ query: RequestQuery) async throws(StoreUnavailable) -> RequestPage
    /// One request with what is kept of it; `nil` as for ``request(_:tenantID:)``.
    func detail(of id: RequestID, tenantID: TenantID, readsPrompt: Bool) async throws(StoreUnavailable)
        -> RequestDetail?
    /// Some bytes of a kept result; `nil` for one that is gone.
    func resultBytes(of id: RequestID, tenantID: TenantID, range: Range<Int>) async throws(StoreUnavailable)
        -> [UInt8]?
    /// One request; `nil` for an unknown one and for another tenant's alike.
    func request(_ id: RequestID, tenantID: TenantID) async throws(StoreUnavailable) -> RequestRow?
    /// One request with what admitted it; `nil` as for ``request(_:tenantID:)``.
    func explanation(of id: RequestID, tenantID: TenantID) async throws(StoreUnavailable) -> RequestExplanation?
    /// What refused a request that has no row; `nil` as for ``request(_:tenantID:)``, and for one that was not kept.
    func refusal(of id: RequestID, tenantID: TenantID) async throws(StoreUnavailable) -> RefusalRecord?
}

/// Which usage is asked for.
public struct UsageQuery: Sendable {
    public let tenantID: TenantID
    /// Days as half-open stretches, in order; usage outside them is not counted. One stretch for the whole range where days do not matter.
    public let days: [Stretch]
    public let groupsByKey: Bool
    public let groupsByUser: Bool
    /// The usage that has tags, once for each of them; not together with keys and users, by which that of tags is not kept.
    public let groupsByTag: Bool
    /// The most rows that are read, and one more, by which the reader sees that there were too many.
    public let rowLimit: Int

    public struct Stretch: Hashable, Sendable {
        public let start: Timestamp
        public let end: Timestamp

        public init(start: Timestamp, end: Timestamp) {
            self.start = start
            self.end = end
        }
    }

    public init(
        tenantID: TenantID, days: [Stretch], groupsByKey: Bool, groupsByUser: Bool = false, groupsByTag: Bool = false,
        rowLimit: Int
    ) {
        self.tenantID = tenantID
        self.days = days
        self.groupsByKey = groupsByKey
        self.groupsByUser = groupsByUser
        self.groupsByTag = groupsByTag
        self.rowLimit = rowLimit
    }
}

/// Quantities of one group. Model and price version are always told, because the amount is rated from them.
public struct UsageRow: Hashable, Sendable {
    /// Index into the query's days.
    public let day: Int
    public let model: String
    public let tierVersionID: TierVersionID
    public let keyID: KeyID?
    /// Whose key it was; `nil` also for a key that is nobody's.
    public let userID: UserID?
    /// A pair as `team=search`, or ``otherTags``.
    public let tag: String?
    public let requests: Int64
    public let inputTokens: Int64
    public let cachedInputTokens: Int64
    public let outputTokens: Int64

    /// The tags of a month beyond those that have usage of their own.
    public static let otherTags = "other"

    public init(
        day: Int, model: String, tierVersionID: TierVersionID, keyID: KeyID?, userID: UserID? = nil, tag: String? = nil,
        requests: Int64, inputTokens: Int64, cachedInputTokens: Int64, outputTokens: Int64
    ) {
        self.day = day
        self.model = model
        self.tierVersionID = tierVersionID
        self.keyID = keyID
        self.userID = userID
        self.tag = tag
        self.requests = requests
        self.inputTokens = inputTokens
        self.cachedInputTokens = cachedInputTokens
        self.outputTokens = outputTokens
    }
}

/// One quota in one period: what is settled, what gateways hold, what is left.
public struct QuotaState: Hashable, Sendable {
    public let quota: Quota
    public let settled: Int64
    public let held: Int64
    public let thresholds: QuotaThresholds
    /// Those that were crossed in the period, ascending.
    public let crossed: [Crossing]

    /// One threshold, and when it was seen to be crossed.
    public struct Crossing: Hashable, Sendable {
        public let percent: Int16
        public let at: Timestamp

        public init(percent: Int16, at: Timestamp) {
            self.percent = percent
            self.at = at
        }
    }

    public init(
        quota: Quota, settled: Int64, held: Int64, thresholds: QuotaThresholds = .standard, crossed: [Crossing] = []
    ) {
        self.quota = quota
        self.settled = settled
        self.held = held
        self.thresholds = thresholds
        self.crossed = crossed
    }
}

public struct RequestRow: Sendable {
    public let id: RequestID
    public let keyID: KeyID
    public let model: String
    public let modelVersion: String
    public let status: String
    public let httpStatus: Int16?
    public let errorCode: String?
    public let createdAt: Timestamp
    public let completedAt: Timestamp?
    public let processingMicroseconds: Int64?
    public let tierVersionID: TierVersionID?
    public let isCached: Bool
    /// What the ledger says; `nil` for a request that was not billed.
    public let billed: Usage?
    /// What the ledger says of the request itself, 1 or 0.
    public let billedRequests: Int64
    /// JSON text, where the tenant's retention keeps it.
    public let result: String?
    public let userID: UserID?
    /// What was asked for, as `predict` or `chat.completions`.
    public let operation: String
    /// What was held at admission.
    public let estimatedTokens: Int64?

    public init(
        id: RequestID, keyID: KeyID, model: String, modelVersion: String, status: String, httpStatus: Int16?,
        errorCode: String?,
        createdAt: Timestamp, completedAt: Timestamp?, processingMicroseconds: Int64?, tierVersionID: TierVersionID?,
        isCached: Bool, billed: Usage?, result: String?, userID: UserID? = nil, operation: String = "predict",
        estimatedTokens: Int64? = nil, billedRequests: Int64 = 1
    ) {
        self.billedRequests = billedRequests
        self.id = id
        self.keyID = keyID
        self.model = model
        self.modelVersion = modelVersion
        self.status = status
        self.httpStatus = httpStatus
        self.errorCode = errorCode
        self.createdAt = createdAt
        self.completedAt = completedAt
        self.processingMicroseconds = processingMicroseconds
        self.tierVersionID = tierVersionID
        self.isCached = isCached
        self.billed = billed
        self.result = result
        self.userID = userID
        self.operation = operation
        self.estimatedTokens = estimatedTokens
    }
}
