public import Domain
internal import Synchronization

/// Clocks that move only when a test moves them.
public final class ManualTime: TimeSource {
    private let state: Mutex<(now: Timestamp, monotonicNanoseconds: UInt64)>

    /// - Parameter now: the wall clock at the start; the monotonic clock starts at 1,000 seconds.
    public init(now: Timestamp) {
        state = Mutex((now, 1_000_000_000_000))
    }

    /// - Parameter now: RFC 3339; anything else starts at 1970.
    public convenience init(_ now: String) {
        self.init(now: Timestamp(rfc3339: now) ?? Timestamp(microsecondsSince1970: 0))
    }

    public var now: Timestamp { state.withLock { $0.now } }
    public var monotonicNanoseconds: UInt64 { state.withLock { $0.monotonicNanoseconds } }

    /// Moves both clocks.
    public func advance(milliseconds: Int64) {
        state.withLock { state in
            state.now = state.now.advanced(byMilliseconds: milliseconds)
            state.monotonicNanoseconds += UInt64(milliseconds) * 1_000_000
        }
    }

    /// Moves the wall clock alone, as somebody does who sets it.
    public func setWallClock(_ now: Timestamp) { state.withLock { $0.now = now } }
}
