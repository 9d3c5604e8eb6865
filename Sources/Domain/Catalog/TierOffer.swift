/// Everything that a tier version promises: prices, amounts that are included, quotas and limits. Immutable once it is published.
public struct TierOffer: Hashable, Sendable {
    /// ISO 4217; the same in all versions of a tier.
    public var currency: String
    /// Per month.
    public var baseFee: Micros
    /// The least that a month costs, base fee and usage together.
    public var minimumCommitment: Micros
    /// Per month, in units as they are priced.
    public var includedRequests: Int64
    public var includedTokens: Int64
    /// How long a new subscription is free.
    public var trialDays: Int32
    /// From when a published version is given to those who subscribe; `nil` means from its publication.
    public var effectiveAt: Timestamp?
    /// What a hit of the cache is charged of the tokens of its answer, 0 to 100.
    public var cacheHitTokenPercent: Int64
    /// What is charged where the caller of a stream leaves; `nil` leaves it to the model.
    public var streamLeave: StreamLeave?
    public var requestTerms: RequestTerms
    /// How long results are kept of tenants that do not say otherwise.
    public var resultTTLSeconds: Int64
    /// At most one for each meter and model.
    public var rules: [PriceRule]
    /// At most one for each meter and model.
    public var multipliers: [TierTerms.ModelMultiplier]
    /// At most one for each unit and frequency.
    public var quotas: [QuotaRule]
    /// At most one for each scope and unit.
    public var rateLimits: [RateLimitRule]

    public init(
        currency: String, baseFee: Micros = .zero, minimumCommitment: Micros = .zero, includedRequests: Int64 = 0,
        includedTokens: Int64 = 0, trialDays: Int32 = 0, effectiveAt: Timestamp? = nil,
        cacheHitTokenPercent: Int64 = 100, streamLeave: StreamLeave? = nil, requestTerms: RequestTerms = .standard,
        resultTTLSeconds: Int64 = 86_400,
        rules: [PriceRule] = [], multipliers: [TierTerms.ModelMultiplier] = [], quotas: [QuotaRule] = [],
        rateLimits: [RateLimitRule] = []
    ) {
        self.currency = currency
        self.baseFee = baseFee
        self.minimumCommitment = minimumCommitment
        self.includedRequests = includedRequests
        self.includedTokens = includedTokens
        self.trialDays = trialDays
        self.effectiveAt = effectiveAt
        self.cacheHitTokenPercent = cacheHitTokenPercent
        self.streamLeave = streamLeave
        self.requestTerms = requestTerms
        self.resultTTLSeconds = resultTTLSeconds
        self.rules = rules
        self.multipliers = multipliers
        self.quotas = quotas
        self.rateLimits = rateLimits
    }

    /// The terms by which a bill is rated.
    public func terms(_ id: TierVersionID, code: String, version: Int32) -> TierTerms {
        TierTerms(
            tierVersionID: id, tierCode: code, version: version, currency: currency, baseFee: baseFee,
            minimumCommitment: minimumCommitment, includedRequests: includedRequests, includedTokens: includedTokens,
            rules: rules, multipliers: multipliers, cacheHitTokenPercent: cacheHitTokenPercent,
            streamLeave: streamLeave, requestTerms: requestTerms)
    }

    /// What a month includes of what a quota counts.
    public func included(of unit: QuotaUnit) -> Int64 {
        switch unit {
        case .requests: includedRequests
        case .tokens: includedTokens
        }
    }

    /// Quotas that promise an amount within the price that no month includes: a pay-as-you-go quota has to be of a month, and of the amount
    /// that the version includes.
    public var brokenPromises: [QuotaRule] {
        quotas.filter { quota in
            quota.mode == .payAsYouGo && (quota.frequency != .month || quota.amount != included(of: quota.unit))
        }
    }

    /// Multipliers whose product with a leading price is no price of twelve places: what a request costs alone could not be said exactly.
    public var inexactMultipliers: [TierTerms.ModelMultiplier] {
        let terms = terms(TierVersionID(high: 0, low: 0), code: "", version: 1)
        return multipliers.filter { terms.alonePrice(of: $0.meter, model: $0.model) == nil }
    }
}

extension TierTerms {
    /// What one unit of a model costs where it is the only one: the leading price as often as the unit counts.
    /// - Returns: `nil` where twelve places do not hold it.
    public func alonePrice(of meter: Meter, model: String) -> UnitPrice? {
        let leading = Int128(rule(of: meter, model: model).price.leadingPrice.picos)
        let (picos, rest) = (leading * Int128(multiplier(of: meter, model: model).millionths))
            .quotientAndRemainder(dividingBy: 1_000_000)
        return rest == 0 ? Int64(exactly: picos).map(UnitPrice.init(picos:)) : nil
    }

    /// The flat prices by which a request's own cost is rated, as if it were the only one: of every rule, and of every model that counts
    /// otherwise than others.
    public var alonePrices: [PriceSheet.Price] {
        let ruled = rules.map { (meter: $0.meter, model: $0.model) }
        let multiplied = multipliers.map { (meter: $0.meter, model: $0.model) }
            .filter { place in !ruled.contains { $0 == place } }
        return (ruled + multiplied).map { place in
            // A version with another price is refused; cut off, one that is there nevertheless is not charged too much.
            PriceSheet.Price(
                meter: place.meter, model: place.model,
                unitPrice: alonePrice(of: place.meter, model: place.model)
                    ?? rule(of: place.meter, model: place.model).price.leadingPrice)
        }
    }
}
