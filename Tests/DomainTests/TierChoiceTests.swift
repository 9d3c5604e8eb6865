import TestSupport
import Testing

@testable import Domain

/// The recommendation against trying every tier with a bill that is made unit by unit.
@Suite("Choice of a tier")
struct TierChoiceTests {
    private static let calendar = PeriodCalendar.utc
    private static let months: [Period] = [1_772_400_000_000_000, 1_775_100_000_000_000, 1_777_700_000_000_000].map {
        calendar.period(containing: Timestamp(microsecondsSince1970: $0), frequency: .month)
    }
    private static let models = ["alpha", "beta", "gamma"]

    /// In whole micro-units, so that no line is rounded.
    private static func price(_ random: inout SeededRandom) -> UnitPrice {
        UnitPrice(picos: Int64.random(in: 0...9, using: &random) * 1_000_000)
    }

    private static func model(_ random: inout SeededRandom) -> PriceModel {
        let ends = [2, 5, 20, 40].filter { _ in Bool.random(using: &random) }.map(Int64?.some) + [nil]
        let bands = ends.map { PriceBand(upTo: $0, unitPrice: price(&random)) }
        switch Int.random(in: 0..<4, using: &random) {
        case 0: return .flat(price(&random))
        case 1: return .graduated(bands)
        case 2: return .volume(bands)
        default: return .package(size: .random(in: 1...9, using: &random), price: price(&random))
        }
    }

    private static func tier(_ number: UInt64, _ random: inout SeededRandom) -> TierRow {
        var offer = TierOffer(currency: Int.random(in: 0..<9, using: &random) == 0 ? "USD" : "EUR")
        offer.baseFee = Micros(Int64.random(in: 0...3, using: &random) * 40)
        offer.minimumCommitment = Micros(Bool.random(using: &random) ? 0 : .random(in: 0...500, using: &random))
        offer.includedRequests = .random(in: 0...9, using: &random)
        offer.includedTokens = Bool.random(using: &random) ? 0 : .random(in: 0...60, using: &random)
        for meter in Meter.allCases {
            for name in ["*", "alpha", "beta"] where Int.random(in: 0..<3, using: &random) > 0 {
                offer.rules.append(PriceRule(meter: meter, model: name, price: model(&random)))
            }
        }
        if Bool.random(using: &random) {
            offer.multipliers = [
                .init(meter: .outputToken, model: "gamma", multiplier: Multiplier(millionths: 3_000_000))
            ]
        }
        for frequency in [Frequency.day, .month] where Int.random(in: 0..<3, using: &random) == 0 {
            offer.quotas.append(
                QuotaRule(
                    unit: Bool.random(using: &random) ? .tokens : .requests, frequency: frequency,
                    amount: .random(in: 0...90, using: &random), mode: Bool.random(using: &random) ? .hard : .soft))
        }
        if Int.random(in: 0..<3, using: &random) == 0 {
            let burst = Bool.random(using: &random) ? nil : Int64.random(in: 1...20, using: &random)
            offer.rateLimits.append(
                RateLimitRule(
                    scope: .tenant, unit: .requests, amount: .random(in: 0...25, using: &random), burst: burst))
        }
        return TierRow(
            code: "t\(number % 3)", name: "",
            version: TierRow.Version(
                id: TierVersionID(high: 0, low: number), number: Int32(number), state: .published, offer: offer,
                createdAt: months[0].start),
            createdAt: months[0].start)
    }

    /// What was used of a model on a day.
    private struct Use {
        let month: Int
        let day: Int64
        let model: String
        let counts: [Meter: Int]

        var requests: Int { counts[.request] ?? 0 }
        var tokens: Int { counts.values.reduce(0, +) - requests }
    }

    private static func uses(_ random: inout SeededRandom) -> [Use] {
        (0..<Int.random(in: 1...9, using: &random)).map { _ in
            Use(
                month: .random(in: 0..<3, using: &random), day: .random(in: 0...4, using: &random),
                model: models.randomElement(using: &random) ?? "",
                counts: Dictionary(
                    uniqueKeysWithValues: Meter.allCases.map { ($0, Int.random(in: 0...14, using: &random)) }))
        }
    }

    // MARK: Oracle

