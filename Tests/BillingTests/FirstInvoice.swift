import Domain

@testable import Billing

extension InvoiceComposer {
    /// The invoice of a period in the currency of its last stay; `nil` where there is nothing to invoice.
    func compose(_ bill: any BillReading, _ period: Period) async throws -> InvoiceDraft? {
        guard
            let period = BillingPeriod(start: period.start, end: period.end, timeZone: bill.account.timeZone)
        else { return nil }
        return try await drafts(bill, period).first
    }
}
