public import Domain
internal import Glibc

/// The machine's clocks.
public struct SystemTime: TimeSource {
    public init() {}

    public var now: Timestamp {
        var time = timespec()
        clock_gettime(CLOCK_REALTIME, &time)
        return Timestamp(microsecondsSince1970: Int64(time.tv_sec) * 1_000_000 + Int64(time.tv_nsec) / 1_000)
    }

    public var monotonicNanoseconds: UInt64 {
        var time = timespec()
        // Counts while the machine sleeps: a lease that ended meanwhile must not look alive.
        clock_gettime(CLOCK_BOOTTIME, &time)
        return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
    }
}
