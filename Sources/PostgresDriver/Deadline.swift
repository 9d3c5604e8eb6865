internal import Glibc

/// A point on the monotonic clock.
struct Deadline {
    /// On the clock of `now`.
    let nanoseconds: UInt64

    /// Negative counts as nothing, and centuries as one year: neither may trap.
    init(afterMilliseconds milliseconds: Int) {
        nanoseconds = Self.now + UInt64(min(max(milliseconds, 0), 31_536_000_000)) * 1_000_000
    }

    /// Nanoseconds of the monotonic clock.
    static var now: UInt64 {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
    }

    /// Rounded up, so that waiting this long is waiting long enough; 0 once it has passed.
    var remainingMilliseconds: Int32 {
        let now = Self.now
        guard nanoseconds > now else { return 0 }
        return Int32(clamping: (nanoseconds - now + 999_999) / 1_000_000)
    }
}
