/// The most that was used in one period of each frequency.
///
/// Exact for minutes that are known, and for hours, days, weeks and months of the calendar that lie in what was read; of a quarter, a year and
/// an unlimited time it is what was used of them in what was read, so a quota may be overrun that looks as if it held.
struct QuotaPeaks {
    private struct Peak {
        var requests: Int128 = 0
        var tokens: Int128 = 0

        subscript(unit: QuotaUnit) -> Int128 { unit == .requests ? requests : tokens }
    }

    private var peaks: [Frequency: Peak] = [:]
    /// Of a quarter of an hour.
    private var quarter = Peak()
    private let hasAllMinutes: Bool

    init(_ quarters: [UsageQuarter], _ minutes: UsageMinutes, _ calendar: PeriodCalendar) {
        hasAllMinutes = minutes.isWhole
        quarter = Peak(
            requests: quarters.map { Int128($0.requests) }.max() ?? 0,
            tokens: quarters.map { Int128($0.tokens) }.max() ?? 0)
        peaks[.minute] = Peak(requests: minutes.peak(of: .requests), tokens: minutes.peak(of: .tokens))
        for frequency in Frequency.allCases where frequency != .minute {
            var sums: [Timestamp: Peak] = [:]
            var period: Period?
            for quarter in quarters {
                if period?.contains(quarter.start) != true {
                    period = calendar.period(containing: quarter.start, frequency: frequency)
                }
                let key = period?.start ?? quarter.start
                sums[key, default: Peak()].requests += Int128(quarter.requests)
                sums[key, default: Peak()].tokens += Int128(quarter.tokens)
            }
            peaks[frequency] = Peak(
                requests: sums.values.map(\.requests).max() ?? 0, tokens: sums.values.map(\.tokens).max() ?? 0)
        }
    }

    /// Whether no hard quota of a minute can have been overrun: where not all minutes are known, none has more than its quarter of an hour.
    func prove(_ quotas: [QuotaRule]) -> Bool {
        hasAllMinutes
            || quotas.allSatisfy { quota in
                quota.mode != .hard || quota.frequency != .minute || quarter[quota.unit] <= Int128(quota.amount)
            }
    }

    func overruns(of quotas: [QuotaRule]) -> [OverrunQuota] {
        quotas.filter { $0.mode == .hard }.compactMap { quota in
            let used = (peaks[quota.frequency] ?? Peak())[quota.unit]
            guard used > Int128(quota.amount) else { return nil }
            return OverrunQuota(unit: quota.unit, frequency: quota.frequency, amount: quota.amount, used: used)
        }
    }
}
