import TestSupport
import Testing

@testable import Domain

@Suite("Analysis of tiers")
struct TierAnalysisTests {
    private static let calendar = PeriodCalendar.utc
    private static let month = calendar.period(
        containing: Timestamp(microsecondsSince1970: 1_775_000_000_000_000), frequency: .month)

    private static func tier(
        _ number: UInt64, code: String, fee: Int64 = 0, price: Int64, quotas: [QuotaRule] = [], currency: String = "EUR"
    ) -> TierRow {
        TierRow(
            code: code, name: code,
            version: TierRow.Version(
                id: TierVersionID(high: 0, low: number), number: 1, state: .published,
                offer: TierOffer(
                    currency: currency, baseFee: Micros(fee),
                    rules: [PriceRule(meter: .inputToken, model: "*", price: .flat(UnitPrice(picos: price)))],
                    quotas: quotas), createdAt: month.start),
            createdAt: month.start)
    }

    private static func period(_ tier: TierRow, tokens: Int64) -> AnalysedPeriod {
        AnalysedPeriod(
            period: month,
            input: RatingInput(
                spans: [SubscriptionSpan(tierVersionID: tier.version.id, start: month.start, end: month.end)],
                usage: [
                    UsageQuantity(
                        tierVersionID: tier.version.id, model: "iris", requests: 1, inputTokens: tokens, outputTokens: 0
                    )
                ], terms: [tier.version.id: tier.terms]))
    }

    private static func analysis(
        _ tiers: [TierRow], on current: TierRow, tokens: Int64, quarters: [UsageQuarter] = []
    ) throws -> TierAnalysis {
        try TierAnalysis(
            periods: [period(current, tokens: tokens)], candidates: tiers, quarters: quarters, calendar: calendar)
    }

    @Test("the recommended tier is the cheapest feasible one, as trying them one after the other finds it")
    func cheapest() throws {
        var random = SeededRandom(seed: 21)
        var moved = 0
        for _ in 0..<500 {
            let tiers = (1...UInt64.random(in: 1...6, using: &random)).map { number in
                Self.tier(
                    number, code: "t\(number % 4)", fee: .random(in: 0...3, using: &random) * 1_000_000,
                    price: .random(in: 0...3, using: &random) * 1_000_000,
                    quotas: Bool.random(using: &random)
                        ? [
                            QuotaRule(
                                unit: .tokens, frequency: .month,
                                amount: .random(in: 0...4, using: &random) * 1_000_000, mode: .hard)
                        ]
                        : [], currency: Int.random(in: 0..<8, using: &random) == 0 ? "USD" : "EUR")
            }
            let current = tiers[Int.random(in: 0..<tiers.count, using: &random)]
            let tokens = Int64.random(in: 0...4, using: &random) * 1_000_000
            let analysis = try Self.analysis(
                tiers, on: current, tokens: tokens,
                quarters: [UsageQuarter(start: Self.month.start, requests: 1, tokens: tokens)])
            // One after the other, with sums that are plain here: fee and tokens times micro-units.
            var best: TierRow?
            func cost(_ tier: TierRow) -> Int64 {
                tier.version.offer.baseFee.value
                    + tokens * (tier.version.offer.rules.first?.price.leadingPrice.picos ?? 0) / 1_000_000
            }
            for tier in tiers where tier.version.offer.currency == current.version.offer.currency {
                if let quota = tier.version.offer.quotas.first, tokens > quota.amount { continue }
                guard let known = best else {
                    best = tier
                    continue
                }
                let (new, old) = (cost(tier), cost(known))
                let isCurrent = tier.version.id == current.version.id
                let wasCurrent = known.version.id == current.version.id
                let (fee, oldFee) = (tier.version.offer.baseFee.value, known.version.offer.baseFee.value)
                if new < old
                    || new == old
                        && (isCurrent || !wasCurrent && (fee < oldFee || fee == oldFee && tier.code < known.code))
                {
                    best = tier
                }
            }
            let recommended = analysis.recommended
            #expect(recommended.map { cost($0.tier) } == best.map(cost))
            #expect(recommended?.tier.code == best?.code)
            if let recommended, let own = analysis.current {
                #expect(analysis.saving == Micros(own.total.value - recommended.total.value))
                moved += recommended.tier.code == own.tier.code ? 0 : 1
            }
        }
        #expect(moved > 50)
    }

