import Testing

@testable import Domain

@Suite("Money") struct MoneyTests {
    @Test(
        "a unit price is a plain decimal of at most twelve places",
        arguments: [
            ("0", Int64(0)), ("1", 1_000_000_000_000), ("0.000000150000", 150_000), ("0.000000000001", 1),
            ("0.1", 100_000_000_000),
            ("0001.5", 1_500_000_000_000), ("9223372.036854775807", .max), ("9223372", 9_223_372_000_000_000_000),
        ] as [(String, Int64)])
    func price(text: String, picos: Int64) {
        #expect(UnitPrice(decimal: text)?.picos == picos)
    }

    @Test(
        "anything else is no price",
        arguments: [
            "", ".", "1.", ".5", "-1", "+1", "1e3", "1,5", " 1", "1 ", "0x1", "1.2.3", "0.0000000000001",
            "9223372.036854775808", "9999999",
            "10000000", "٣", "1_000", "NaN", "inf",
        ])
    func badPrice(text: String) {
        #expect(UnitPrice(decimal: text) == nil)
    }

    @Test(
        "a price is written with twelve places and read back",
        arguments: [Int64(0), 1, 150_000, 1_000_000_000_000, .max])
    func priceText(picos: Int64) {
        let price = UnitPrice(picos: picos)
        #expect(UnitPrice(decimal: price.description) == price)
        #expect(price.description.split(separator: ".").last?.count == 12)
    }

    @Test(
        "an amount is rounded once, half to even",
        arguments: [
            (Int64(0), Int64(0)), (499_999, 0), (500_000, 0), (500_001, 1), (999_999, 1), (1_000_000, 1),
            (1_499_999, 1), (1_500_000, 2),
            (1_500_001, 2), (2_500_000, 2), (2_500_001, 3), (3_500_000, 4), (-499_999, 0), (-500_000, 0),
            (-500_001, -1),
            (-1_500_000, -2), (-2_500_000, -2), (-2_500_001, -3),
        ] as [(Int64, Int64)])
    func rounding(picos: Int64, micros: Int64) {
        var amount = ExactAmount()
        amount.add(quantity: picos, at: UnitPrice(picos: 1))
        #expect(amount.rounded == Micros(micros))
    }

    @Test("many small amounts are added before they are rounded")
    func sum() {
        var amount = ExactAmount()
        for _ in 0..<1_000 { amount.add(quantity: 1, at: UnitPrice(picos: 1_500)) }
        #expect(amount.rounded == Micros(2))
        #expect((amount + amount).rounded == Micros(3))
    }

    @Test("the largest product is exact, and what does not fit into 64 bits of micro-units is said to")
    func large() {
        var amount = ExactAmount()
        amount.add(quantity: .max, at: UnitPrice(picos: .max))
        #expect(amount.picos == Int128(Int64.max) * Int128(Int64.max))
        #expect(amount.rounded == nil)
        var fits = ExactAmount()
        fits.add(quantity: .max, at: UnitPrice(picos: 1_000_000))
        #expect(fits.rounded == Micros(.max))
        fits.add(quantity: 1, at: UnitPrice(picos: 500_000))
        #expect(fits.rounded == nil)
    }

    private func sheet(_ prices: [PriceSheet.Price]) -> PriceSheet {
        PriceSheet(
            tierVersionID: TierVersionID(high: 0, low: 1), tierCode: "pro", version: 1, currency: "EUR", prices: prices)
    }

    @Test("a model without a price of its own takes that of any model, meter by meter, and else nothing")
    func fallback() {
        let sheet = sheet([
            .init(meter: .request, model: "*", unitPrice: UnitPrice(picos: 5)),
            .init(meter: .inputToken, model: "*", unitPrice: UnitPrice(picos: 7)),
            .init(meter: .inputToken, model: "iris", unitPrice: UnitPrice(picos: 11)),
        ])
        #expect(sheet.price(of: .request, model: "iris").picos == 5)
        #expect(sheet.price(of: .inputToken, model: "iris").picos == 11)
        #expect(sheet.price(of: .inputToken, model: "other").picos == 7)
        #expect(sheet.price(of: .outputToken, model: "iris") == .free)
    }

    @Test("cached input is charged at its own price instead of the input price")
    func cached() {
        let sheet = sheet([
            .init(meter: .request, model: "*", unitPrice: UnitPrice(picos: 1_000_000_000)),
            .init(meter: .inputToken, model: "*", unitPrice: UnitPrice(picos: 10_000_000)),
            .init(meter: .cachedInputToken, model: "*", unitPrice: UnitPrice(picos: 1_000_000)),
            .init(meter: .outputToken, model: "*", unitPrice: UnitPrice(picos: 100_000_000)),
        ])
        let usage = Usage(inputTokens: 100, cachedInputTokens: 40, outputTokens: 3, source: .worker)
        #expect(sheet.amount(requests: 2, usage: usage, model: "iris").rounded == Micros(2_000 + 600 + 40 + 300))
    }
}

@Suite("Usage") struct UsageTests {
    @Test(
        "usage is never negative and never more than was held; output is cut first",
        arguments: [
            // input, cached, output, bound -> input, cached, output, clamped
            ([Int64(5), 2, 3, 10], [Int64(5), 2, 3], false), ([5, 2, 5, 10], [5, 2, 5], false),
            ([5, 2, 6, 10], [5, 2, 5], true),
            ([10, 0, 1, 10], [10, 0, 0], true), ([11, 0, 0, 10], [10, 0, 0], true), ([-1, 0, 3, 10], [0, 0, 3], true),
            ([5, 0, -3, 10], [5, 0, 0], true), ([5, 6, 0, 10], [5, 5, 0], true), ([5, -6, 0, 10], [5, 0, 0], true),
            ([.max, .max, .max, 10], [10, 10, 0], true), ([.max, 0, .max, .max], [.max, 0, 0], true),
            ([.min, .min, .min, 10], [0, 0, 0], true), ([0, 0, 0, 0], [0, 0, 0], false),
            ([1, 1, 1, 0], [0, 0, 0], true),
        ] as [([Int64], [Int64], Bool)])
    func clamped(given: [Int64], expected: [Int64], isCut: Bool) {
        let usage = Usage(inputTokens: given[0], cachedInputTokens: given[1], outputTokens: given[2], source: .worker)
        let (result, wasClamped) = usage.clamped(toTokens: given[3])
        #expect([result.inputTokens, result.cachedInputTokens, result.outputTokens] == expected)
        #expect(wasClamped == isCut)
        #expect(result.totalTokens <= given[3])
        #expect(result.source == .worker)
    }
}
