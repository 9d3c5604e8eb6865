/// What a tenant used of one model under one tier version in a period, summed from the ledger.
public struct UsageQuantity: Hashable, Sendable {
    public let tierVersionID: TierVersionID
    /// Used in the trial, so free.
    public let isTrial: Bool
    public let model: String
    public let requests: Int64
    /// All input tokens, those from the worker's own cache among them.
    public let inputTokens: Int64
    public let cachedInputTokens: Int64
    public let outputTokens: Int64
    /// What of it other terms would have charged otherwise; nothing where nobody asks for that.
    public let termed: TermedUsage

    public init(
        tierVersionID: TierVersionID, isTrial: Bool = false, model: String, requests: Int64, inputTokens: Int64,
        cachedInputTokens: Int64 = 0, outputTokens: Int64, termed: TermedUsage = .none
    ) {
        self.tierVersionID = tierVersionID
        self.isTrial = isTrial
        self.model = model
        self.requests = requests
        self.inputTokens = inputTokens
        self.cachedInputTokens = cachedInputTokens
        self.outputTokens = outputTokens
        self.termed = termed
    }

    /// In units of a meter. Input tokens from the worker's cache have a meter of their own and are not counted twice.
    func units(of meter: Meter) -> Int128 {
        switch meter {
        case .request: Int128(requests)
        case .inputToken: Int128(inputTokens) - Int128(cachedInputTokens)
        case .cachedInputToken: Int128(cachedInputTokens)
        case .outputToken: Int128(outputTokens)
        }
    }
}

/// A stretch of a period in which a tenant was on one tier version: `start <= t < end`, inside of the period.
public struct SubscriptionSpan: Hashable, Sendable {
    public let tierVersionID: TierVersionID
    public let start: Timestamp
    public let end: Timestamp
    /// A trial has no base fee, no minimum and no included amounts; its usage is free.
    public let isTrial: Bool

    public init(tierVersionID: TierVersionID, start: Timestamp, end: Timestamp, isTrial: Bool = false) {
        self.tierVersionID = tierVersionID
        self.start = start
        self.end = end
        self.isTrial = isTrial
    }
}

/// One line of what a period costs.
public struct RatedLine: Hashable, Sendable {
    public enum Kind: String, Sendable, CaseIterable {
        case baseFee = "base_fee"
        /// A quantity at its price.
        case usage
        /// A quantity that the tier includes.
        case included
        /// A quantity of a trial.
        case trial
        case minimumCommitment = "minimum_commitment"
    }

    public let kind: Kind
    public let tierVersionID: TierVersionID
    /// `nil` for lines that are no usage; ``PriceSheet/anyModel`` where models are priced together and cannot be told apart.
    public let model: String?
    public let meter: Meter?
    /// Counted from 1, of a banded price.
    public let band: Int16?
    public let start: Timestamp
    public let end: Timestamp
    /// Units times their multiplier, in millionths of a unit; `nil` for lines that are no usage.
    public let quantityMillionths: Int128?
    /// Of a unit, or of a package.
    public let unitPrice: UnitPrice?
    public let amount: Micros
}

/// What a period costs before credits.
public struct RatedPeriod: Hashable, Sendable {
    /// ISO 4217; `nil` where there is neither a subscription nor usage.
    public let currency: String?
    public let lines: [RatedLine]
    /// The sum of the lines.
    public let subtotal: Micros
}

/// Why usage cannot be rated.
public enum RatingFailure: Error, Hashable, Sendable {
    /// The usage or a span names a tier version whose terms were not given.
    case unknownTierVersion(TierVersionID)
    /// An amount does not fit.
    case amountTooLarge
    /// Tier versions of different currencies cannot stand on one bill.
    case mixedCurrencies
}
