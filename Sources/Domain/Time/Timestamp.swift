/// An instant: whole microseconds since 1970-01-01T00:00:00Z, the resolution of PostgreSQL's `timestamptz`.
///
/// An integer on purpose. Foundation's `Date` is a `Double` and moves an event across a period's edge by rounding.
public struct Timestamp: Hashable, Comparable, Sendable {
    public var microsecondsSince1970: Int64

    public init(microsecondsSince1970: Int64) {
        self.microsecondsSince1970 = microsecondsSince1970
    }

    public static func < (left: Timestamp, right: Timestamp) -> Bool {
        left.microsecondsSince1970 < right.microsecondsSince1970
    }

    /// The instant `milliseconds` later; saturates at the ends of the range.
    public func advanced(byMilliseconds milliseconds: Int64) -> Timestamp {
        let (delta, overflow) = milliseconds.multipliedReportingOverflow(by: 1_000)
        let (sum, sumOverflow) = microsecondsSince1970.addingReportingOverflow(delta)
        guard !overflow, !sumOverflow else {
            return Timestamp(microsecondsSince1970: milliseconds < 0 ? .min : .max)
        }
        return Timestamp(microsecondsSince1970: sum)
    }

    /// Whole milliseconds from `earlier` to this instant, rounded down; negative if `earlier` is later.
    public func milliseconds(since earlier: Timestamp) -> Int64 {
        let difference = microsecondsSince1970.subtractingReportingOverflow(earlier.microsecondsSince1970)
        guard !difference.overflow else { return microsecondsSince1970 < 0 ? .min : .max }
        return floorDivision(difference.partialValue, 1_000)
    }
}

@inline(__always)
func floorDivision(_ dividend: Int64, _ divisor: Int64) -> Int64 {
    let (quotient, remainder) = dividend.quotientAndRemainder(dividingBy: divisor)
    return remainder < 0 ? quotient - 1 : quotient
}