    /// What a month costs, unit by unit.
    private static func cost(_ uses: [Use], _ offer: TierOffer) -> Int64 {
        func rule(_ meter: Meter, _ model: String) -> PriceRule {
            offer.rules.first { $0.meter == meter && $0.model == model }
                ?? offer.rules.first { $0.meter == meter && $0.model == "*" }
                ?? PriceRule(meter: meter, model: "*", price: .flat(.free))
        }
        func firstUnit(_ price: PriceModel) -> Int64 {
            switch price {
            case .flat(let price): price.picos
            case .graduated(let bands), .volume(let bands): bands[0].unitPrice.picos
            case .package(let size, let price): price.picos / size
            }
        }
        // Every unit that is to be paid, in the order in which it fills bands.
        var units: [(meter: Meter, model: String)] = []
        for meter in Meter.allCases {
            for model in models {
                let times = offer.multipliers.contains { $0.meter == meter && $0.model == model } ? 3 : 1
                let count = uses.filter { $0.model == model }.reduce(0) { $0 + ($1.counts[meter] ?? 0) }
                for _ in 0..<count * times { units.append((meter, model)) }
            }
        }
        for (included, isMeant) in [
            (offer.includedRequests, { (meter: Meter) in meter == .request }),
            (offer.includedTokens, { $0 != .request }),
        ] {
            for _ in 0..<included {
                let open = units.indices.filter { isMeant(units[$0].meter) }
                guard
                    let dearest = open.map({ firstUnit(rule(units[$0].meter, units[$0].model).price) }).max(),
                    let taken = open.first(where: {
                        firstUnit(rule(units[$0].meter, units[$0].model).price) == dearest
                    })
                else { break }
                units.remove(at: taken)
            }
        }
        var sum = offer.baseFee.value
        for meter in Meter.allCases {
            for group in ["*"] + models {
                let members = units.filter { $0.meter == meter && rule(meter, $0.model).model == group }
                guard let first = members.first else { continue }
                let price = rule(meter, first.model).price
                for place in 1...members.count {
                    switch price {
                    case .flat(let price): sum += price.picos / 1_000_000
                    case .graduated(let bands):
                        let band = bands.first { place <= Int($0.upTo ?? 1_000) }
                        sum += (band?.unitPrice.picos ?? 0) / 1_000_000
                    case .volume(let bands):
                        let band = bands.first { members.count <= Int($0.upTo ?? 1_000) }
                        sum += (band?.unitPrice.picos ?? 0) / 1_000_000
                    case .package(let size, let price):
                        if (place - 1) % Int(size) == 0 { sum += price.picos / 1_000_000 }
                    }
                }
            }
        }
        return max(sum, offer.minimumCommitment.value)
    }

    private static func isFeasible(_ uses: [Use], _ offer: TierOffer) -> Bool {
        offer.quotas.allSatisfy { quota in
            guard quota.mode == .hard else { return true }
            return (0..<3).allSatisfy { month in
                let days: [[Int64]] = quota.frequency == .month ? [[0, 1, 2, 3, 4]] : [[0], [1], [2], [3], [4]]
                return days.allSatisfy { days in
                    let inside = uses.filter { $0.month == month && days.contains($0.day) }
                    return inside.reduce(0) { $0 + (quota.unit == .tokens ? $1.tokens : $1.requests) } <= quota.amount
                }
            }
        }
    }

    /// Requests of the minute of each day in which all of them came.
    private static func bursts(_ uses: [Use]) -> [[Use]] {
        Array(Dictionary(grouping: uses) { [Int64($0.month), $0.day] }.values)
    }

    private static func requests(_ uses: [Use]) -> Int { uses.reduce(0) { $0 + $1.requests } }

    /// Whether a limiter that sees each request let them through, each as early as it would, before the minute is over.
    private static func letsThrough(_ uses: [Use], _ offer: TierOffer) -> Bool {
        offer.rateLimits.allSatisfy { rule in
            bursts(uses).allSatisfy { uses in
                guard let amount = rule.amount, requests(uses) > 0 else { return true }
                let limit = RateLimit(amount: amount, burst: rule.burst)
                guard amount > 0 else { return false }
                var (bucket, now) = (GCRA(), Int64(7_000_000_000))
                let end = now + 60_000_000
                for _ in 0..<requests(uses) {
                    while now < end {
                        let wait = bucket.take(
                            limit.microseconds(for: 1), at: now, tolerance: limit.microseconds(for: limit.burst))
                        if wait == 0 { break }
                        now += wait
                    }
                    if now >= end { return false }
                }
                return true
            }
        }
    }

    /// Whether it lets them through all at once, too.
    private static func letsThroughAtOnce(_ uses: [Use], _ offer: TierOffer) -> Bool {
        offer.rateLimits.allSatisfy { rule in
            bursts(uses).allSatisfy { uses in
                guard let amount = rule.amount, requests(uses) > 0 else { return true }
                let limit = RateLimit(amount: amount, burst: rule.burst)
                guard amount > 0 else { return false }
                var bucket = GCRA()
                return (0..<requests(uses)).allSatisfy { _ in
                    bucket.take(limit.microseconds(for: 1), at: 1, tolerance: limit.microseconds(for: limit.burst)) == 0
                }
            }
        }
    }

