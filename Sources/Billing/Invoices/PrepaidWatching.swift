public import Domain

/// Compares what is left of prepaid tenants' credits with what they have used since their last invoice.
public struct PrepaidWatching: Sendable {
    private let records: any PrepaidRecords

    public init(records: any PrepaidRecords) { self.records = records }

    /// Looks at all prepaid tenants once.
    /// - Returns: how many of them were found used up, or are so no more.
    public func look() async throws(AdministrationFailure) -> Int {
        var changed = 0
        var after: TenantID?
        while !Task.isCancelled {
            let tenants = try await records.prepaidTenants(after: after, limit: 100)
            guard let last = tenants.last else { break }
            after = last
            for tenant in tenants {
                if try await records.weigh(tenant, { bill in try await Self.balance(bill) }) { changed += 1 }
            }
        }
        return changed
    }

    /// What is left of the grants that are valid now, less what the running month and one before it that has no invoice yet cost so far.
    /// Base fees count in full from where they begin, the minimum does not count before the invoice.
    static func balance(_ bill: any BillReading) async throws -> Micros? {
        let calendar = PeriodCalendar(timeZone: bill.account.timeZone) ?? .utc
        let current = calendar.period(containing: bill.now, frequency: .month)
        let previous = calendar.period(
            containing: Timestamp(microsecondsSince1970: current.start.microsecondsSince1970 - 1), frequency: .month)
        let isInvoiced = try await bill.billed(before: current.start, limit: 1).first?.start == previous.start
        var accrued: Int64 = 0
        var currency: String?
        for period in isInvoiced ? [current] : [previous, current] {
            guard let draft = try await InvoiceComposer(countsMinimum: false).compose(bill, period) else { continue }
            // A month in another currency is paid by other credits, and its invoice is due.
            if currency != draft.currency { accrued = 0 }
            currency = draft.currency
            accrued += draft.subtotal.value
        }
        guard let currency else { return nil }
        let valid = try await bill.credits(currency).filter { source in
            source.effectiveAt <= bill.now && source.expiresAt.map { bill.now < $0 } ?? true
        }
        return Micros(valid.reduce(0) { $0 + $1.remaining.value } - accrued)
    }
}
