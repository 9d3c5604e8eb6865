/// Where time comes from. Everything that decides by time takes one, so that a test can hold it still.
///
/// Two readings, because they answer different questions: the wall clock labels and finds periods, the monotonic clock measures
/// deadlines and leases and never jumps.
public protocol TimeSource: Sendable {
    /// The wall clock.
    var now: Timestamp { get }
    /// Nanoseconds since an arbitrary start; only differences mean anything.
    var monotonicNanoseconds: UInt64 { get }
}
