public import Domain

/// Which bills are replayed.
public struct ReplayOrder: Hashable, Sendable {
    public enum Scope: String, Sendable, CaseIterable {
        /// What was used on any version of the replayed version's tier.
        case tier
        /// What was used on any tier at all.
        case all
    }

    public let scope: Scope
    /// Of months, 1 to 24.
    public let periods: Int
    /// The last month, by its first day; `nil` means the last one that is over in each tenant's zone.
    public let until: CivilDate?

    public init(scope: Scope, periods: Int, until: CivilDate?) {
        self.scope = scope
        self.periods = periods
        self.until = until
    }

    /// Whether all bills of the tier are in it up to the last month that is over, so that it shows what a publication does.
    public var isWhole: Bool { until == nil }
}

/// Rates past usage as if another version of a tier had been in force.
public struct TierReplayer: Sendable {
    /// One bill, whole.
    public struct Bill: Sendable {
        public let period: Period
        public let before: RatedPeriod
        public let after: RatedPeriod
        /// What the bill after cannot show.
        public let unseen: Set<UnseenTerm>
        /// Hits whose tokens the bill after charges anew.
        public let reratedHits: Int64
    }

    /// Tenants that are read at once.
    private static let pageLength = 100

    private let records: any RatingRecords
    private let time: any TimeSource

    public init(records: any RatingRecords, time: any TimeSource) {
        self.records = records
        self.time = time
    }

    /// Goes through all tenants, a page at a time.
    /// - Throws: `StoreUnavailable`; `CancellationError`.
    public func replay(_ terms: TierTerms, _ order: ReplayOrder, shock: BillShock) async throws -> ReplaySummary {
        var summary = ReplaySummary(shock: shock)
        var after: TenantID?
        while true {
            let accounts = try await records.accounts(after: after, limit: Self.pageLength)
            for account in accounts {
                try Task.checkCancellation()
                for period in periods(of: account, order) {
                    do {
                        guard let bill = try await bill(account.tenantID, period, terms, order.scope) else { continue }
                        summary.add(
                            ReplayedBill(
                                tenantID: account.tenantID, name: account.name, periodID: period.id,
                                before: bill.before.subtotal, after: bill.after.subtotal, unseen: bill.unseen,
                                reratedHits: bill.reratedHits))
                    } catch is RatingFailure {
                        summary.skip(account.tenantID)
                    }
                }
            }
            guard accounts.count == Self.pageLength, let last = accounts.last else { return summary }
            after = last.tenantID
        }
    }

    /// One tenant's bills with their lines.
    /// - Returns: `nil` for an unknown tenant.
    /// - Throws: `StoreUnavailable`; ``RatingFailure``.
    public func bills(_ tenant: TenantID, _ terms: TierTerms, _ order: ReplayOrder) async throws -> [Bill]? {
        guard let account = try await records.account(tenant) else { return nil }
        var bills: [Bill] = []
        for period in periods(of: account, order) {
            if let bill = try await bill(tenant, period, terms, order.scope) { bills.append(bill) }
        }
        return bills
    }

    private func periods(of account: BillingAccount, _ order: ReplayOrder) -> [Period] {
        let calendar = PeriodCalendar(timeZone: account.timeZone) ?? .utc
        let instant =
            order.until.map { calendar.period(containing: calendar.midnight($0), frequency: .month).end } ?? time.now
        return calendar.monthsOver(at: instant, count: order.periods)
    }

    /// - Returns: `nil` where nothing of the period is meant.
    /// - Throws: `mixedCurrencies` for a bill of another currency than the version's: their sums mean nothing together.
    private func bill(
        _ tenant: TenantID, _ period: Period, _ terms: TierTerms, _ scope: ReplayOrder.Scope
    ) async throws -> Bill? {
        let input = try await records.input(tenant, period)
        let isMeant = { (other: TierTerms) in scope == .all || other.tierCode == terms.tierCode }
        guard input.terms.values.contains(where: isMeant) else { return nil }
        let before = try input.rated(in: period)
        guard before.currency == terms.currency else { throw RatingFailure.mixedCurrencies }
        return Bill(
            period: period, before: before, after: try input.moved(to: terms, from: isMeant).rated(in: period),
            unseen: input.unseen(by: terms, from: isMeant), reratedHits: input.reratedHits(by: terms, from: isMeant))
    }
}
