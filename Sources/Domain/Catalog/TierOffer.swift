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
        cacheHitTokenPercent: Int64 = 100, streamLeave: StreamLeave? = nil, resultTTLSeconds: Int64 = 86_400,
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
            rules: rules, multipliers: multipliers)
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

/// A price, fee or included amount that a draft moves by more than a factor.
public struct PriceJump: Hashable, Sendable {
    /// As in `price of output_token for iris`.
    public let what: String
    public let before: String
    public let after: String
}

extension TierOffer {
    /// What this offer moves by more than `factor` either way against another one. From nothing to something is more than any factor.
    public func jumps(from old: TierOffer, factor: Int64) -> [PriceJump] {
        func isJump(_ before: Int64, _ after: Int64) -> Bool {
            let (low, high) = (Int128(min(before, after)), Int128(max(before, after)))
            return high > low * Int128(factor)
        }
        var jumps: [PriceJump] = []
        let amounts: [(String, Int64, Int64)] = [
            ("base_fee_micros", old.baseFee.value, baseFee.value),
            ("minimum_commitment_micros", old.minimumCommitment.value, minimumCommitment.value),
            ("included_requests", old.includedRequests, includedRequests),
            ("included_tokens", old.includedTokens, includedTokens),
        ]
        for (name, before, after) in amounts where isJump(before, after) {
            jumps.append(PriceJump(what: name, before: String(before), after: String(after)))
        }
        let nobody = TierVersionID(high: 0, low: 0)
        let (oldTerms, newTerms) = (old.terms(nobody, code: "", version: 1), terms(nobody, code: "", version: 1))
        let places = [old, self].flatMap { $0.rules.map { [$0.meter.rawValue, $0.model] } }
        let multiplied = [old, self].flatMap { $0.multipliers.map { [$0.meter.rawValue, $0.model] } }
        for place in Set(places + multiplied).sorted(by: { $0.lexicographicallyPrecedes($1) }) {
            guard let meter = Meter(rawValue: place[0]) else { continue }
            let before = oldTerms.leadingAttos(of: meter, model: place[1])
            let after = newTerms.leadingAttos(of: meter, model: place[1])
            guard max(before, after) > min(before, after) * Int128(factor) else { continue }
            jumps.append(
                PriceJump(
                    what: "price of \(place[0]) for \(place[1])",
                    before: oldTerms.rule(of: meter, model: place[1]).price.leadingPrice.description,
                    after: newTerms.rule(of: meter, model: place[1]).price.leadingPrice.description))
        }
        return jumps
    }
}

extension TierTerms {
    /// The leading price times the multiplier, exact.
    fileprivate func leadingAttos(of meter: Meter, model: String) -> Int128 {
        Int128(rule(of: meter, model: model).price.leadingPrice.picos)
            * Int128(multiplier(of: meter, model: model).millionths)
    }
}
