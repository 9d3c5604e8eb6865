/// A stay of a tenant on a tier version.
public struct TenantStay: Hashable, Sendable {
    public let tierVersionID: TierVersionID
    public let startsAt: Timestamp
    /// `nil` for the one in force.
    public let endsAt: Timestamp?
    public let trialEndsAt: Timestamp?

    public init(tierVersionID: TierVersionID, startsAt: Timestamp, endsAt: Timestamp?, trialEndsAt: Timestamp?) {
        self.tierVersionID = tierVersionID
        self.startsAt = startsAt
        self.endsAt = endsAt
        self.trialEndsAt = trialEndsAt
    }

    /// The parts of the stay in a period: its trial, and what comes after it.
    func spans(in period: Period) -> [SubscriptionSpan] {
        let end = min(endsAt ?? period.end, period.end)
        let start = max(startsAt, period.start)
        let trialEnd = trialEndsAt.map { min($0, end) } ?? start
        return [(start, trialEnd, true), (max(start, trialEnd), end, false)].compactMap { first, last, isTrial in
            guard first < last else { return nil }
            return SubscriptionSpan(tierVersionID: tierVersionID, start: first, end: last, isTrial: isTrial)
        }
    }
}

/// An invoice that was issued, with what it says and which quantities of the ledger it charges.
public struct IssuedInvoice: Sendable {
    /// Quantities of the ledger, and the period in which they were used.
    public struct Charged: Hashable, Sendable {
        public let periodStart: Timestamp
        public let usage: UsageQuantity

        public init(periodStart: Timestamp, usage: UsageQuantity) {
            self.periodStart = periodStart
            self.usage = usage
        }
    }

    public let id: InvoiceID
    public let tenantID: TenantID
    /// As people quote it.
    public let number: String
    public let period: Period
    public let timeZone: String
    public let currency: String
    public let subtotal: Micros
    public let finalisedAt: Timestamp
    /// `nil` for one that stands.
    public let voidedAt: Timestamp?
    public let lines: [InvoiceLine]
    public let charged: [Charged]

    public init(
        id: InvoiceID, tenantID: TenantID, number: String, periodID: String, periodStart: Timestamp,
        periodEnd: Timestamp, timeZone: String, currency: String, subtotal: Micros, finalisedAt: Timestamp,
        voidedAt: Timestamp?, lines: [InvoiceLine], charged: [Charged]
    ) {
        self.id = id
        self.tenantID = tenantID
        self.number = number
        period = Period(start: periodStart, end: periodEnd, id: periodID)
        self.timeZone = timeZone
        self.currency = currency
        self.subtotal = subtotal
        self.finalisedAt = finalisedAt
        self.voidedAt = voidedAt
        self.lines = lines
        self.charged = charged
    }

    /// The month that fees, minimum and included amounts of the period are of; `nil` for an unknown zone.
    fileprivate var month: Period? { BillingPeriod(start: period.start, end: period.end, timeZone: timeZone)?.month }
}

/// What an issued invoice says, and what rating says of the same usage.
public struct ReplayedInvoice: Sendable {
    /// What the invoice asks for use in one period: its own, or an earlier one whose usage came late.
    public struct Part: Hashable, Sendable {
        public let periodID: String
        public let issued: Int128
        public let replayed: Int128
        /// Whether the amounts and quantities of each tier version, model and meter are the same, too.
        public let isEqual: Bool
    }

    public let invoice: IssuedInvoice
    public let parts: [Part]
    /// The subtotal; `nil` where the usage cannot be rated.
    public let replayed: Int128?
    /// Whether all of it is as rating says.
    public let isEqual: Bool
}

/// Rates the invoices of one tenant anew from what they charge, in the order in which they were issued.
///
/// What an invoice asks for a period is what the period's usage cost when it was issued, all that standing invoices had charged and its own
/// together, less what those had asked for. Both are rated here; no line of an invoice is taken for true. Usage is what `invoice_usage` took
/// from the ledger; stays and prices of the past do not change. Each currency has invoices of its own, and a period is what the invoice of
/// that period says, also where a change of the time zone made it longer or shorter than a month.
public struct InvoiceReplay: Sendable {
    private struct Key: Hashable {
        let version: TierVersionID?
        let model: String?
        let meter: Meter?
    }

    private struct Sum: Hashable {
        var amount: Int128 = 0
        var quantity: Int128 = 0
    }

    private typealias Sums = [Key: Sum]

    private struct Known {
        let invoice: IssuedInvoice
        let sums: [Timestamp: Sums]
    }

    private let stays: [TenantStay]
    private let terms: [TierVersionID: TierTerms]
    private var known: [Known] = []

    /// - Parameter terms: of every version that stays or charged usage name.
    public init(stays: [TenantStay], terms: [TierVersionID: TierTerms]) {
        self.stays = stays
        self.terms = terms
    }

