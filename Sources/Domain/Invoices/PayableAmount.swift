/// What can be paid of an amount: whole minor units of its currency, rounded half to even. Invoices stay exact; only what a person pays is rounded.
public struct PayableAmount: Hashable, Sendable {
    public let amount: Micros
    /// What rounding has added; negative where it took something off.
    public let rounding: Micros

    /// - Parameter currency: ISO 4217.
    public init(_ exact: Micros, currency: String) {
        let unit = Self.minorUnitMicros(of: currency)
        let rounded = dividedHalfToEven(Int128(exact.value), by: Int128(unit)) * Int128(unit)
        // At the end of the range there is nothing to round to.
        amount = Int64(exactly: rounded).map { Micros($0) } ?? exact
        rounding = Micros(amount.value - exact.value)
    }

    /// How many micros the smallest unit has, after the minor units of ISO 4217 (list one of 2024).
    static func minorUnitMicros(of currency: String) -> Int64 {
        switch currency {
        case "BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG", "RWF", "UGX", "UYI", "VND", "VUV", "XAF",
            "XOF", "XPF":
            1_000_000
        case "BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND": 1_000
        case "CLF", "UYW": 100
        default: 10_000
        }
    }
}
