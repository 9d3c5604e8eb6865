/// What was used in each hour, from the first one on in which anything was. Hours are numbered from an instant that the reader chose; all that lies
/// before the first one is unknown, and an hour that is left out in between had none.
public struct HourlySeries: Sendable {
    /// The first hour of which anything is known; `nil` where nothing is.
    public private(set) var first: Int?
    private var values: [Int: Int64] = [:]

    public init() {}

    /// Adds to an hour.
    public mutating func add(_ quantity: Int64, inHour hour: Int) {
        values[hour, default: 0] += quantity
        first = min(first ?? hour, hour)
    }

    /// Says that hours are known from here on, although nothing was used in them.
    public mutating func begin(atHour hour: Int) { first = min(first ?? hour, hour) }

    public subscript(hour: Int) -> Int64 { values[hour] ?? 0 }

    /// The sum over `hours`.
    public func sum(_ hours: Range<Int>) -> Int128 {
        // Whichever is shorter: the range or what there is.
        if hours.count < values.count { return hours.reduce(Int128(0)) { $0 + Int128(self[$1]) } }
        return values.reduce(Int128(0)) { $0 + (hours.contains($1.key) ? Int128($1.value) : 0) }
    }
}