    /// - Parameter invoice: the tenant's next one. Void ones are part of the order: what was issued before they were void saw them.
    public mutating func add(_ invoice: IssuedInvoice) -> ReplayedInvoice {
        let standing = known.filter { other in
            other.invoice.voidedAt.map { $0 > invoice.finalisedAt } ?? true
        }
        let billed = periods(of: invoice, standing)
        let periods = billed.map(\.period)
        var replayed: [Timestamp: Sums] = [:]
        var isRated = true
        let ofCurrency = standing.filter { $0.invoice.currency == invoice.currency }
        for (period, month) in billed {
            guard let month, let sums = rated(period, month, invoice, ofCurrency) else {
                isRated = false
                continue
            }
            replayed[period.start] = sums
        }
        let issued = Self.issued(invoice, periods)
        known.append(Known(invoice: invoice, sums: isRated ? replayed : issued))
        let parts = periods.map { period in
            let (old, new) = (issued[period.start] ?? [:], replayed[period.start] ?? [:])
            return ReplayedInvoice.Part(
                periodID: period.id, issued: Self.amount(old), replayed: Self.amount(new), isEqual: old == new)
        }
        let sum = parts.reduce(Int128(0)) { $0 + $1.replayed }
        let carried = invoice.lines.filter { $0.kind == .carriedCredit }
            .reduce(Int128(0)) { $0 + Int128($1.amount.value) }
        return ReplayedInvoice(
            invoice: invoice, parts: parts, replayed: isRated ? max(0, sum) : nil,
            isEqual: isRated && parts.allSatisfy(\.isEqual)
                && issued.keys.allSatisfy { start in
                    periods.contains { $0.start == start }
                }
                && Int128(invoice.subtotal.value) == max(0, sum) && carried == max(0, -sum))
    }

    /// Its own period, and the earlier ones that it charges for late usage or, in a currency that came late, for their fees. Each is as the
    /// invoice that stood for it says; its month is `nil` where the zone is unknown.
    private func periods(of invoice: IssuedInvoice, _ standing: [Known]) -> [(period: Period, month: Period?)] {
        let late = invoice.lines.filter { $0.kind == .lateUsage && !invoice.period.contains($0.start) }.map(\.start)
        let starts = Set(invoice.charged.map(\.periodStart) + late).subtracting([invoice.period.start])
        let earlier = starts.sorted().compactMap { start -> (period: Period, month: Period?)? in
            let own =
                standing.last { $0.invoice.period.start == start } ?? known.last { $0.invoice.period.start == start }
            if let invoice = own?.invoice { return (invoice.period, invoice.month) }
            guard let calendar = PeriodCalendar(timeZone: invoice.timeZone) else { return nil }
            let month = calendar.period(containing: start, frequency: .month)
            return (month, month)
        }
        return [(invoice.period, invoice.month)] + earlier
    }

    /// - Parameter standing: invoices in the currency of the invoice.
    /// - Returns: `nil` where the usage cannot be rated.
    private func rated(_ period: Period, _ month: Period, _ invoice: IssuedInvoice, _ standing: [Known]) -> Sums? {
        // A version without terms is left in, so that rating refuses it.
        func isMeant(_ version: TierVersionID) -> Bool {
            terms[version].map { $0.currency == invoice.currency } ?? true
        }
        let usage = (standing.map(\.invoice) + [invoice]).flatMap(\.charged)
            .filter { $0.periodStart == period.start && isMeant($0.usage.tierVersionID) }.map(\.usage)
        let spans = stays.filter { isMeant($0.tierVersionID) }.flatMap { $0.spans(in: period) }
        guard let rated = try? Rating(period: period, month: month).rate(spans: spans, terms: terms, usage: usage)
        else { return nil }
        var sums: Sums = [:]
        for line in rated.lines {
            Self.add(
                Key(version: line.tierVersionID, model: line.model, meter: line.meter), Int128(line.amount.value),
                line.kind == .trial ? 0 : line.quantityMillionths ?? 0, to: &sums)
        }
        for other in standing {
            for (key, sum) in other.sums[period.start] ?? [:] { Self.add(key, -sum.amount, -sum.quantity, to: &sums) }
        }
        return sums.filter { $0.value != Sum() }
    }

    /// What the invoice's lines say, by the period of use.
    private static func issued(_ invoice: IssuedInvoice, _ periods: [Period]) -> [Timestamp: Sums] {
        var issued: [Timestamp: Sums] = [:]
        for line in invoice.lines where line.kind != .carriedCredit {
            // A line of no period that is charged stands alone, so that it differs.
            let start = periods.first { $0.contains(line.start) }?.start ?? line.start
            Self.add(
                Key(version: line.tierVersionID, model: line.model, meter: line.meter), Int128(line.amount.value),
                line.kind == .trial ? 0 : line.quantityMillionths ?? 0, to: &issued[start, default: [:]])
        }
        return issued.mapValues { $0.filter { $0.value != Sum() } }.filter { !$0.value.isEmpty }
    }

    private static func add(_ key: Key, _ amount: Int128, _ quantity: Int128, to sums: inout Sums) {
        sums[key, default: Sum()].amount += amount
        sums[key, default: Sum()].quantity += quantity
    }

    private static func amount(_ sums: Sums) -> Int128 { sums.values.reduce(0) { $0 + $1.amount } }
}
