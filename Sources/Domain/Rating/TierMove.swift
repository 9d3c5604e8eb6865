extension RatingInput {
    /// The same usage as if the tenant had been on another version wherever it was on one that is meant. Trials stay trials: a span keeps
    /// whether it was free.
    public func moved(to terms: TierTerms, from isMeant: (TierTerms) -> Bool) -> RatingInput {
        let meant = Set(self.terms.filter { isMeant($0.value) }.keys)
        let target = { (id: TierVersionID) in meant.contains(id) ? terms.tierVersionID : id }
        var all = self.terms
        all[terms.tierVersionID] = terms
        return RatingInput(
            spans: spans.map {
                SubscriptionSpan(
                    tierVersionID: target($0.tierVersionID), start: $0.start, end: $0.end, isTrial: $0.isTrial)
            },
            usage: usage.map {
                UsageQuantity(
                    tierVersionID: target($0.tierVersionID), isTrial: $0.isTrial, model: $0.model,
                    requests: $0.requests, inputTokens: $0.inputTokens, cachedInputTokens: $0.cachedInputTokens,
                    outputTokens: $0.outputTokens)
            },
            terms: all)
    }

    /// Input and output tokens together.
    public var tokens: Int128 { usage.reduce(0) { $0 + Int128($1.inputTokens) + Int128($1.outputTokens) } }

    public func rated(in period: Period) throws(RatingFailure) -> RatedPeriod {
        try Rating(period: period).rate(spans: spans, terms: terms, usage: usage)
    }
}
