/// Where an invoice is between being made and being done with.
public enum InvoiceState: String, Sendable, CaseIterable {
    /// A proposal: it has no number, and each draft takes the place of the one before.
    case draft
    case finalised
    case paid
    case void
}

public enum InvoiceKind: String, Sendable, CaseIterable {
    case invoice
    /// Takes back a part of an invoice; its amounts are positive.
    case creditNote = "credit_note"
}

/// One line of an invoice.
public struct InvoiceLine: Hashable, Sendable {
    public enum Kind: String, Sendable, CaseIterable {
        case baseFee = "base_fee"
        case usage
        case included
        case trial
        case minimumCommitment = "minimum_commitment"
        /// Of a period whose invoice was final before the usage was known.
        case lateUsage = "late_usage"
        /// What a period below zero gives back as a credit.
        case carriedCredit = "carried_credit"
        case creditNote = "credit_note"
    }

    public let kind: Kind
    public let tierVersionID: TierVersionID?
    /// ``PriceSheet/anyModel`` where models are priced together.
    public let model: String?
    public let meter: Meter?
    /// Counted from 1, of a banded price.
    public let band: Int16?
    /// For a person.
    public let description: String
    public let start: Timestamp
    public let end: Timestamp
    /// As it is priced, in millionths of a unit; `nil` for lines that are no quantity.
    public let quantityMillionths: Int128?
    public let unitPrice: UnitPrice?
    public let amount: Micros

    public init(
        kind: Kind, tierVersionID: TierVersionID? = nil, model: String? = nil, meter: Meter? = nil, band: Int16? = nil,
        description: String, start: Timestamp, end: Timestamp, quantityMillionths: Int128? = nil,
        unitPrice: UnitPrice? = nil, amount: Micros
    ) {
        self.kind = kind
        self.tierVersionID = tierVersionID
        self.model = model
        self.meter = meter
        self.band = band
        self.description = description
        self.start = start
        self.end = end
        self.quantityMillionths = quantityMillionths
        self.unitPrice = unitPrice
        self.amount = amount
    }
}

/// An invoice without its parts.
public struct InvoiceRow: Hashable, Sendable {
    public let id: InvoiceID
    public let kind: InvoiceKind
    public let state: InvoiceState
    /// Without a gap within an issuer; `nil` for a draft.
    public let number: Int64?
    public let issuer: String
    public let issuerName: String
    public let issuerAddress: String
    public let issuerTaxID: String
    public let numberPrefix: String
    public let correctsInvoiceID: InvoiceID?
    public let tenantID: TenantID
    public let customerName: String
    public let periodID: String
    public let periodStart: Timestamp
    public let periodEnd: Timestamp
    public let timeZone: String
    public let currency: String
    public let subtotal: Micros
    public let credits: Micros
    public let total: Micros
    /// What credit notes have taken back of the subtotal.
    public let credited: Micros
    public let note: String
    public let draftedAt: Timestamp
    public let finalisedAt: Timestamp?
    public let dueAt: Timestamp?
    public let paidAt: Timestamp?
    public let voidedAt: Timestamp?
    /// Of a credit note; `nil` for an invoice.
    public let form: CreditNoteForm?
    /// What a credit note gave as a grant.
    public let granted: Micros
    /// By how much credit notes have lowered what an invoice asks for.
    public let reduced: Micros
    /// Of one that is void.
    public let voidReason: String?
    /// Whether the run may issue the period of a void invoice anew; `nil` for one that is not void, or was before this was asked.
    public let isReissued: Bool?

