/// What of a quantity of usage was charged by a tier's word about hits of the cache and about streams whose callers left. All of it is in
/// the quantity's own counts already, corrections aside.
public struct TermedUsage: Hashable, Sendable {
    public let hits: Int64
    /// What the hits' answers had when a worker gave them; of how much of the input was in the worker's own cache nothing is known.
    public let servedInputTokens: Int64
    public let servedOutputTokens: Int64
    /// What the hits were charged.
    public let hitInputTokens: Int64
    public let hitCachedInputTokens: Int64
    public let hitOutputTokens: Int64
    public let leftStreams: Int64
    /// Those of the left streams that were charged for more than was delivered.
    public let drainedStreams: Int64
    /// What the drained streams were charged.
    public let drainedOutputTokens: Int64
    public let drainedDeliveredTokens: Int64

    public init(
        hits: Int64 = 0, servedInputTokens: Int64 = 0, servedOutputTokens: Int64 = 0, hitInputTokens: Int64 = 0,
        hitCachedInputTokens: Int64 = 0, hitOutputTokens: Int64 = 0, leftStreams: Int64 = 0, drainedStreams: Int64 = 0,
        drainedOutputTokens: Int64 = 0, drainedDeliveredTokens: Int64 = 0
    ) {
        self.hits = hits
        self.servedInputTokens = servedInputTokens
        self.servedOutputTokens = servedOutputTokens
        self.hitInputTokens = hitInputTokens
        self.hitCachedInputTokens = hitCachedInputTokens
        self.hitOutputTokens = hitOutputTokens
        self.leftStreams = leftStreams
        self.drainedStreams = drainedStreams
        self.drainedOutputTokens = drainedOutputTokens
        self.drainedDeliveredTokens = drainedDeliveredTokens
    }

    public static let none = TermedUsage()

    /// Charged by other terms.
    func charged(by terms: TierTerms, insteadOf old: TierTerms) -> TermedUsage {
        var (input, cached, output) = (hitInputTokens, hitCachedInputTokens, hitOutputTokens)
        if terms.cacheHitTokenPercent != old.cacheHitTokenPercent {
            input = Self.part(servedInputTokens, terms.cacheHitTokenPercent, of: 100)
            output = Self.part(servedOutputTokens, terms.cacheHitTokenPercent, of: 100)
            cached = min(
                input, Self.part(hitCachedInputTokens, terms.cacheHitTokenPercent, of: old.cacheHitTokenPercent))
        }
        // What was delivered is known of every stream; what would have been made of one that was cancelled is not.
        let isCancelled = terms.streamLeave == .cancel
        return TermedUsage(
            hits: hits, servedInputTokens: servedInputTokens, servedOutputTokens: servedOutputTokens,
            hitInputTokens: input, hitCachedInputTokens: cached, hitOutputTokens: output, leftStreams: leftStreams,
            drainedStreams: isCancelled ? 0 : drainedStreams,
            drainedOutputTokens: isCancelled ? 0 : drainedOutputTokens,
            drainedDeliveredTokens: isCancelled ? 0 : drainedDeliveredTokens)
    }

    /// What is charged of the hits as requests.
    fileprivate func requests(by terms: TierTerms) -> Int64 { terms.requestTerms.cacheHit == .charged ? hits : 0 }

    /// Rounded down, as each hit is: what the hits of a sum would have been charged together is at most a token for each of them less.
    private static func part(_ tokens: Int64, _ percent: Int64, of whole: Int64) -> Int64 {
        guard whole > 0 else { return 0 }
        return Int64(clamping: Int128(tokens) * Int128(min(max(percent, 0), 100)) / Int128(whole))
    }

    /// What is charged for left streams beyond what was delivered of them.
    fileprivate var undelivered: Int128 { Int128(drainedOutputTokens) - Int128(drainedDeliveredTokens) }
}

extension UsageQuantity {
    /// The same usage as other terms would have charged it; under their version, in the same trial.
    func charged(by terms: TierTerms, insteadOf old: TierTerms) -> UsageQuantity {
        let new = termed.charged(by: terms, insteadOf: old)
        func replaced(_ count: Int64, _ old: Int64, _ new: Int64, less undelivered: Int128 = 0) -> Int64 {
            Int64(clamping: Int128(count) - Int128(old) + Int128(new) - undelivered)
        }
        return UsageQuantity(
            tierVersionID: terms.tierVersionID, isTrial: isTrial, model: model,
            requests: replaced(requests, termed.requests(by: old), termed.requests(by: terms)),
            inputTokens: replaced(inputTokens, termed.hitInputTokens, new.hitInputTokens),
            cachedInputTokens: replaced(cachedInputTokens, termed.hitCachedInputTokens, new.hitCachedInputTokens),
            outputTokens: replaced(
                outputTokens, termed.hitOutputTokens, new.hitOutputTokens, less: termed.undelivered - new.undelivered),
            termed: new)
    }

    /// Terms that would have charged otherwise by what is not known of this usage.
    func unseen(by terms: TierTerms, insteadOf old: TierTerms) -> Set<UnseenTerm> {
        guard !isTrial else { return [] }
        var unseen: Set<UnseenTerm> = []
        // Hits that were free say nothing of how much of their input was in the worker's own cache.
        if old.cacheHitTokenPercent == 0, terms.cacheHitTokenPercent > 0, termed.servedInputTokens > 0,
            terms.tellsCachedInputApart(of: model)
        {
            unseen.insert(.cacheHitTokenPercent)
        }
        if old.streamLeave != terms.streamLeave {
            switch terms.streamLeave {
            case .cancel: break
            case .drain: if termed.leftStreams > termed.drainedStreams { unseen.insert(.streamLeave) }
            // It is for the model to say, and what it said then is not known.
            case nil: if termed.leftStreams > 0 { unseen.insert(.streamLeave) }
            }
        }
        return unseen
    }
}

extension TierTerms {
    /// Whether input tokens from the worker's own cache cost a model otherwise than the others.
    fileprivate func tellsCachedInputApart(of model: String) -> Bool {
        let price = rule(of: .inputToken, model: model).price
        guard case .flat = price else { return true }
        return rule(of: .cachedInputToken, model: model).price != price
            || multiplier(of: .cachedInputToken, model: model) != multiplier(of: .inputToken, model: model)
    }
}
