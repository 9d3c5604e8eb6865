import TestSupport
import Testing

@testable import Domain

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
        var terms = old
        terms.requestTerms = RequestTerms(cacheHit: .free, failure: .charged)
        for (one, other) in [(old, terms), (terms, old)] {
            #expect(one.jumps(from: other, factor: 1_000).map(\.what) == ["cache_hit_request", "failed_request"])
        }
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

    private static func banded(_ model: PriceModel, multiplier: Int64 = 1_000_000) -> TierOffer {
        TierOffer(
            currency: "EUR", rules: [PriceRule(meter: .inputToken, model: "m", price: model)],
            multipliers: [
                .init(meter: .inputToken, model: "m", multiplier: Multiplier(millionths: multiplier))
            ])
    }

    /// What a unit costs, found by going from band to band, in picos times millionths.
    private static func cost(_ unit: Int64, _ bands: [PriceBand], _ multiplier: Int64) -> Int64 {
        let band = bands.first { $0.upTo.map { unit * multiplier <= $0 * 1_000_000 } ?? true }
        return (band?.unitPrice.picos ?? 0) * multiplier
    }

    @Test("bands are a jump where some unit costs more than the factor of what it cost, and nowhere else")
    func bands() {
        var random = SeededRandom(seed: 33)
        var found = [true: 0, false: 0]
        for _ in 0..<3_000 {
            func bands() -> [PriceBand] {
                let ends = [3, 7, 11, 20].filter { _ in Bool.random(using: &random) }.map(Int64?.some) + [nil]
                return ends.map {
                    PriceBand(
                        upTo: $0,
                        unitPrice: UnitPrice(picos: [0, 1, 2, 2, 3, 3, 5, 7].randomElement(using: &random) ?? 0))
                }
            }
            let (old, new) = (bands(), bands())
            let multipliers = [500_000, 1_000_000, 1_000_000, 2_000_000, 2_500_000] as [Int64]
            let times = (
                multipliers.randomElement(using: &random) ?? 1, multipliers.randomElement(using: &random) ?? 1
            )
            let isJump =
                (1...100 as ClosedRange<Int64>).contains { unit in
                    let (before, after) = (Self.cost(unit, old, times.0), Self.cost(unit, new, times.1))
                    return max(before, after) > 3 * min(before, after)
                } || max(times.0, times.1) > 3 * min(times.0, times.1)
            let jumps = Self.banded(.graduated(new), multiplier: times.1).jumps(
                from: Self.banded(.graduated(old), multiplier: times.0), factor: 3)
            #expect(jumps.isEmpty != isJump, "\(old) \(new) \(times) \(jumps)")
            found[isJump, default: 0] += 1
        }
        #expect((found.values.min() ?? 0) > 100, "\(found)")
    }

    @Test("packages are compared by the unit and by their size, and the largest prices without overflow")
    func packages() {
        func jump(_ old: PriceModel, _ new: PriceModel) -> [String] {
            Self.banded(new).jumps(from: Self.banded(old), factor: 3).map(\.what)
        }
        func package(_ size: Int64, _ price: Int64) -> PriceModel {
            .package(size: size, price: UnitPrice(picos: price))
        }
        #expect(jump(package(1_000, 7), package(3_000, 21)).isEmpty)
        #expect(jump(package(1_000, 7), package(3_000, 64)) == ["price of input_token for m"])
        #expect(jump(package(1_000, 7), package(4_000, 28)) == ["package size of input_token for m"])
        #expect(jump(package(4_000, 28), .flat(UnitPrice(picos: 0))) == ["price of input_token for m"])
        #expect(jump(package(1_000_000_000_000_000, .max), package(1_000_000_000_000_000, .max)).isEmpty)
        #expect(!jump(package(1, .max), package(1_000_000_000_000_000, .max)).isEmpty)
        let volume = [PriceBand(upTo: 10, unitPrice: UnitPrice(picos: 2)), PriceBand(upTo: nil, unitPrice: .free)]
        #expect(jump(.volume(volume), .graduated(volume)) == ["price model of input_token for m"])
    }

    @Test("a pay-as-you-go quota is of a month and of what the month includes")
    func promises() {
        func broken(_ frequency: Frequency, _ amount: Int64, _ mode: QuotaMode) -> Bool {
            !TierOffer(
                currency: "EUR", includedTokens: 5,
                quotas: [QuotaRule(unit: .tokens, frequency: frequency, amount: amount, mode: mode)]
            ).brokenPromises.isEmpty
        }
        #expect(!broken(.month, 5, .payAsYouGo) && !broken(.month, 6, .soft) && !broken(.day, 6, .hard))
        #expect(broken(.month, 6, .payAsYouGo) && broken(.day, 5, .payAsYouGo))
    }
}
