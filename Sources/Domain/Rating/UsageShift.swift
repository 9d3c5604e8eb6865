/// In which directions other terms would have counted usage otherwise. What was used when is known as it was charged then, so a quota is judged by
/// that where the terms agree, and else only as far as the direction allows.
struct UsageShift {
    private var rises: Set<QuotaUnit> = []
    private var falls: Set<QuotaUnit> = []

    mutating func add(_ input: RatingInput, movedTo moved: RatingInput, unseen: Set<UnseenTerm>) {
        for (old, new) in zip(input.usage, moved.usage) {
            note(.requests, Int128(old.requests), Int128(new.requests))
            note(
                .tokens, Int128(old.inputTokens) + Int128(old.outputTokens),
                Int128(new.inputTokens) + Int128(new.outputTokens))
        }
        // Where it is not known what would have been charged, neither is the direction.
        for unit in unseen.compactMap(\.quotaUnit) {
            rises.insert(unit)
            falls.insert(unit)
        }
    }

    private mutating func note(_ unit: QuotaUnit, _ old: Int128, _ new: Int128) {
        if new > old { rises.insert(unit) }
        if new < old { falls.insert(unit) }
    }

    /// Whether a quota that was overrun, or held, by what was charged then would have been so by what other terms charge.
    func confirms(_ unit: QuotaUnit, isOverrun: Bool) -> Bool { !(isOverrun ? falls : rises).contains(unit) }
}

extension UnseenTerm {
    /// What the term decides that quotas count; `nil` where it only tells input tokens apart.
    fileprivate var quotaUnit: QuotaUnit? {
        switch self {
        case .cacheHitTokenPercent: nil
        case .streamLeave: .tokens
        case .failedRequest: .requests
        }
    }
}
