/// How long a batch of settlements waits for company before it is sent: half as long as commits take, while several arrive together.
///
/// A commit costs the database and us nearly the same for one row as for ten, and where commits are quick, what arrives during one is little.
/// A lone request never waits, and no request waits longer than half of what it waits for its commit anyway. A value.
struct CommitPace: Sendable {
    private let limitMicroseconds: UInt64
    /// A moving average over about eight commits.
    private var commitMicroseconds: UInt64 = 0
    private var lastRows = 0

    init(limitMicroseconds: UInt64) { self.limitMicroseconds = limitMicroseconds }

    mutating func committed(rows: Int, microseconds: UInt64) {
        lastRows = rows
        commitMicroseconds = (commitMicroseconds * 7 + microseconds) / 8
    }

    var lingerMicroseconds: UInt64 { lastRows > 1 ? min(commitMicroseconds / 2, limitMicroseconds) : 0 }
}
