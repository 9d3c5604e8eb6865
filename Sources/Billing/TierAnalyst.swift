public import Domain

/// Finds what tiers would have cost a tenant in the months that are over.
public struct TierAnalyst: Sendable {
    /// How many months can be asked for.
    public static let periodLimit = 1...24

    private let records: any RatingRecords
    private let catalog: any TierCatalog
    private let series: any UsageSeries
    private let time: any TimeSource

    public init(
        records: any RatingRecords, catalog: any TierCatalog, series: any UsageSeries, time: any TimeSource
    ) {
        self.records = records
        self.catalog = catalog
        self.series = series
        self.time = time
    }

    public func account(_ tenant: TenantID) async throws(StoreUnavailable) -> BillingAccount? {
        try await records.account(tenant)
    }

    /// By tenant, those behind `after`.
    public func accounts(after: TenantID?, limit: Int) async throws(StoreUnavailable) -> [BillingAccount] {
        try await records.accounts(after: after, limit: limit)
    }

    /// - Parameter count: of the last months that are over in the tenant's zone; the running one is not among them, because its fees are
    ///   whole and its usage is not.
    /// - Throws: `StoreUnavailable`; ``RatingFailure`` where what really was cannot be rated.
    public func analyse(_ account: BillingAccount, periods count: Int) async throws -> TierAnalysis {
        let calendar = PeriodCalendar(timeZone: account.timeZone) ?? .utc
        let months = calendar.monthsOver(at: time.now, count: count)
        var periods: [AnalysedPeriod] = []
        for month in months {
            periods.append(
                AnalysedPeriod(period: month, input: try await records.input(account.tenantID, month)))
        }
        var candidates = try await catalog.tiers(for: account.tenantID)
        let current = try await records.currentVersion(of: account.tenantID)
        if let current, !candidates.contains(where: { $0.version.id == current }),
            let version = try await catalog.tierVersion(current, for: account.tenantID)
        {
            candidates.append(version)
        }
        var quarters: [UsageQuarter] = []
        var minutes: [UsageMinute] = []
        if let first = months.first, let last = months.last {
            quarters = try await series.quarters(of: account.tenantID, from: first.start, to: last.end)
            if candidates.contains(where: TierAnalysis.needsMinutes) {
                minutes = try await series.minutes(of: account.tenantID, from: first.start, to: last.end)
            }
        }
        return try TierAnalysis(
            periods: periods, candidates: candidates, quarters: quarters, minutes: minutes, calendar: calendar,
            currentID: current)
    }
}

extension PeriodCalendar {
    /// The last months that are over at an instant, in the order of time.
    func monthsOver(at instant: Timestamp, count: Int) -> [Period] {
        var months: [Period] = []
        var edge = period(containing: instant, frequency: .month).start
        for _ in 0..<count {
            let month = period(
                containing: Timestamp(microsecondsSince1970: edge.microsecondsSince1970 - 1), frequency: .month)
            months.append(month)
            edge = month.start
        }
        return months.reversed()
    }
}
