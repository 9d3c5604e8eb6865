/// The share of a replica that is new or has come back: it rises along a line, because caches, compilers and connections are cold.
public enum SlowStart {
    /// The least share, in thousandths. Nothing at all would never warm anything.
    public static let least: Int64 = 100
    public static let whole: Int64 = 1_000

    /// - Returns: thousandths of the replica's weight.
    public static func share(elapsedMilliseconds elapsed: Int64, of duration: Int64) -> Int64 {
        guard elapsed < duration else { return whole }
        return max(least, whole * max(elapsed, 0) / duration)
    }
}
