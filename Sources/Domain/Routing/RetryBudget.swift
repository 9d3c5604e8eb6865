/// How many repetitions a model's requests may cause: a share of the requests, and a few each second in any case. A pure value.
///
/// Without it, workers that fail under load get several times that load.
public struct RetryBudget: Sendable, Hashable {
    /// Repetitions each second where there are hardly any requests to take a share of.
    public static let floorPerSecond: Int64 = 3
    /// What can be saved up: of the share, so that a replica that dies with many calls under way does not end them; of the floor, ten seconds.
    public static let longestSavings: Int64 = 500
    public static let floorSavings: Int64 = 10 * floorPerSecond

    private let percent: Int64
    /// In thousandths of a repetition.
    private var earned: Int64 = 0
    private var floor = floorSavings * 1_000

    /// - Parameter percent: repetitions for each hundred requests; 0 allows none at all.
    public init(percent: Int64) {
        self.percent = percent
    }

    /// Books what came in since the last time.
    public mutating func refill(requests: Int64, elapsedMilliseconds: Int64) {
        let bounded = min(max(requests, 0), 1_000_000_000)
        earned = min(earned + bounded * percent * 10, Self.longestSavings * 1_000)
        let elapsed = min(max(elapsedMilliseconds, 0), 60_000)
        floor = min(floor + elapsed * Self.floorPerSecond, Self.floorSavings * 1_000)
    }

    /// Takes one repetition.
    /// - Returns: whether there was one.
    public mutating func withdraw() -> Bool {
        guard percent > 0 else { return false }
        if earned >= 1_000 {
            earned -= 1_000
            return true
        }
        guard floor >= 1_000 else { return false }
        floor -= 1_000
        return true
    }
}
