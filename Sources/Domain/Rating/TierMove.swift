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

    /// What a move to other terms leaves out: terms that decided, when a request settled, what the ledger has of it.
    public func unseen(by terms: TierTerms, from isMeant: (TierTerms) -> Bool) -> Set<UnseenTerm> {
        var unseen: Set<UnseenTerm> = []
        for old in self.terms.values where isMeant(old) {
            if old.cacheHitTokenPercent != terms.cacheHitTokenPercent { unseen.insert(.cacheHitTokenPercent) }
            if old.streamLeave != terms.streamLeave { unseen.insert(.streamLeave) }
            if old.requestTerms.cacheHit != terms.requestTerms.cacheHit { unseen.insert(.cacheHitRequest) }
            if old.requestTerms.failure != terms.requestTerms.failure { unseen.insert(.failedRequest) }
        }
        return unseen
    }

    /// Input and output tokens together.
    public var tokens: Int128 { usage.reduce(0) { $0 + Int128($1.inputTokens) + Int128($1.outputTokens) } }

    public func rated(in period: Period) throws(RatingFailure) -> RatedPeriod {
        try Rating(period: period).rate(spans: spans, terms: terms, usage: usage)
    }
}

/// A term that usage of the past does not show at work where it was another: what is summed is what the term in force then charged.
public enum UnseenTerm: String, Hashable, Sendable, CaseIterable {
    case cacheHitTokenPercent = "cache_hit_token_percent"
    case streamLeave = "stream_leave"
    case cacheHitRequest = "cache_hit_request"
    case failedRequest = "failed_request"
}
