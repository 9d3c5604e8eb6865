import TestSupport
import Testing

@testable import Domain

/// What holds of every bill. The amounts themselves are held to an oracle elsewhere.
@Suite("Properties of rating")
struct RatingPropertyTests {
    private static let models = ["alpha", "beta", "gamma"]
    private static let edges: [Int64] = [1, 2, 10, 1_000, 50_000]
    static let rounds = 400

    private static let month: Period = PeriodCalendar.utc.period(
        containing: Timestamp(microsecondsSince1970: 1_775_000_000_000_000), frequency: .month)

    private static func price(_ random: inout SeededRandom) -> UnitPrice {
        UnitPrice(picos: Int64.random(in: 0...2_000_000_000_000, using: &random))
    }

    static func model(_ random: inout SeededRandom) -> PriceModel {
        let ends = edges.filter { _ in Bool.random(using: &random) }.map(Optional.some) + [nil]
        let bands = ends.map { PriceBand(upTo: $0, unitPrice: price(&random)) }
        switch Int.random(in: 0..<4, using: &random) {
        case 0: return .flat(price(&random))
        case 1: return .graduated(bands)
        case 2: return .volume(bands)
        default: return .package(size: edges.randomElement(using: &random) ?? 1, price: price(&random))
        }
    }

    private static func terms(_ number: UInt64, _ random: inout SeededRandom) -> TierTerms {
        let rules = Meter.allCases.flatMap { meter in
            ["*", "alpha"].map { PriceRule(meter: meter, model: $0, price: model(&random)) }
        }
        let multipliers = Meter.allCases.dropFirst().flatMap { meter in
            models.map {
                TierTerms.ModelMultiplier(
                    meter: meter, model: $0,
                    multiplier: Multiplier(millionths: Int64.random(in: 1...3_000_000, using: &random)))
            }
        }
        return TierTerms(
            tierVersionID: TierVersionID(high: 0, low: number), tierCode: "tier", version: 1, currency: "EUR",
            baseFee: Micros(Int64.random(in: 0...100_000_000, using: &random)),
            minimumCommitment: Micros(Bool.random(using: &random) ? 0 : 90_000_000),
            includedRequests: Int64.random(in: 0...2_000, using: &random),
            includedTokens: Int64.random(in: 0...90_000, using: &random), rules: rules, multipliers: multipliers)
    }

    private static func usage(_ random: inout SeededRandom) -> [UsageQuantity] {
        (0..<Int.random(in: 0..<12, using: &random)).map { _ in
            UsageQuantity(
                tierVersionID: TierVersionID(high: 0, low: UInt64.random(in: 1...2, using: &random)),
                isTrial: Int.random(in: 0..<5, using: &random) == 0, model: models.randomElement(using: &random) ?? "",
                requests: .random(in: -100...3_000, using: &random),
                inputTokens: .random(in: -100...99_000, using: &random),
                cachedInputTokens: .random(in: 0...500, using: &random),
                outputTokens: .random(in: -100...99_000, using: &random))
        }
    }

    private static func spans() -> [SubscriptionSpan] {
        let middle = Timestamp(microsecondsSince1970: month.start.microsecondsSince1970 + 9 * 86_400_000_000)
        return [
            SubscriptionSpan(tierVersionID: TierVersionID(high: 0, low: 1), start: month.start, end: middle),
            SubscriptionSpan(tierVersionID: TierVersionID(high: 0, low: 2), start: middle, end: month.end),
        ]
    }

    private struct Example {
        let terms: [TierVersionID: TierTerms]
        let usage: [UsageQuantity]
        let spans: [SubscriptionSpan]

        init(_ random: inout SeededRandom) {
            terms = Dictionary(
                uniqueKeysWithValues: [UInt64(1), 2].map { number in
                    let terms = RatingPropertyTests.terms(number, &random)
                    return (terms.tierVersionID, terms)
                })
            usage = RatingPropertyTests.usage(&random)
            spans = RatingPropertyTests.spans()
        }

        func rated() throws -> RatedPeriod {
            try Rating(period: RatingPropertyTests.month).rate(spans: spans, terms: terms, usage: usage)
        }
    }

    @Test("lines sum to the subtotal, and every unit of the ledger is in exactly one line")
    func partition() throws {
        var random = SeededRandom(seed: 11)
        for _ in 0..<Self.rounds {
            let example = Example(&random)
            let rated = try example.rated()
            #expect(rated.lines.reduce(0) { $0 + $1.amount.value } == rated.subtotal.value)
            struct Group: Hashable {
                let version: TierVersionID
                let meter: Meter
                let model: String
            }
            var used: [Group: Int128] = [:]
            for part in example.usage {
                let terms = try #require(example.terms[part.tierVersionID])
                for meter in Meter.allCases {
                    let group = Group(
                        version: part.tierVersionID, meter: meter, model: terms.rule(of: meter, model: part.model).group
                    )
                    used[group, default: 0] +=
                        part.units(of: meter) * Int128(terms.multiplier(of: meter, model: part.model).millionths)
                }
            }
            var billed: [Group: Int128] = [:]
            for line in rated.lines {
                guard let meter = line.meter, let model = line.model, let quantity = line.quantityMillionths else {
                    continue
                }
                let terms = try #require(example.terms[line.tierVersionID])
                let group = Group(
                    version: line.tierVersionID, meter: meter, model: terms.rule(of: meter, model: model).group)
                billed[group, default: 0] += quantity
            }
            #expect(billed.filter { $0.value != 0 } == used.filter { $0.value != 0 })
        }
    }

