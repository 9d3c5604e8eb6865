/// How long a stream waits for what.
public struct StreamPatience: Sendable {
    /// For the end of a stream after the server was told to stop.
    public var graceMilliseconds: Int64
    /// Without an event, before the caller is sent a comment.
    public var heartbeatMilliseconds: Int64
    /// For a caller that takes nothing.
    public var stallMilliseconds: Int64

    public init(
        graceMilliseconds: Int64 = 5_000, heartbeatMilliseconds: Int64 = 15_000, stallMilliseconds: Int64 = 30_000
    ) {
        self.graceMilliseconds = graceMilliseconds
        self.heartbeatMilliseconds = heartbeatMilliseconds
        self.stallMilliseconds = stallMilliseconds
    }

    var heartbeatNanoseconds: UInt64 { UInt64(clamping: heartbeatMilliseconds) * 1_000_000 }
    var stallNanoseconds: UInt64 { UInt64(clamping: stallMilliseconds) * 1_000_000 }

    /// How often somebody looks: soon enough to be at most a quarter late, and at most once a second.
    var tickMilliseconds: Int64 { max(10, min(1_000, min(heartbeatMilliseconds, stallMilliseconds) / 4)) }
}
