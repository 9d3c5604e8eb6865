/// The database's wall clock as it was read once, carried on by this machine's monotonic clock.
///
/// The machine's own wall clock labels; periods are those of the database, whose clock all gateways share.
public struct DatabaseClock: Hashable, Sendable {
    private let at: Timestamp
    private let nanoseconds: UInt64

    /// - Parameter nanoseconds: the monotonic clock just before the database's was read.
    public init(at: Timestamp, nanoseconds: UInt64) {
        self.at = at
        self.nanoseconds = nanoseconds
    }

    public func now(monotonicNanoseconds: UInt64) -> Timestamp {
        let elapsed = monotonicNanoseconds > nanoseconds ? monotonicNanoseconds - nanoseconds : 0
        return at.advanced(byMilliseconds: Int64(clamping: elapsed / 1_000_000))
    }

    /// When it is `instant`, by the monotonic clock. Saturates; an instant that has passed is when the clock was read.
    public func nanoseconds(of instant: Timestamp) -> UInt64 {
        let (left, overflow) = instant.microsecondsSince1970.subtractingReportingOverflow(at.microsecondsSince1970)
        guard !overflow else { return instant < at ? nanoseconds : .max }
        let (product, tooLong) = UInt64(max(0, left)).multipliedReportingOverflow(by: 1_000)
        let (sum, tooLate) = nanoseconds.addingReportingOverflow(product)
        return tooLong || tooLate ? .max : sum
    }
}
