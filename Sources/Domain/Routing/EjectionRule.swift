/// How many of the replicas that can stand in for each other may be left out for the errors of their calls.
public enum EjectionRule {
    /// At most half, so never all: where most replicas fail, it is rarely the replicas, and the rest would not bear the load.
    ///
    /// - Parameters:
    ///   - unavailable: how many are left out already, for whatever reason.
    ///   - total: all replicas of the version; a process that stands in the table more than once is one.
    public static func mayEject(unavailable: Int, of total: Int) -> Bool {
        (unavailable + 1) * 2 <= total
    }
}