    @Test("a tier whose hard quota would have refused is not feasible; a soft one refuses nothing")
    func feasible() throws {
        let day = QuotaRule(unit: .tokens, frequency: .day, amount: 100, mode: .hard)
        let soft = QuotaRule(unit: .tokens, frequency: .day, amount: 100, mode: .soft)
        let (own, small, mild) = (
            Self.tier(1, code: "own", price: 3), Self.tier(2, code: "small", price: 1, quotas: [day]),
            Self.tier(3, code: "mild", price: 2, quotas: [soft])
        )
        let start = Self.month.start.microsecondsSince1970
        let quarters = [(0, 60), (95, 40), (96, 100)].map {
            UsageQuarter(
                start: Timestamp(microsecondsSince1970: start + Int64($0.0) * 900_000_000), requests: 1,
                tokens: Int64($0.1))
        }
        let exact = try Self.analysis([own, small, mild], on: own, tokens: 2_000_000, quarters: quarters)
        #expect(exact.recommended?.tier.code == "small")
        let more =
            quarters + [
                UsageQuarter(start: Timestamp(microsecondsSince1970: start + 97 * 900_000_000), requests: 1, tokens: 1)
            ]
        let over = try Self.analysis([own, small, mild], on: own, tokens: 2_000_000, quarters: more)
        #expect(over.recommended?.tier.code == "mild")
        #expect(
            over.options.first { $0.tier.code == "small" }?.overruns == [
                OverrunQuota(unit: .tokens, frequency: .day, amount: 100, used: 101)
            ])
    }

    @Test("of a minute it is only known what some minute of a quarter of an hour must have had")
    func minutes() {
        let quarter = UsageQuarter(start: Self.month.start, requests: 31, tokens: 0)
        let peaks = QuotaPeaks([quarter], Self.calendar)
        func overruns(_ amount: Int64) -> Int {
            peaks.overruns(of: [QuotaRule(unit: .requests, frequency: .minute, amount: amount, mode: .hard)]).count
        }
        #expect(overruns(2) == 1 && overruns(3) == 0)
    }

    @Test(
        "the simple rule looks at the tokens of the highest month",
        arguments: [
            (0, "basic"), (99_999, "basic"), (100_000, "standard"), (999_999, "standard"), (1_000_000, "premium"),
        ])
    func simple(tokens: Int, code: String) {
        #expect(TierAnalysis.simpleRule(Int128(tokens)) == code)
    }
}

@Suite("What an offer says")
struct TierOfferTests {
    private static func offer(_ price: Int64, fee: Int64 = 0, multiplier: String? = nil) -> TierOffer {
        TierOffer(
            currency: "EUR", baseFee: Micros(fee),
            rules: [PriceRule(meter: .outputToken, model: "*", price: .flat(UnitPrice(picos: price)))],
            multipliers: multiplier.flatMap { Multiplier(decimal: $0) }.map {
                [TierTerms.ModelMultiplier(meter: .outputToken, model: "big", multiplier: $0)]
            } ?? [])
    }

    @Test("what moves by more than the factor either way is a jump, and from nothing to something is one")
    func jumps() {
        let old = Self.offer(10, fee: 30)
        #expect(Self.offer(30, fee: 90).jumps(from: old, factor: 3).isEmpty)
        #expect(Self.offer(31, fee: 30).jumps(from: old, factor: 3).map(\.what) == ["price of output_token for *"])
        #expect(Self.offer(3, fee: 30).jumps(from: old, factor: 3).map(\.what) == ["price of output_token for *"])
        #expect(Self.offer(10, fee: 91).jumps(from: old, factor: 3).map(\.what) == ["base_fee_micros"])
        #expect(Self.offer(10, fee: 0).jumps(from: old, factor: 3).map(\.what) == ["base_fee_micros"])
        #expect(
            Self.offer(10, fee: 30, multiplier: "3.1").jumps(from: old, factor: 3).map(\.what) == [
                "price of output_token for big"
            ])
        #expect(old.jumps(from: old, factor: 1).isEmpty)
    }

    @Test(
        "a request's own cost is the leading price times the multiplier, exactly, and what could not be said is found")
    func alone() {
        let offer = Self.offer(10, multiplier: "2.5")
        let sheet = PriceSheet(terms: offer.terms(TierVersionID(high: 0, low: 1), code: "t", version: 1))
        #expect(sheet.price(of: .outputToken, model: "big") == UnitPrice(picos: 25))
        #expect(sheet.price(of: .outputToken, model: "other") == UnitPrice(picos: 10))
        #expect(offer.inexactMultipliers.isEmpty)
        #expect(Self.offer(1, multiplier: "2.5").inexactMultipliers.count == 1)
        let most = TierOffer(
            currency: "EUR", rules: [PriceRule(meter: .outputToken, model: "*", price: .flat(UnitPrice(picos: .max)))],
            multipliers: [.init(meter: .outputToken, model: "big", multiplier: Multiplier(millionths: 2_000_000))])
        #expect(most.inexactMultipliers.count == 1)
    }
}
