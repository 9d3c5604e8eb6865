/// At which shares of its limit a quota raises an event: at most ten percentages from 1 to 1000, ascending.
public struct QuotaThresholds: Hashable, Sendable {
    public static let countLimit = 10
    public static let range: ClosedRange<Int16> = 1...1_000
    /// Where nobody says otherwise.
    public static let standard = QuotaThresholds(unchecked: [50, 80, 100])

    public let percents: [Int16]

    private init(unchecked percents: [Int16]) { self.percents = percents }

    /// - Returns: `nil` for too many, one out of range, or a list that does not ascend.
    public init?(_ percents: [Int16]) {
        guard percents.count <= Self.countLimit, percents.allSatisfy({ Self.range.contains($0) }),
            zip(percents, percents.dropFirst()).allSatisfy({ $0 < $1 })
        else { return nil }
        self.percents = percents
    }

    /// Reads the form of ``text``; the empty text has none.
    public init?(text: String) {
        guard !text.isEmpty else {
            self.init([])
            return
        }
        var percents: [Int16] = []
        for part in text.split(separator: ",", omittingEmptySubsequences: false) {
            guard let percent = Int16(part) else { return nil }
            percents.append(percent)
        }
        self.init(percents)
    }

    /// The percentages with commas between them, as in `50,80,100`.
    public var text: String { percents.map(String.init).joined(separator: ",") }

    /// Those that this use has reached. Something has to be used: nothing of a limit of nothing is no crossing.
    public func reached(used: Int64, allowed: Int64) -> [Int16] {
        guard used > 0 else { return [] }
        let share = used.multipliedFullWidth(by: 100)
        return percents.filter { percent in
            let mark = max(allowed, 0).multipliedFullWidth(by: Int64(percent))
            return share.high > mark.high || share.high == mark.high && share.low >= mark.low
        }
    }
}