    private static func instant(_ use: Use) -> Timestamp {
        Timestamp(
            microsecondsSince1970: months[use.month].start.microsecondsSince1970 + use.day * 86_400_000_000
                + 900_000_000)
    }

    private static func minutes(_ uses: [Use]) -> [UsageMinute] {
        bursts(uses).map { uses in
            let (requests, tokens) = (Int64(requests(uses)), uses.reduce(Int64(0)) { $0 + Int64($1.tokens) })
            return UsageMinute(
                start: instant(uses[0]), requests: requests, tokens: tokens, arrivals: requests, heldTokens: tokens,
                mostTokens: tokens, admitted: requests, leastTokens: tokens, busyMicroseconds: 0, lastEnd: nil)
        }
    }

    // MARK: Tests

    private static func period(_ month: Int, _ uses: [Use], on tier: TierRow) -> AnalysedPeriod {
        let period = months[month]
        let used = uses.filter { $0.month == month }.map { use in
            let cached = Int64(use.counts[.cachedInputToken] ?? 0)
            return UsageQuantity(
                tierVersionID: tier.version.id, model: use.model, requests: Int64(use.requests),
                inputTokens: Int64(use.counts[.inputToken] ?? 0) + cached, cachedInputTokens: cached,
                outputTokens: Int64(use.counts[.outputToken] ?? 0))
        }
        return AnalysedPeriod(
            period: period,
            input: RatingInput(
                spans: [SubscriptionSpan(tierVersionID: tier.version.id, start: period.start, end: period.end)],
                usage: used, terms: [tier.version.id: tier.terms]))
    }

    @Test("what is recommended is what trying all tiers finds, each rated unit by unit over several months and models")
    func cheapest() throws {
        var random = SeededRandom(seed: 2_133)
        var (moved, infeasible, limited, none) = (0, 0, 0, 0)
        for round in 0..<600 {
            let tiers = (1...UInt64.random(in: 1...6, using: &random)).map { Self.tier($0, &random) }
            let current = tiers[Int.random(in: 0..<tiers.count, using: &random)]
            let uses = Self.uses(&random)
            let quarters = uses.map { use in
                UsageQuarter(start: Self.instant(use), requests: Int64(use.requests), tokens: Int64(use.tokens))
            }.sorted { $0.start < $1.start }
            let analysis = try TierAnalysis(
                periods: (0..<3).map { Self.period($0, uses, on: current) }, candidates: tiers.shuffled(using: &random),
                quarters: quarters, minutes: Self.minutes(uses), calendar: Self.calendar,
                currentID: current.version.id)
            var best: (cost: Int64, tier: TierRow)?
            for tier in tiers where tier.version.offer.currency == current.version.offer.currency {
                let costs = (0..<3).map { month in
                    Self.cost(uses.filter { $0.month == month }, tier.version.offer)
                }
                let option = analysis.options.first { $0.tier.version.id == tier.version.id }
                #expect(option?.costs.map(\.value) == costs, "round \(round), tier \(tier.version.number)")
                let isLetThrough = Self.letsThrough(uses, tier.version.offer)
                let isFeasible = Self.isFeasible(uses, tier.version.offer) && isLetThrough
                #expect(option?.rateOverruns.isEmpty == isLetThrough, "round \(round), tier \(tier.version.number)")
                #expect(
                    option?.areLimitsProven
                        == (!isLetThrough || Self.letsThroughAtOnce(uses, tier.version.offer)), "round \(round)")
                limited += isLetThrough ? 0 : 1
                #expect(option?.isFeasible == isFeasible, "round \(round), tier \(tier.version.number)")
                infeasible += isFeasible ? 0 : 1
                guard isFeasible else { continue }
                let cost = costs.reduce(0, +)
                func rank(_ cost: Int64, _ tier: TierRow) -> [Int64] {
                    [
                        cost, tier.version.id == current.version.id ? 0 : 1, tier.version.offer.baseFee.value,
                        Int64(tier.code.utf8.last ?? 0), Int64(tier.version.number),
                    ]
                }
                if let known = best, !rank(cost, tier).lexicographicallyPrecedes(rank(known.cost, known.tier)) {
                    continue
                }
                best = (cost, tier)
            }
            #expect(analysis.recommendedID == best?.tier.version.id, "round \(round)")
            #expect(analysis.recommended?.total.value == best?.cost)
            none += best == nil ? 1 : 0
            moved += best.map { $0.tier.version.id == current.version.id ? 0 : 1 } ?? 0
        }
        #expect(
            moved > 100 && infeasible > 100 && limited > 50 && none > 5, "\(moved) \(infeasible) \(limited) \(none)")
    }
}
