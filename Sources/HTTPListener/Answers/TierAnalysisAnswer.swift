public import Domain

/// What tiers would have cost a tenant, as both APIs show it.
public struct TierAnalysisAnswer: Encodable {
    struct Choice: Encodable {
        let tier: String
        let version: Int32

        init(_ option: TierAnalysis.Option) {
            tier = option.tier.code
            version = option.tier.version.number
        }
    }

    struct Stretch: Encodable {
        let id: String
        let start: String
        let end: String
    }

    struct Overrun: Encodable {
        let unit: String
        let frequency: String
        let amount: Int64
        let used: Int64
    }

    struct RateOverrun: Encodable {
        let scope: String
        let unit: String
        let amount: Int64
        @Present var burst: Int64?
        let minute: String
        let used: Int64
    }

    struct Option: Encodable {
        let tier: String
        let version: Int32
        let costsMicros: [Int64]
        let totalMicros: Int64
        let isFeasible: Bool
        let areLimitsProven: Bool
        let notSeen: [String]
        let reratedHits: Int64
        let refusedBy: [Overrun]
        let rateOverruns: [RateOverrun]

        enum CodingKeys: String, CodingKey {
            case tier, version
            case costsMicros = "costs_micros"
            case totalMicros = "total_micros"
            case isFeasible = "feasible"
            case areLimitsProven = "limits_proven"
            case notSeen = "not_seen"
            case reratedHits = "rerated_hits"
            case refusedBy = "refused_by"
            case rateOverruns = "rate_overruns"
        }
    }

    let object = "tier_analysis"
    let tenantID: String
    let timeZone: String
    @Present var currency: String?
    let periods: [Stretch]
    let actualTotalMicros: Int64
    @Present var current: Choice?
    @Present var recommended: Choice?
    @Present var savingMicros: Int64?
    let highestMonthlyTokens: Int64
    let simpleRule: String
    let options: [Option]
    /// Why there is nothing of all this.
    @Present var unrateable: String?

    enum CodingKeys: String, CodingKey {
        case object, currency, periods, current, recommended, options, unrateable
        case tenantID = "tenant_id"
        case timeZone = "time_zone"
        case actualTotalMicros = "actual_total_micros"
        case savingMicros = "saving_micros"
        case highestMonthlyTokens = "highest_monthly_tokens"
        case simpleRule = "simple_rule"
    }

    public init(_ account: BillingAccount, _ analysis: TierAnalysis) {
        tenantID = account.tenantID.description
        timeZone = account.timeZone
        currency = analysis.currency
        periods = analysis.periods.map {
            Stretch(id: $0.id, start: $0.start.description, end: $0.end.description)
        }
        actualTotalMicros = analysis.actualTotal.value
        current = analysis.current.map(Choice.init)
        recommended = analysis.recommended.map(Choice.init)
        savingMicros = analysis.saving?.value
        highestMonthlyTokens = Int64(clamping: analysis.highestTokens)
        simpleRule = analysis.simpleRuleCode
        options = analysis.options.map { option in
            Option(
                tier: option.tier.code, version: option.tier.version.number, costsMicros: option.costs.map(\.value),
                totalMicros: option.total.value, isFeasible: option.isFeasible,
                areLimitsProven: option.areLimitsProven, notSeen: option.unseen.map(\.rawValue).sorted(),
                reratedHits: option.reratedHits,
                refusedBy: option.overruns.map {
                    Overrun(
                        unit: $0.unit.rawValue, frequency: $0.frequency.rawValue, amount: $0.amount,
                        used: Int64(clamping: $0.used))
                },
                rateOverruns: option.rateOverruns.map {
                    RateOverrun(
                        scope: $0.scope.rawValue, unit: $0.unit.rawValue, amount: $0.amount, burst: $0.burst,
                        minute: $0.minute.description, used: $0.used)
                })
        }
    }

    /// Of a tenant whose usage cannot be rated.
    public init(_ account: BillingAccount, _ failure: RatingFailure) {
        tenantID = account.tenantID.description
        timeZone = account.timeZone
        periods = []
        actualTotalMicros = 0
        highestMonthlyTokens = 0
        simpleRule = TierAnalysis.simpleRule(0)
        options = []
        switch failure {
        case .mixedCurrencies: unrateable = "mixed_currencies"
        case .amountTooLarge: unrateable = "amount_too_large"
        case .unknownTierVersion: unrateable = "unknown_tier_version"
        }
    }
}