    @Test("the order of the input does not matter, nor into how many parts it is cut")
    func order() throws {
        var random = SeededRandom(seed: 12)
        for _ in 0..<Self.rounds {
            let example = Example(&random)
            let rated = try example.rated()
            let halves = example.usage.flatMap { part in
                [part.requests / 3, part.requests - part.requests / 3].enumerated().map { index, requests in
                    UsageQuantity(
                        tierVersionID: part.tierVersionID, isTrial: part.isTrial, model: part.model, requests: requests,
                        inputTokens: index == 0 ? part.inputTokens : 0,
                        cachedInputTokens: index == 0 ? part.cachedInputTokens : 0,
                        outputTokens: index == 0 ? 0 : part.outputTokens)
                }
            }
            let again = try Rating(period: Self.month).rate(
                spans: example.spans.shuffled(using: &random), terms: example.terms,
                usage: halves.shuffled(using: &random))
            #expect(again == rated)
        }
    }

    @Test(
        "what the models of a graduated group cost together depends on their sum alone, but for the rounding of lines")
    func graduated() throws {
        var random = SeededRandom(seed: 13)
        let bands = [(Int64(10), Int64(3)), (1_000, 2), (nil, 1)].map {
            PriceBand(upTo: $0, unitPrice: UnitPrice(picos: $1 * 1_000_000))
        }
        let id = TierVersionID(high: 0, low: 1)
        let terms = TierTerms(
            tierVersionID: id, tierCode: "tier", version: 1, currency: "EUR",
            rules: [PriceRule(meter: .request, model: "*", price: .graduated(bands))])
        for _ in 0..<Self.rounds {
            let parts = (0..<5).map { _ in Int64.random(in: -900...1_200, using: &random) }
            func cost(_ counts: [Int64]) throws -> Micros {
                let usage = counts.enumerated().map {
                    UsageQuantity(
                        tierVersionID: id, model: "m\($0)", requests: $1, inputTokens: 0, outputTokens: 0)
                }
                return try Rating(period: Self.month).rate(spans: [], terms: [id: terms], usage: usage).subtotal
            }
            #expect(try cost(parts) == cost([parts.reduce(0, +)]))
        }
    }

    @Test("no quantity, price or span traps: what does not fit is refused")
    func extremes() throws {
        let id = TierVersionID(high: 0, low: 1)
        let values: [Int64] = [.min, .min + 1, -1, 0, 1, .max - 1, .max]
        for price in [Int64(0), 1, .max] {
            for multiplier in [Int64(1), 1_000_000_000, .max] {
                for value in values {
                    let rules: [PriceModel] = [
                        .flat(UnitPrice(picos: price)), .package(size: 1, price: UnitPrice(picos: price)),
                        .package(size: .max, price: UnitPrice(picos: price)),
                        .graduated([
                            PriceBand(upTo: 1, unitPrice: UnitPrice(picos: price)),
                            PriceBand(upTo: nil, unitPrice: UnitPrice(picos: price)),
                        ]),
                        .volume([
                            PriceBand(upTo: .max, unitPrice: UnitPrice(picos: price)),
                            PriceBand(upTo: nil, unitPrice: UnitPrice(picos: price)),
                        ]),
                    ]
                    for rule in rules {
                        let terms = TierTerms(
                            tierVersionID: id, tierCode: "tier", version: 1, currency: "EUR", baseFee: Micros(.max),
                            minimumCommitment: Micros(.max), includedRequests: .max, includedTokens: .max,
                            rules: Meter.allCases.map { PriceRule(meter: $0, model: "*", price: rule) },
                            multipliers: [
                                .init(meter: .inputToken, model: "m", multiplier: Multiplier(millionths: multiplier))
                            ])
                        let usage = ["m", "n"].map {
                            UsageQuantity(
                                tierVersionID: id, model: $0, requests: value, inputTokens: value,
                                cachedInputTokens: -1, outputTokens: value)
                        }
                        let span = SubscriptionSpan(
                            tierVersionID: id, start: Timestamp(microsecondsSince1970: .min),
                            end: Timestamp(microsecondsSince1970: .max))
                        for spans in [[], [span]] {
                            do {
                                _ = try Rating(period: Self.month).rate(spans: spans, terms: [id: terms], usage: usage)
                            } catch {
                                #expect(error == .amountTooLarge)
                            }
                        }
                    }
                }
            }
        }
    }
}
