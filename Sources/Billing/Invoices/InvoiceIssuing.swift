public import Domain

/// Drafts and issues invoices.
public struct InvoiceIssuing: Sendable {
    public struct Configuration: Sendable {
        /// How long after a period's end usage of it may still come before its invoice is final.
        public var graceSeconds: Int64 = 3_600
        /// How long a customer has to pay.
        public var dueDays: Int64 = 14
        public init() {}
    }

    /// What a run over all tenants did.
    public struct Outcome: Hashable, Sendable {
        public var finalised = 0
        /// Tenants whose invoice could not be issued, with a text for each; the first hundred.
        public var refused: [Refused] = []

        public struct Refused: Hashable, Sendable {
            public let tenantID: TenantID
            public let detail: String
        }

        public init() {}
    }

    private let records: any InvoiceRecords
    private let rating: any RatingRecords
    private let gate: (any InvoiceGate)?
    private let configuration: Configuration

    /// - Parameter gate: what has to agree before an invoice is issued; `nil` asks nobody.
    public init(
        records: any InvoiceRecords, rating: any RatingRecords, gate: (any InvoiceGate)? = nil,
        configuration: Configuration = Configuration()
    ) {
        self.records = records
        self.rating = rating
        self.gate = gate
        self.configuration = configuration
    }

    /// Drafts the invoice of a tenant's month anew.
    /// - Parameter month: its first day; `nil` for the month before the current one in the tenant's zone.
    /// - Returns: `nil` where there is nothing to invoice.
    public func draft(
        _ tenant: TenantID, month: CivilDate?, by actor: AuditActor
    ) async throws(AdministrationFailure) -> Invoice? {
        let account: BillingAccount?
        do throws(StoreUnavailable) { account = try await rating.account(tenant) } catch { throw .unavailable(error) }
        guard let account else { throw .refused(Refusal(.notFound, "There is no such tenant.")) }
        let period = try await period(of: account, month)
        guard let id = try await records.redraft(tenant, period, by: actor, composition) else { return nil }
        return try await records.invoice(id)
    }

    /// Issues a draft, as what it follows from is now.
    public func finalise(_ id: InvoiceID, by actor: AuditActor) async throws(AdministrationFailure) -> Invoice {
        if let gate {
            let row = try await records.invoice(id).row
            if row.state == .draft, let calendar = PeriodCalendar(timeZone: row.timeZone) {
                let period = calendar.period(containing: row.periodStart, frequency: .month)
                let differences: [String]
                do throws(StoreUnavailable) {
                    differences = try await gate.differences(row.tenantID, period)
                } catch {
                    throw .unavailable(error)
                }
                guard differences.isEmpty else {
                    throw .refused(
                        Refusal(
                            .conflict,
                            "The books of this period do not agree: \(differences.prefix(3).joined(separator: "; ")). Mend them first."
                        ))
                }
            }
        }
        try await records.finalise(
            id, graceSeconds: configuration.graceSeconds, dueDays: configuration.dueDays, by: actor, composition)
        return try await records.invoice(id)
    }

    /// Drafts and issues the last closed month of every tenant that has none yet. Any number of processes may do it at once, and it may be
    /// repeated: an invoice that stands is left alone.
    public func run(by actor: AuditActor) async throws(AdministrationFailure) -> Outcome {
        var outcome = Outcome()
        let now = try await records.now()
        var after: TenantID?
        while !Task.isCancelled {
            let accounts: [BillingAccount]
            do throws(StoreUnavailable) {
                accounts = try await rating.accounts(after: after, limit: 100)
            } catch {
                throw .unavailable(error)
            }
            guard let last = accounts.last else { break }
            after = last.tenantID
            for account in accounts { try await issue(account, now, &outcome, by: actor) }
        }
        return outcome
    }

    private func issue(
        _ account: BillingAccount, _ now: Timestamp, _ outcome: inout Outcome, by actor: AuditActor
    ) async throws(AdministrationFailure) {
        guard let calendar = PeriodCalendar(timeZone: account.timeZone) else { return }
        let settled = now.advanced(byMilliseconds: -configuration.graceSeconds * 1_000)
        let current = calendar.period(containing: settled, frequency: .month)
        let period = calendar.period(
            containing: Timestamp(microsecondsSince1970: current.start.microsecondsSince1970 - 1), frequency: .month)
        do throws(AdministrationFailure) {
            guard try await !records.stands(account.tenantID, period),
                let id = try await records.redraft(account.tenantID, period, by: actor, composition)
            else { return }
            _ = try await finalise(id, by: actor)
            outcome.finalised += 1
        } catch {
            guard case .refused(let refusal) = error else { throw error }
            // Another process was there first, or this tenant's books are in disorder: the others get their invoices.
            if try await !records.stands(account.tenantID, period), outcome.refused.count < 100 {
                outcome.refused.append(Outcome.Refused(tenantID: account.tenantID, detail: refusal.detail))
            }
        }
    }

    private func period(
        of account: BillingAccount, _ month: CivilDate?
    ) async throws(AdministrationFailure) -> Period {
        guard let calendar = PeriodCalendar(timeZone: account.timeZone) else {
            throw .refused(
                Refusal(.internalError, "The tenant's time zone is not known here.", cause: account.timeZone))
        }
        if let month { return calendar.period(containing: calendar.midnight(month), frequency: .month) }
        let current = calendar.period(containing: try await records.now(), frequency: .month)
        return calendar.period(
            containing: Timestamp(microsecondsSince1970: current.start.microsecondsSince1970 - 1), frequency: .month)
    }

    private var composition: InvoiceComposition {
        { bill, period in try await InvoiceComposer().compose(bill, period) }
    }
}
