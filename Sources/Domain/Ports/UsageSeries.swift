/// Reads what was used when.
public protocol UsageSeries: Sendable {
    /// A tenant's quarters of an hour with any usage, in the order of time, `start <= t < end`; exact to the last commit.
    func quarters(
        of tenant: TenantID, from start: Timestamp, to end: Timestamp
    ) async throws(StoreUnavailable) -> [UsageQuarter]

    /// A tenant's minutes in which something came, in the order of time, `start <= t < end`; what the roll-up has of them, so a few seconds behind the
    /// last commit, and none that are older than thirteen months. None at all where they are more than are held in memory for one question.
    func minutes(
        of tenant: TenantID, from start: Timestamp, to end: Timestamp
    ) async throws(StoreUnavailable) -> [UsageMinute]
}
