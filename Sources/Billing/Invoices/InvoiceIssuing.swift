public import Domain
internal import Synchronization

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

    /// How many periods of a tenant one run issues at most.
    private static let periodLimit = 24
    /// How often a finalisation asks again because more earlier periods have become known.
    private static let attemptLimit = 3

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

    /// Drafts the invoices of a tenant's month anew, one for each currency.
    /// - Parameter month: its first day; `nil` for the month before the current one in the tenant's zone.
    /// - Returns: that of the currency of the month's last stay first; `nil` where there is nothing to invoice.
    public func draft(
        _ tenant: TenantID, month: CivilDate?, by actor: AuditActor
    ) async throws(AdministrationFailure) -> Invoice? {
        let account: BillingAccount?
        do throws(StoreUnavailable) { account = try await rating.account(tenant) } catch { throw .unavailable(error) }
        guard let account else { throw .refused(Refusal(.notFound, "There is no such tenant.")) }
        let period = try await period(of: account, month)
        guard let id = try await records.redraft(tenant, period, by: actor, Self.composition).first else { return nil }
        return try await records.invoice(id)
    }

    /// Issues a draft, as what it follows from is now, if the books of all periods that it charges agree.
    public func finalise(_ id: InvoiceID, by actor: AuditActor) async throws(AdministrationFailure) -> Invoice {
        let row = try await records.invoice(id).row
        guard let gate, row.state == .draft,
            let period = BillingPeriod(start: row.periodStart, end: row.periodEnd, timeZone: row.timeZone)
        else {
            try await finalise(id, by: actor, Self.composition)
            return try await records.invoice(id)
        }
        var asked: Set<BillingPeriod> = []
        var open: Set<BillingPeriod> = [period]
        for _ in 0..<Self.attemptLimit {
            for period in open.sorted(by: { $0.start < $1.start }) { try await ask(gate, row.tenantID, period) }
            asked.formUnion(open)
            // Which earlier periods are charged shows while the invoice is made: they are asked about before it is issued.
            let agreed = asked
            let found = Mutex<Set<BillingPeriod>>([])
            do throws(AdministrationFailure) {
                try await finalise(id, by: actor) { bill, period in
                    let drafts = try await InvoiceComposer().drafts(bill, period)
                    let late = Set(drafts.filter { $0.currency == row.currency }.flatMap(\.late)).subtracting(agreed)
                    guard late.isEmpty else {
                        found.withLock { $0 = late }
                        throw Refusal(.conflict, "Usage of earlier months became known meanwhile. Finalise it again.")
                    }
                    return drafts
                }
                return try await records.invoice(id)
            } catch {
                open = found.withLock { $0 }
                if open.isEmpty { throw error }
            }
        }
        throw .refused(Refusal(.conflict, "Usage of earlier months became known meanwhile. Finalise it again."))
    }

    private func finalise(
        _ id: InvoiceID, by actor: AuditActor, _ composition: InvoiceComposition
    ) async throws(AdministrationFailure) {
        try await records.finalise(
            id, graceSeconds: configuration.graceSeconds, dueDays: configuration.dueDays, by: actor, composition)
    }

    private func ask(
        _ gate: any InvoiceGate, _ tenant: TenantID, _ period: BillingPeriod
    ) async throws(AdministrationFailure) {
        let differences: [String]
        do throws(StoreUnavailable) {
            differences = try await gate.differences(tenant, period.period)
        } catch {
            throw .unavailable(error)
        }
        guard differences.isEmpty else {
            let named = differences.prefix(3).joined(separator: "; ")
            throw .refused(
                Refusal(.conflict, "The books of \(period.label) do not agree: \(named). Mend them first."))
        }
    }

    /// Drafts and issues every closed period of every tenant that has something to bill and no invoice, the oldest first, at most 24 of a tenant.
    /// One that is refused is refused in each run until it is mended, and the later ones of its tenant wait for it. Any number of processes may do
    /// it at once, and it may be repeated: an invoice that stands is left alone.
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
        let tenant = account.tenantID
        guard let calendar = PeriodCalendar(timeZone: account.timeZone) else {
            return outcome.refuse(tenant, "The time zone \(account.timeZone) is not known here.")
        }
        let settled = now.advanced(byMilliseconds: -configuration.graceSeconds * 1_000)
        let current = calendar.period(containing: settled, frequency: .month)
        for half in try await records.halfIssued(tenant, by: settled) {
            guard try await complete(half, of: tenant, by: settled, &outcome, by: actor) else { return }
        }
        var from: Timestamp?
        for _ in 0..<Self.periodLimit {
            guard let first = try await records.unbilled(tenant, from: from, before: current.start),
                let timeline = BillingTimeline(
                    timeZone: account.timeZone, taken: try await records.taken(tenant))
            else { return }
            // Another process was there first where nothing holds it; what is not over yet ends the row.
            guard let period = timeline.period(holding: first) else { continue }
            guard period.end <= settled else { return }
            from = period.end
            do throws(AdministrationFailure) {
                let ids = try await records.redraft(tenant, period, by: actor, Self.composition)
                guard try await issue(ids, of: tenant, period.label, &outcome, by: actor) else { return }
            } catch {
                guard case .refused(let refusal) = error else { throw error }
                guard try await records.unbilled(tenant, from: first, before: current.start) == first else { continue }
                return outcome.refuse(tenant, "\(period.label): \(refusal.detail)")
            }
        }
    }

    /// Issues what a period waits for beside its standing invoices, as it is now: there may be nothing of it any more.
    /// - Returns: `false` where it was refused, which the outcome says then.
    private func complete(
        _ half: HalfIssuedPeriod, of tenant: TenantID, by settled: Timestamp, _ outcome: inout Outcome,
        by actor: AuditActor
    ) async throws(AdministrationFailure) -> Bool {
        guard let period = BillingPeriod(start: half.start, end: half.end, timeZone: half.timeZone) else {
            outcome.refuse(tenant, "The time zone \(half.timeZone) is not known here.")
            return false
        }
        do throws(AdministrationFailure) {
            let ids = try await records.redraft(tenant, period, by: actor) { bill, period in
                try await InvoiceComposer().drafts(bill, period).filter { half.currencies.contains($0.currency) }
            }
            return try await issue(ids, of: tenant, period.label, &outcome, by: actor)
        } catch {
            guard case .refused(let refusal) = error else { throw error }
            // Another process was there first where it does not wait for the same any more.
            guard try await records.halfIssued(tenant, by: settled).contains(half) else { return true }
            outcome.refuse(tenant, "\(period.label): \(refusal.detail)")
            return false
        }
    }

    /// - Returns: `false` where one of them was refused, which the outcome says then.
    private func issue(
        _ ids: [InvoiceID], of tenant: TenantID, _ label: String, _ outcome: inout Outcome, by actor: AuditActor
    ) async throws(AdministrationFailure) -> Bool {
        for id in ids {
            do throws(AdministrationFailure) {
                _ = try await finalise(id, by: actor)
                outcome.finalised += 1
            } catch {
                guard case .refused(let refusal) = error else { throw error }
                // Another process was there first, or this tenant's books are in disorder: the others get their invoices.
                guard try await isDraft(id) else { continue }
                outcome.refuse(tenant, "\(label): \(refusal.detail)")
                return false
            }
        }
        return true
    }

    private func isDraft(_ id: InvoiceID) async throws(AdministrationFailure) -> Bool {
        do throws(AdministrationFailure) {
            return try await records.invoice(id).row.state == .draft
        } catch {
            // Another process has drafted the period anew, and there was nothing in this currency any more.
            guard case .refused(let refusal) = error, refusal.code == .notFound else { throw error }
            return false
        }
    }

    /// The period that a month is billed as; one that has an invoice in one currency is drafted in the others.
    private func period(
        of account: BillingAccount, _ month: CivilDate?
    ) async throws(AdministrationFailure) -> BillingPeriod {
        guard let calendar = PeriodCalendar(timeZone: account.timeZone),
            let timeline = BillingTimeline(
                timeZone: account.timeZone, taken: try await records.taken(account.tenantID))
        else {
            throw .refused(
                Refusal(.internalError, "The tenant's time zone is not known here.", cause: account.timeZone))
        }
        let named: Period
        if let month {
            named = calendar.period(containing: calendar.midnight(month), frequency: .month)
        } else {
            let current = calendar.period(containing: try await records.now(), frequency: .month)
            named = calendar.period(
                containing: Timestamp(microsecondsSince1970: current.start.microsecondsSince1970 - 1), frequency: .month
            )
        }
        let half = (named.end.microsecondsSince1970 - named.start.microsecondsSince1970) / 2
        let middle = Timestamp(microsecondsSince1970: named.start.microsecondsSince1970 + half)
        let standing = timeline.standing(at: middle).flatMap {
            BillingPeriod(start: $0.start, end: $0.end, timeZone: $0.timeZone)
        }
        guard let period = standing ?? timeline.period(holding: middle) else {
            throw .refused(Refusal(.conflict, "Other invoices stand for this month."))
        }
        return period
    }

    private static let composition: InvoiceComposition = { bill, period in
        try await InvoiceComposer().drafts(bill, period)
    }
}

extension InvoiceIssuing.Outcome {
    fileprivate mutating func refuse(_ tenant: TenantID, _ detail: String) {
        if refused.count < 100 { refused.append(Refused(tenantID: tenant, detail: detail)) }
    }
}
