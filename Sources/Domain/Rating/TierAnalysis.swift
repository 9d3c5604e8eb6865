/// What was used in a quarter of an hour, of all models and keys together.
public struct UsageQuarter: Hashable, Sendable {
    public let start: Timestamp
    public let requests: Int64
    /// Input and output.
    public let tokens: Int64

    public init(start: Timestamp, requests: Int64, tokens: Int64) {
        self.start = start
        self.requests = requests
        self.tokens = tokens
    }
}

/// A period with what is rated of it.
public struct AnalysedPeriod: Sendable {
    public let period: Period
    public let input: RatingInput

    public init(period: Period, input: RatingInput) {
        self.period = period
        self.input = input
    }
}

/// A hard quota that would have refused what was used.
public struct OverrunQuota: Hashable, Sendable {
    public let unit: QuotaUnit
    public let frequency: Frequency
    public let amount: Int64
    /// The most that was used in one of its periods.
    public let used: Int128
}

/// What tiers would have cost a tenant.
public struct TierAnalysis: Sendable {
    public struct Option: Sendable {
        public let tier: TierRow
        /// In the order of the periods.
        public let costs: [Micros]
        public let total: Micros
        /// Empty where nothing that was used would have been refused.
        public let overruns: [OverrunQuota]
        /// Empty where no rate limit would have refused something for certain.
        public let rateOverruns: [RateOverrun]
        /// Whether all of its limits are known to have held, or one is known not to have. Of a rate limit that is not always known.
        public let areLimitsProven: Bool
        /// Terms that were others then, where what they would have charged is not known.
        public let unseen: Set<UnseenTerm>
        /// Hits of the cache whose tokens were charged anew, by its own percentage.
        public let reratedHits: Int64

        public var isFeasible: Bool { overruns.isEmpty && rateOverruns.isEmpty }
    }

    public let periods: [Period]
    /// Of every tier that could be rated in the tenant's currency, by code and version.
    public let options: [Option]
    /// What the tenant is on now; `nil` without a subscription.
    public let currentID: TierVersionID?
    /// The cheapest feasible one; of several the current one, then that of the lower base fee, then the first by code and version.
    public let recommendedID: TierVersionID?
    /// What the recommended one would have cost less than the current one.
    public let saving: Micros?
    /// What was really used at the tiers that the tenant was really on.
    public let actualTotal: Micros
    public let currency: String?
    public let highestTokens: Int128

    public var current: Option? { options.first { $0.tier.version.id == currentID } }
    public var recommended: Option? { options.first { $0.tier.version.id == recommendedID } }

    /// The rule of thumb that stands beside: the highest tokens of a month decide alone.
    public var simpleRuleCode: String { Self.simpleRule(highestTokens) }

    public static func simpleRule(_ highestMonthlyTokens: Int128) -> String {
        switch highestMonthlyTokens {
        case ..<100_000: "basic"
        case ..<1_000_000: "standard"
        default: "premium"
        }
    }

