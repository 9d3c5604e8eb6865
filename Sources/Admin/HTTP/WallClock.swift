internal import Domain
internal import Glibc

/// The machine's clock, for the identifiers of requests. Whatever decides by time takes a `TimeSource` instead.
enum WallClock {
    static var now: Timestamp {
        var time = timespec()
        clock_gettime(CLOCK_REALTIME, &time)
        return Timestamp(microsecondsSince1970: Int64(time.tv_sec) * 1_000_000 + Int64(time.tv_nsec) / 1_000)
    }
}
