/// Conversions of IEEE 754 binary16, which not every platform's standard library has.
enum HalfFloat {
    /// The value of a pattern: exact.
    static func value(_ bits: UInt16) -> Double {
        let sign: Double = bits & 0x8000 == 0 ? 1 : -1
        let fraction = Double(bits & 0x03FF)
        switch (bits >> 10) & 0x1F {
        case 0: return sign * fraction * 0x1p-24
        case 0x1F: return fraction == 0 ? sign * .infinity : .nan
        case let exponent:
            return sign * (1_024 + fraction) * Double(sign: .plus, exponent: Int(exponent) - 25, significand: 1)
        }
    }

    /// The nearest pattern, ties to even; `nil` where that were no finite number.
    static func bits(_ value: Double) -> UInt16? {
        guard value.isFinite else { return nil }
        let sign: UInt16 = value.sign == .minus ? 0x8000 : 0
        let magnitude = value.magnitude
        guard magnitude >= 0x1p-25 else { return sign }
        // In units of the last place, which does not get smaller below the normal range.
        let exponent = max(Int(magnitude.exponent), -14)
        let unit = Double(sign: .plus, exponent: exponent - 10, significand: 1)
        // A division by a power of two is exact, so this is the one rounding.
        let units = (magnitude / unit).rounded(.toNearestOrEven)
        // Where rounding reached the next power of two, the sum carries into the exponent, as it should.
        let pattern = UInt32(exponent + 14) << 10 + UInt32(units)
        return pattern < 0x7C00 ? sign | UInt16(pattern) : nil
    }
}
