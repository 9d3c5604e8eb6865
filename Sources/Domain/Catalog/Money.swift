/// An amount in millionths of a currency's unit. Invoice lines and totals are these; they are never computed in floating point.
public struct Micros: Hashable, Comparable, Sendable, CustomStringConvertible {
    public var value: Int64

    public init(_ value: Int64) { self.value = value }

    public static let zero = Micros(0)
    public static func < (left: Micros, right: Micros) -> Bool { left.value < right.value }
    public static func + (left: Micros, right: Micros) -> Micros { Micros(left.value + right.value) }
    public var description: String { String(value) }
}

/// The price of one unit in millionths of a micro-unit (10⁻¹² of the currency's unit): a token may cost far less than a micro-unit.
///
/// The range ends at about nine million currency units for one token or request.
public struct UnitPrice: Hashable, Sendable, CustomStringConvertible {
    public let picos: Int64

    public init(picos: Int64) { self.picos = picos }

    public static let free = UnitPrice(picos: 0)

    /// Reads a plain decimal with at most twelve places, as in `0.000000150000`. Signs, exponents and spaces are refused.
    public init?(decimal text: some StringProtocol) {
        let parts = text.utf8.split(separator: UInt8(ascii: "."), maxSplits: 1, omittingEmptySubsequences: false)
        guard let whole = parts.first, !whole.isEmpty, whole.count <= 7 else { return nil }
        let fraction = parts.count == 2 ? Array(parts[1]) : []
        guard parts.count == 1 || !fraction.isEmpty, fraction.count <= 12 else { return nil }
        let digits = Array(whole) + fraction + [UInt8](repeating: 0x30, count: 12 - fraction.count)
        var picos: Int64 = 0
        for digit in digits {
            guard (0x30...0x39).contains(digit) else { return nil }
            let (product, overflow) = picos.multipliedReportingOverflow(by: 10)
            let (sum, sumOverflow) = product.addingReportingOverflow(Int64(digit - 0x30))
            guard !overflow, !sumOverflow else { return nil }
            picos = sum
        }
        self.picos = picos
    }

    /// A plain decimal with twelve places.
    public var description: String {
        let fraction = String(picos % 1_000_000_000_000)
        return "\(picos / 1_000_000_000_000)." + String(repeating: "0", count: 12 - fraction.count) + fraction
    }
}

/// A sum of quantity times unit price, exact, before its one rounding.
public struct ExactAmount: Hashable, Sendable {
    /// 10⁻¹² of the currency's unit. 128 bits hold 2⁶³ units at the highest price, so no product overflows.
    public private(set) var picos: Int128

    public init() { picos = 0 }

    public mutating func add(quantity: Int64, at price: UnitPrice) {
        picos += Int128(quantity) * Int128(price.picos)
    }

    public static func + (left: ExactAmount, right: ExactAmount) -> ExactAmount {
        var sum = left
        sum.picos += right.picos
        return sum
    }

    /// A plain decimal of the currency's unit with twelve places: every digit that is there.
    public var decimal: String {
        let digits = String(picos.magnitude)
        let padded = String(repeating: "0", count: max(0, 13 - digits.utf8.count)) + digits
        return (picos < 0 ? "-" : "") + padded.dropLast(12) + "." + padded.suffix(12)
    }

    /// Rounds half to even, the one rounding step of an invoice line.
    /// - Returns: `nil` if the amount does not fit into 64 bits of micro-units.
    public var rounded: Micros? {
        let (quotient, remainder) = picos.quotientAndRemainder(dividingBy: 1_000_000)
        let distance = remainder.magnitude
        let direction: Int128 = picos < 0 ? -1 : 1
        let roundsAway = distance > 500_000 || distance == 500_000 && quotient & 1 == 1
        return Int64(exactly: roundsAway ? quotient + direction : quotient).map(Micros.init)
    }
}