    /// - Parameters:
    ///   - periods: in the order of time.
    ///   - candidates: what the tenant could be on, the version that it is on among them.
    ///   - quarters: of all periods.
    ///   - minutes: of all periods, as far as they are known. Empty where no candidate needs them (``needsMinutes(_:)``).
    ///   - calendar: the tenant's.
    ///   - currentID: what the tenant is on now, which can be another than in the last period. Its currency counts where no period has one.
    /// - Throws: ``RatingFailure`` where what really was cannot be rated. A candidate that cannot be is left out.
    public init(
        periods: [AnalysedPeriod], candidates: [TierRow], quarters: [UsageQuarter], minutes: [UsageMinute] = [],
        calendar: PeriodCalendar, currentID: TierVersionID?
    ) throws(RatingFailure) {
        self.periods = periods.map(\.period)
        var actual: Int128 = 0
        var currencies: Set<String> = []
        for one in periods {
            let rated = try one.input.rated(in: one.period)
            actual += Int128(rated.subtotal.value)
            if let currency = rated.currency { currencies.insert(currency) }
        }
        guard currencies.count <= 1 else { throw .mixedCurrencies }
        guard let actualTotal = Int64(exactly: actual) else { throw .amountTooLarge }
        self.actualTotal = Micros(actualTotal)
        currency =
            currencies.first ?? candidates.first { $0.version.id == currentID }?.version.offer.currency
        self.currentID = currentID
        highestTokens = periods.map(\.input.tokens).max() ?? 0
        let minutes = UsageMinutes(minutes, of: quarters)
        let peaks = QuotaPeaks(quarters, minutes, calendar)
        var options: [Option] = []
        for tier in candidates where currency != nil && tier.version.offer.currency == currency {
            if let option = Self.option(tier, periods, peaks, minutes) { options.append(option) }
        }
        options.sort { ($0.tier.code, $0.tier.version.number) < ($1.tier.code, $1.tier.version.number) }
        self.options = options
        func precedes(_ left: Option, _ right: Option) -> Bool {
            if left.total != right.total { return left.total < right.total }
            let isLeft = left.tier.version.id == currentID
            if isLeft != (right.tier.version.id == currentID) { return isLeft }
            let (fee, otherFee) = (left.tier.version.offer.baseFee, right.tier.version.offer.baseFee)
            if fee != otherFee { return fee < otherFee }
            return (left.tier.code, left.tier.version.number) < (right.tier.code, right.tier.version.number)
        }
        let best = options.filter(\.isFeasible).min(by: precedes)
        recommendedID = best?.tier.version.id
        let current = options.first { $0.tier.version.id == currentID }
        saving = best.flatMap { best in
            current.flatMap { current in
                let (difference, overflow) = current.total.value.subtractingReportingOverflow(best.total.value)
                return overflow ? nil : Micros(difference)
            }
        }
    }

    /// Whether minutes say more of a tier than quarters of an hour.
    public static func needsMinutes(_ tier: TierRow) -> Bool {
        let offer = tier.version.offer
        return !offer.rateLimits.isEmpty || offer.quotas.contains { $0.mode == .hard && $0.frequency == .minute }
    }

    private static func option(
        _ tier: TierRow, _ periods: [AnalysedPeriod], _ peaks: QuotaPeaks, _ minutes: UsageMinutes
    ) -> Option? {
        let terms = tier.terms
        var costs: [Micros] = []
        var total: Int128 = 0
        var unseen: Set<UnseenTerm> = []
        var reratedHits: Int128 = 0
        var shift = UsageShift()
        for one in periods {
            let (moved, blind) = (
                one.input.moved(to: terms, from: { _ in true }), one.input.unseen(by: terms, from: { _ in true })
            )
            unseen.formUnion(blind)
            shift.add(one.input, movedTo: moved, unseen: blind)
            reratedHits += Int128(one.input.reratedHits(by: terms, from: { _ in true }))
            guard let rated = try? moved.rated(in: one.period) else { return nil }
            costs.append(rated.subtotal)
            total += Int128(rated.subtotal.value)
        }
        guard let sum = Int64(exactly: total) else { return nil }
        let offer = tier.version.offer
        let judgements = offer.rateLimits.map(minutes.judge)
        let overruns = peaks.overruns(of: offer.quotas)
        let isConfirmed = offer.quotas.allSatisfy { quota in
            let isOverrun = overruns.contains { $0.unit == quota.unit && $0.frequency == quota.frequency }
            return quota.mode != .hard || shift.confirms(quota.unit, isOverrun: isOverrun)
        }
        return Option(
            tier: tier, costs: costs, total: Micros(sum),
            overruns: overruns.filter { shift.confirms($0.unit, isOverrun: true) },
            rateOverruns: judgements.compactMap { if case .refused(let overrun) = $0 { overrun } else { nil } },
            areLimitsProven: !judgements.contains(.unknown) && peaks.prove(offer.quotas) && isConfirmed, unseen: unseen,
            reratedHits: Int64(clamping: reratedHits))
    }
}
