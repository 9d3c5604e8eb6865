extension RatingInput {
    /// The same usage as if the tenant had been on another version wherever it was on one that is meant, with the tokens of hits and of left
    /// streams as that version charges them. Trials stay trials: a span keeps whether it was free.
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
            usage: usage.map { quantity in
                guard let old = self.terms[quantity.tierVersionID], meant.contains(quantity.tierVersionID) else {
                    return quantity
                }
                return quantity.charged(by: terms, insteadOf: old)
            },
            terms: all)
    }

    /// What a move to other terms leaves out: terms that decided, when a request settled, which tokens the ledger has, and whose other
    /// outcome is not known.
    public func unseen(by terms: TierTerms, from isMeant: (TierTerms) -> Bool) -> Set<UnseenTerm> {
        var unseen = usage.reduce(into: Set<UnseenTerm>()) { unseen, quantity in
            guard let old = self.terms[quantity.tierVersionID], isMeant(old) else { return }
            unseen.formUnion(quantity.unseen(by: terms, insteadOf: old))
        }
        // The ledger has no refused input that was free, and does not tell one that was charged from an answer.
        if self.terms.values.contains(where: { isMeant($0) && $0.requestTerms.failure != terms.requestTerms.failure }) {
            unseen.insert(.failedRequest)
        }
        return unseen
    }

    /// Hits whose tokens a move charges anew. Each is charged at most a token of a meter more than it would have been, because their tokens
    /// are rounded down together.
    public func reratedHits(by terms: TierTerms, from isMeant: (TierTerms) -> Bool) -> Int64 {
        Int64(
            clamping: usage.reduce(Int128(0)) { sum, quantity in
                guard let old = self.terms[quantity.tierVersionID], isMeant(old),
                    old.cacheHitTokenPercent != terms.cacheHitTokenPercent
                else { return sum }
                return sum + Int128(quantity.termed.hits)
            })
    }

    /// Input and output tokens together.
    public var tokens: Int128 { usage.reduce(0) { $0 + Int128($1.inputTokens) + Int128($1.outputTokens) } }

    public func rated(in period: Period) throws(RatingFailure) -> RatedPeriod {
        try Rating(period: period).rate(spans: spans, terms: terms, usage: usage)
    }
}

/// A term that was another when usage was charged, where what it would have charged cannot be known.
public enum UnseenTerm: String, Hashable, Sendable, CaseIterable {
    case cacheHitTokenPercent = "cache_hit_token_percent"
    case streamLeave = "stream_leave"
    case failedRequest = "failed_request"
}
