/// Which usage of all tenants a report is about.
public struct ReportQuery: Sendable {
    /// Half-open stretches, in order; usage outside them is not counted.
    public let stretches: [UsageQuery.Stretch]
    public let groupsByTenant: Bool
    public let groupsByKey: Bool
    /// By whose key it was.
    public let groupsByUser: Bool
    /// The usage that has tags, once for each of them; not together with keys and users, by which that of tags is not kept.
    public let groupsByTag: Bool
    /// More groups than this are refused rather than read.
    public let groupLimit: Int

    public init(
        stretches: [UsageQuery.Stretch], groupsByTenant: Bool, groupsByKey: Bool = false, groupsByUser: Bool = false,
        groupsByTag: Bool = false, groupLimit: Int = 200_000
    ) {
        self.stretches = stretches
        self.groupsByTenant = groupsByTenant
        self.groupsByKey = groupsByKey
        self.groupsByUser = groupsByUser
        self.groupsByTag = groupsByTag
        self.groupLimit = groupLimit
    }
}

/// Quantities of one group of a report.
public struct ReportRow: Hashable, Sendable {
    /// `nil` where it was not asked for.
    public let tenantID: TenantID?
    public let usage: UsageRow

    public init(tenantID: TenantID?, usage: UsageRow) {
        self.tenantID = tenantID
        self.usage = usage
    }
}

/// How many requests of a model were answered in a time of one class of ``LatencyHistogram``.
public struct LatencyCount: Hashable, Sendable {
    public let model: String
    public let latencyClass: Int
    public let requests: Int64

    public init(model: String, latencyClass: Int, requests: Int64) {
        self.model = model
        self.latencyClass = latencyClass
        self.requests = requests
    }
}

/// How many requests of a model came to one end: a failure of one code, or, without a code, all that were answered.
public struct OutcomeCount: Hashable, Sendable {
    public let model: String
    public let failure: Failure?
    public let requests: Int64

    public struct Failure: Hashable, Sendable {
        public let code: String
        public let httpStatus: Int16

        public init(code: String, httpStatus: Int16) {
            self.code = code
            self.httpStatus = httpStatus
        }
    }

    public init(model: String, failure: Failure?, requests: Int64) {
        self.model = model
        self.failure = failure
        self.requests = requests
    }
}

/// What standing invoices charge for one tier, less what credit notes took back.
public struct InvoicedAmount: Hashable, Sendable {
    /// The code of a tier; `nil` for what belongs to none: a balance carried over, and credit notes.
    public let tier: String?
    public let currency: String
    public let amount: Micros
    public let invoices: Int64

    public init(tier: String?, currency: String, amount: Micros, invoices: Int64) {
        self.tier = tier
        self.currency = currency
        self.amount = amount
        self.invoices = invoices
    }
}

/// What a tenant used of a model in one hour; hours are numbered from the instant that was asked from.
public struct HourlyUsage: Hashable, Sendable {
    public let hour: Int
    public let model: String
    public let requests: Int64
    public let inputTokens: Int64
    public let cachedInputTokens: Int64
    public let outputTokens: Int64

    public init(
        hour: Int, model: String, requests: Int64, inputTokens: Int64, cachedInputTokens: Int64, outputTokens: Int64
    ) {
        self.hour = hour
        self.model = model
        self.requests = requests
        self.inputTokens = inputTokens
        self.cachedInputTokens = cachedInputTokens
        self.outputTokens = outputTokens
    }
}

/// Reads what a tenant used hour by hour, exact to the last commit.
public protocol UsageHistory: Sendable {
    /// The hours that begin with `start`, each of elapsed time; those of `start <= t < end` in which something was used.
    func hours(of tenant: TenantID, from start: Timestamp, to end: Timestamp) async throws(StoreUnavailable)
        -> [HourlyUsage]
}

/// What reports over all tenants are made of: roll-ups and the tail that is not in them yet, in one snapshot. What a read costs follows from models,
/// tenants and time, not from how many requests there were.
public protocol ReportRecords: UsageHistory {
    /// At most one group more than the query's limit.
    func usage(_ query: ReportQuery) async throws(StoreUnavailable) -> [ReportRow]
    func latencies(from start: Timestamp, to end: Timestamp) async throws(StoreUnavailable) -> [LatencyCount]
    func outcomes(from start: Timestamp, to end: Timestamp) async throws(StoreUnavailable) -> [OutcomeCount]
    /// Of the issued invoices and credit notes whose period begins at `start <= t < end`, before credits.
    func invoiced(from start: Timestamp, to end: Timestamp) async throws(StoreUnavailable) -> [InvoicedAmount]
    func names(of tenants: [TenantID]) async throws(StoreUnavailable) -> [TenantID: String]
}