    public init(
        id: InvoiceID, kind: InvoiceKind, state: InvoiceState, number: Int64?, issuer: String, issuerName: String,
        issuerAddress: String, issuerTaxID: String, numberPrefix: String, correctsInvoiceID: InvoiceID?,
        tenantID: TenantID, customerName: String, periodID: String, periodStart: Timestamp, periodEnd: Timestamp,
        timeZone: String, currency: String, subtotal: Micros, credits: Micros, total: Micros, credited: Micros,
        note: String, draftedAt: Timestamp, finalisedAt: Timestamp?, dueAt: Timestamp?, paidAt: Timestamp?,
        voidedAt: Timestamp?, form: CreditNoteForm? = nil, granted: Micros = .zero, reduced: Micros = .zero,
        voidReason: String? = nil, isReissued: Bool? = nil
    ) {
        self.id = id
        self.kind = kind
        self.state = state
        self.number = number
        self.issuer = issuer
        self.issuerName = issuerName
        self.issuerAddress = issuerAddress
        self.issuerTaxID = issuerTaxID
        self.numberPrefix = numberPrefix
        self.correctsInvoiceID = correctsInvoiceID
        self.tenantID = tenantID
        self.customerName = customerName
        self.periodID = periodID
        self.periodStart = periodStart
        self.periodEnd = periodEnd
        self.timeZone = timeZone
        self.currency = currency
        self.subtotal = subtotal
        self.credits = credits
        self.total = total
        self.credited = credited
        self.note = note
        self.draftedAt = draftedAt
        self.finalisedAt = finalisedAt
        self.dueAt = dueAt
        self.paidAt = paidAt
        self.voidedAt = voidedAt
        self.form = form
        self.granted = granted
        self.reduced = reduced
        self.voidReason = voidReason
        self.isReissued = isReissued
    }

    /// What is still to be paid.
    public var owed: Micros {
        kind == .invoice && state == .finalised ? Micros(total.value - reduced.value) : .zero
    }

    /// As people quote it; `nil` for a draft.
    public var numberText: String? {
        number.map { number in
            let digits = String(number)
            return numberPrefix + String(repeating: "0", count: max(0, 6 - digits.utf8.count)) + digits
        }
    }
}

/// What a grant pays of an invoice, as a person reads it.
public struct InvoiceCredit: Hashable, Sendable {
    public let grantID: CreditGrantID
    public let kind: String
    public let reason: String
    public let amount: Micros

    public init(grantID: CreditGrantID, kind: String, reason: String, amount: Micros) {
        self.grantID = grantID
        self.kind = kind
        self.reason = reason
        self.amount = amount
    }
}

/// An invoice with all that stands on it.
public struct Invoice: Hashable, Sendable {
    public let row: InvoiceRow
    /// Numbered from 1 in this order.
    public let lines: [InvoiceLine]
    public let credits: [InvoiceCredit]

    public init(row: InvoiceRow, lines: [InvoiceLine], credits: [InvoiceCredit]) {
        self.row = row
        self.lines = lines
        self.credits = credits
    }
}

/// What an invoice shall say.
public struct InvoiceDraft: Hashable, Sendable {
    /// Quantities of the ledger that the invoice charges, of the period in which they were used.
    public struct UsedIn: Hashable, Sendable {
        public let periodStart: Timestamp
        public let usage: UsageQuantity
        /// What the database saw of the ledger when it was read, and what it had seen for the invoice before; as it names them.
        public let seen: String
        public let seenBefore: String?

        public init(periodStart: Timestamp, usage: UsageQuantity, seen: String, seenBefore: String?) {
            self.periodStart = periodStart
            self.usage = usage
            self.seen = seen
            self.seenBefore = seenBefore
        }
    }

    public let currency: String
    public let lines: [InvoiceLine]
    /// The sum of the lines; never below zero.
    public let subtotal: Micros
    public let credits: [CreditApplication]
    public let usage: [UsedIn]
    /// What the tenant gets as a credit because the period came out below zero.
    public let givenBack: Micros
    /// Earlier periods of which something is charged.
    public let late: [BillingPeriod]

    public init(
        currency: String, lines: [InvoiceLine], subtotal: Micros, credits: [CreditApplication], usage: [UsedIn],
        givenBack: Micros, late: [BillingPeriod] = []
    ) {
        self.late = late
        self.currency = currency
        self.lines = lines
        self.subtotal = subtotal
        self.credits = credits
        self.usage = usage
        self.givenBack = givenBack
    }
}
