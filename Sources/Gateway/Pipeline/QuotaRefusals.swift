internal import Domain

extension Refusal {
    /// What a refused lease means for another request that waited for it; `nil` if that one may still have a chance of its own.
    ///
    /// Without this, all who wait would ask one after the other, each for as long as a database that is away takes to say so.
    func shared(withRequestOf tokens: Int64, at now: Timestamp) -> Refusal? {
        guard let numbers = quota else { return self }
        guard numbers.quota.unit == .tokens else { return self }
        guard tokens >= numbers.requested else { return nil }
        return .quotaExceeded(
            QuotaRefusal(
                quota: numbers.quota, period: numbers.period, settled: numbers.settled, held: numbers.held,
                requested: tokens),
            at: now)
    }

    static func quotaExceeded(_ numbers: QuotaRefusal, at now: Timestamp) -> Refusal {
        let quota = numbers.quota
        let seconds = max(1, (numbers.period.end.milliseconds(since: now) + 999) / 1_000)
        let reset = quota.frequency.recurs ? "Resets \(numbers.period.end)." : "It does not begin anew."
        return Refusal(
            .quotaExceeded,
            "The quota \(quota.policy) for \(numbers.period.id) is used up. Limit \(quota.amount), settled \(numbers.settled), "
                + "held \(numbers.held), requested up to \(numbers.requested). \(reset)",
            retryAfterSeconds: quota.frequency.recurs ? Int(clamping: seconds) : nil, quota: numbers)
    }
}
