/// Times by classes of fixed edges, from which quantiles are read with a known error.
///
/// Below 16 us each microsecond is a class of its own; from there on each doubling has eight classes of the same width, so a class is at most an
/// eighth as wide as its lower end. A quantile is told as the upper end of the class that it lies in: never less than the true one, and less than
/// 12.5 per cent more. The function `latency_class` of the schema is the same rule.
public struct LatencyHistogram: Hashable, Sendable {
    /// In basis points of the true value: by how much a quantile can be told too high at most.
    public static let errorBasisPoints: Int64 = 1_250
    /// The last class ends at 2^40 us, twelve days, and takes all that is longer.
    public static let classCount = 304

    private var counts: [Int64]
    public private(set) var total: Int64 = 0

    public init() { counts = Array(repeating: 0, count: Self.classCount) }

    /// Adds requests of one class; one that does not exist is the last one.
    public mutating func add(_ requests: Int64, ofClass index: Int) {
        counts[min(max(0, index), Self.classCount - 1)] += requests
        total += requests
    }

    /// The class of a time in microseconds.
    public static func index(ofMicroseconds microseconds: Int64) -> Int {
        let value = min(max(0, microseconds), (1 << 40) - 1)
        guard value >= 16 else { return Int(value) }
        let exponent = 63 - value.leadingZeroBitCount
        return (exponent - 2) * 8 + Int((value >> Int64(exponent - 3)) & 7)
    }

    /// The last microsecond of a class.
    public static func lastMicrosecond(ofClass index: Int) -> Int64 {
        guard index >= 16 else { return Int64(max(0, index)) }
        let exponent = index / 8 + 2
        return (Int64(8 + index % 8 + 1) << Int64(exponent - 3)) - 1
    }

    /// The time in microseconds within which at least so many of a thousand requests were answered; `nil` where there were none.
    public func quantile(permille: Int64) -> Int64? {
        guard total > 0 else { return nil }
        // The rank is rounded up: of three requests the median is the second.
        let rank = max(1, (Int128(total) * Int128(permille) + 999) / 1_000)
        var seen: Int128 = 0
        for (index, count) in counts.enumerated() where count != 0 {
            seen += Int128(count)
            if seen >= rank { return Self.lastMicrosecond(ofClass: index) }
        }
        return nil
    }
}
