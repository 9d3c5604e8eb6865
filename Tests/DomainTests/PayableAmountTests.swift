import Testing

@testable import Domain

@Suite("what can be paid")
struct PayableAmountTests {
    @Test(
        "an amount is rounded half to even to the currency's smallest unit",
        arguments: [
            ("USD", 12_345_678, 12_350_000), ("USD", 12_345_000, 12_340_000), ("USD", 12_355_000, 12_360_000),
            ("EUR", -12_345_678, -12_350_000), ("JPY", 1_500_000, 2_000_000), ("JPY", 2_500_000, 2_000_000),
            ("KWD", 1_234_567, 1_235_000), ("CLF", 1_234_567, 1_234_600), ("USD", 0, 0), ("USD", 30_000, 30_000),
        ] as [(String, Int64, Int64)])
    func rounds(currency: String, exact: Int64, payable: Int64) {
        let rounded = PayableAmount(Micros(exact), currency: currency)
        #expect(rounded.amount == Micros(payable) && rounded.rounding == Micros(payable - exact))
    }

    @Test("the ends of the range stay as they are")
    func ends() {
        #expect(PayableAmount(Micros(.max), currency: "JPY").amount.value <= Int64.max)
        #expect(PayableAmount(Micros(.max), currency: "USD").rounding.value.magnitude <= 5_000)
    }
}
