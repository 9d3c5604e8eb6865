/// The generic cell rate algorithm as a value: one instant, in whole microseconds, says how much was used lately.
///
/// Source: ITU-T Recommendation I.371, annex A, "virtual scheduling algorithm". An amount is the time in which the limit allows it; the
/// theoretical arrival time is when everything charged so far would have come at the limit's own pace. What it is ahead of now is the level
/// of a bucket that empties by itself, and the tolerance is how much the bucket holds.
public struct GCRA: Hashable, Sendable {
    /// Microseconds since 1970.
    public private(set) var theoreticalArrival: Int64

    public init(theoreticalArrival: Int64 = 0) { self.theoreticalArrival = theoreticalArrival }

    /// What was charged and has not yet been earned back.
    public func level(at now: Int64) -> Int64 { max(0, theoreticalArrival - now) }

    /// Charges what has been used, whether there was room for it or not.
    /// - Parameters:
    ///   - instant: when it was used; never later than the reading that decides next.
    ///   - ceiling: the latest instant that the level may reach. A clock that was set back would block for ever without it.
    public mutating func charge(_ amount: Int64, at instant: Int64, ceiling: Int64) {
        theoreticalArrival = min(max(theoreticalArrival, instant) + amount, ceiling)
    }

    /// How long it takes until `amount` conforms beside what others hold; 0 where it does now.
    public func wait(for amount: Int64, held: Int64 = 0, at now: Int64, tolerance: Int64) -> Int64 {
        max(0, level(at: now) + held + amount - tolerance)
    }

    /// Charges `amount` if it conforms, and tells how long to wait where it does not.
    public mutating func take(_ amount: Int64, at now: Int64, tolerance: Int64) -> Int64 {
        let wait = wait(for: amount, at: now, tolerance: tolerance)
        if wait == 0 { charge(amount, at: now, ceiling: now + tolerance) }
        return wait
    }
}
