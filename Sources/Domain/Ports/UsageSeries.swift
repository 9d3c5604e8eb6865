/// Reads what was used when.
public protocol UsageSeries: Sendable {
    /// A tenant's quarters of an hour with any usage, in the order of time, `start <= t < end`; exact to the last commit.
    func quarters(
        of tenant: TenantID, from start: Timestamp, to end: Timestamp
    ) async throws(StoreUnavailable) -> [UsageQuarter]
}
