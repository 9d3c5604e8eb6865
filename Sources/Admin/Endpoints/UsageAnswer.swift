internal import Billing
internal import Domain
internal import HTTPListener

/// One line of a report. Dimensions that were not asked for are left out.
struct UsageLine: Encodable {
    let tenantID: String?
    let day: String?
    let model: String?
    let userID: String?
    let keyID: String?
    let currency: String?
    let requests: Int64
    let inputTokens: Int64
    let cachedInputTokens: Int64
    let outputTokens: Int64
    let costMicros: Int64

    enum CodingKeys: String, CodingKey {
        case day, model, currency, requests
        case tenantID = "tenant_id"
        case userID = "user_id"
        case keyID = "key_id"
        case inputTokens = "input_tokens"
        case cachedInputTokens = "cached_input_tokens"
        case outputTokens = "output_tokens"
        case costMicros = "cost_micros"
    }

    init(_ line: UsageReporter.Line, days: [String], tenantID: TenantID? = nil, currency: String? = nil) {
        self.tenantID = tenantID?.description
        day = line.day.flatMap { days.indices.contains($0) ? days[$0] : nil }
        model = line.model
        userID = line.userID?.description
        keyID = line.keyID?.description
        self.currency = currency
        requests = line.requests
        inputTokens = line.inputTokens
        cachedInputTokens = line.cachedInputTokens
        outputTokens = line.outputTokens
        costMicros = line.cost.value
    }

    private init(currency: String?, _ sums: [Int64]) {
        (tenantID, day, model, userID, keyID) = (nil, nil, nil, nil, nil)
        self.currency = currency
        (requests, inputTokens, cachedInputTokens, outputTokens, costMicros) = (
            sums[0], sums[1], sums[2], sums[3], sums[4]
        )
    }

    /// The sum of two totals of one currency.
    /// - Throws: `internal_error` where it does not fit into 64 bits.
    func adding(_ other: UsageLine) throws(Refusal) -> UsageLine {
        var sums: [Int64] = []
        for path in [\UsageLine.requests, \.inputTokens, \.cachedInputTokens, \.outputTokens, \.costMicros] {
            let (sum, overflow) = self[keyPath: path].addingReportingOverflow(other[keyPath: path])
            guard !overflow else {
                throw Refusal(.internalError, "The usage cannot be added up.", cause: "a total does not fit")
            }
            sums.append(sum)
        }
        return UsageLine(currency: currency, sums)
    }
}

/// The usage of one tenant, as the tenant sees it.
struct TenantUsageAnswer: Encodable {
    let object = "list"
    let start: String
    let end: String
    let timeZone: String
    /// `nil` where nothing was used and the tenant has no tier that would name one.
    @Present var currency: String?
    let data: [UsageLine]
    let total: UsageLine
    let hasMore: Bool

    enum CodingKeys: String, CodingKey {
        case object, start, end, currency, data, total
        case timeZone = "time_zone"
        case hasMore = "has_more"
    }
}

/// The usage of all tenants, with a total for each currency.
struct AllUsageAnswer: Encodable {
    let object = "list"
    let start: String
    let end: String
    let data: [UsageLine]
    let totals: [UsageLine]
    let hasMore: Bool

    enum CodingKeys: String, CodingKey {
        case object, start, end, data, totals
        case hasMore = "has_more"
    }
}
