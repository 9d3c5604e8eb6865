/// What is rated and what the database saw of the ledger when it was read.
public struct BillingReading: Sendable {
    public let input: RatingInput
    /// As the database names a snapshot.
    public let seen: String

    public init(input: RatingInput, seen: String) {
        self.input = input
        self.seen = seen
    }
}

/// What standing invoices, those that are neither drafts nor void, have charged for one period of use.
public struct BilledPeriod: Sendable {
    public let start: Timestamp
    public let end: Timestamp
    /// That its invoice was made with.
    public let timeZone: String
    /// Of all standing invoices, but for credits that were carried and for credit notes.
    public let lines: [InvoiceLine]
    public let usage: [UsageQuantity]
    /// What the last of those invoices saw of the ledger.
    public let seen: String?
    /// Of every tier version that lines or usage name.
    public let currencies: [TierVersionID: String]
    /// In which the period has an invoice of its own.
    public let settledCurrencies: Set<String>
    /// In which it had one that is void and not to be issued anew, and has no other: nothing of it is charged late either.
    public let currenciesLeftAlone: Set<String>

    public init(
        start: Timestamp, end: Timestamp, timeZone: String, lines: [InvoiceLine], usage: [UsageQuantity], seen: String?,
        currencies: [TierVersionID: String] = [:], settledCurrencies: Set<String> = [],
        currenciesLeftAlone: Set<String> = []
    ) {
        self.start = start
        self.end = end
        self.timeZone = timeZone
        self.lines = lines
        self.usage = usage
        self.seen = seen
        self.currencies = currencies
        self.settledCurrencies = settledCurrencies
        self.currenciesLeftAlone = currenciesLeftAlone
    }
}

/// A period that has a standing invoice, and the currencies in which it waits for one.
public struct HalfIssuedPeriod: Hashable, Sendable {
    public let start: Timestamp
    public let end: Timestamp
    /// That the standing invoice was made with.
    public let timeZone: String
    public let currencies: Set<String>

    public init(start: Timestamp, end: Timestamp, timeZone: String, currencies: Set<String>) {
        self.start = start
        self.end = end
        self.timeZone = timeZone
        self.currencies = currencies
    }
}

/// What an invoice follows from. Nobody changes a bill of the tenant's while it is read.
public protocol BillReading {
    var account: BillingAccount { get }
    /// By the database's clock.
    var now: Timestamp { get }
    /// Spans and usage between two edges of usage inside of one period.
    func reading(from start: Timestamp, to end: Timestamp) async throws -> BillingReading
    /// Periods that start before an instant and have a standing invoice of their own, the latest first, at most `limit`.
    func billed(before end: Timestamp, limit: Int) async throws -> [BilledPeriod]
    /// What standing invoices have charged for use in a period.
    func billed(_ period: Period) async throws -> BilledPeriod
    /// What is left of grants in a currency.
    func credits(_ currency: String) async throws -> [CreditSource]
}

/// Says whether the books of a period are in order, so that an invoice that would be wrong is not issued.
public protocol InvoiceGate: Sendable {
    /// - Returns: a short line for each difference; none where ledger, requests and usage agree.
    func differences(_ tenant: TenantID, _ period: Period) async throws(StoreUnavailable) -> [String]
}

/// Which invoices are asked for.
public struct InvoiceQuery: Sendable {
    public let tenantID: TenantID?
    public let state: InvoiceState?
    public let page: PageRequest<InvoiceID>

    public init(tenantID: TenantID?, state: InvoiceState?, page: PageRequest<InvoiceID>) {
        self.tenantID = tenantID
        self.state = state
        self.page = page
    }
}

/// Who issues invoices.
public struct InvoiceIssuer: Hashable, Sendable {
    public let code: String
    public let name: String
    public let address: String
    public let taxID: String
    public let numberPrefix: String
    /// The last number that was given.
    public let lastNumber: Int64

    public init(code: String, name: String, address: String, taxID: String, numberPrefix: String, lastNumber: Int64) {
        self.code = code
        self.name = name
        self.address = address
        self.taxID = taxID
        self.numberPrefix = numberPrefix
        self.lastNumber = lastNumber
    }
}

/// Makes the lines of a period's invoices from what they follow from: one for each currency, none where there is nothing to invoice.
public typealias InvoiceComposition = @Sendable (any BillReading, BillingPeriod) async throws -> [InvoiceDraft]

/// Why an invoice is taken back.
public struct InvoiceVoiding: Hashable, Sendable {
    public let reason: String
    /// Whether the run issues the period anew; a draft that somebody asks for may in any case.
    public let isReissued: Bool

    public init(reason: String, isReissued: Bool) {
        self.reason = reason
        self.isReissued = isReissued
    }
}

/// The invoices of all tenants, as the operator has them. Each verb is one transaction; a change and its entry in the audit log are written
/// together or not at all.
public protocol InvoiceRecords: Sendable {
    /// By the database's clock.
    func now() async throws(AdministrationFailure) -> Timestamp
    /// What invoices have taken of a tenant's time.
    func taken(_ tenant: TenantID) async throws(AdministrationFailure) -> [BillingTimeline.Taken]
    /// The first instant before `end`, and at or after `start` if one is given, at which the tenant was on a tier or used something and for which
    /// no invoice was issued; what is void and left alone counts as issued. What was before the first invoice that was ever issued is not asked for.
    func unbilled(_ tenant: TenantID, from start: Timestamp?, before end: Timestamp)
        async throws(AdministrationFailure) -> Timestamp?
    /// Periods that end by an instant and are invoiced in part: what a run was about to issue when it ended, and what is void and to be issued
    /// anew. The oldest first.
    func halfIssued(_ tenant: TenantID, by end: Timestamp) async throws(AdministrationFailure) -> [HalfIssuedPeriod]
    /// Writes the drafts of a tenant's period anew, one for each currency that has no standing invoice.
    /// Drafts in currencies in which there is nothing to invoice any more are removed.
    /// - Returns: none where there is nothing to invoice.
    /// - Throws: `not_found` for an unknown tenant; `conflict` where all that there is to invoice stands, or the period is not what other invoices have left.
    func redraft(_ tenant: TenantID, _ period: BillingPeriod, by actor: AuditActor, _ compose: InvoiceComposition)
        async throws(AdministrationFailure) -> [InvoiceID]
    /// Writes a draft anew from what is true now, and issues it under the issuer's next number.
    /// - Throws: `not_found`; `conflict` for one that is issued, and where the period's end and the grace are not over.
    func finalise(
        _ id: InvoiceID, graceSeconds: Int64, dueDays: Int64, by actor: AuditActor, _ compose: InvoiceComposition)
        async throws(AdministrationFailure)
    /// - Throws: `not_found`; `conflict` unless it is finalised.
    func pay(_ id: InvoiceID, by actor: AuditActor) async throws(AdministrationFailure)
    /// What it charged can be invoiced anew.
    /// - Throws: `not_found`; `conflict` unless it is finalised, or asks for nothing, and has neither credit notes nor given back what was spent
    ///   since.
    func void(_ id: InvoiceID, _ voiding: InvoiceVoiding, by actor: AuditActor) async throws(AdministrationFailure)
    /// Issues a credit note; ``CreditNoteDivision`` says what becomes of its amount.
    /// - Parameter asCredit: of a paid invoice, gives the amount as a credit; otherwise the money is given back outside of Weir.
    /// - Returns: the credit note.
    /// - Throws: `not_found`; `conflict` for a draft or a void one; `validation_failed` for more than is left.
    func credit(_ id: InvoiceID, amount: Micros, reason: String, asCredit: Bool, by actor: AuditActor)
        async throws(AdministrationFailure) -> InvoiceID
    /// Newest first, without their parts.
    func invoices(_ query: InvoiceQuery) async throws(AdministrationFailure) -> Page<InvoiceRow>
    /// - Throws: `not_found`.
    func invoice(_ id: InvoiceID) async throws(AdministrationFailure) -> Invoice
    func issuers() async throws(AdministrationFailure) -> [InvoiceIssuer]
    /// Sets all but the number.
    func setIssuer(_ issuer: InvoiceIssuer, by actor: AuditActor) async throws(AdministrationFailure) -> InvoiceIssuer
}

/// One request behind a line.
public struct BilledRequest: Hashable, Sendable {
    /// The ledger's entry, by which the list is sorted.
    public let entryID: RequestID
    public let requestID: RequestID
    public let isCorrection: Bool
    public let model: String
    public let occurredAt: Timestamp
    /// In units of the line's meter, before multipliers.
    public let quantity: Int64

    public init(
        entryID: RequestID, requestID: RequestID, isCorrection: Bool, model: String, occurredAt: Timestamp,
        quantity: Int64
    ) {
        self.entryID = entryID
        self.requestID = requestID
        self.isCorrection = isCorrection
        self.model = model
        self.occurredAt = occurredAt
        self.quantity = quantity
    }
}

/// The issued invoices of one tenant, as the customer reads them.
public protocol CustomerInvoices: Sendable {
    /// Newest first.
    func invoices(_ tenant: TenantID, after: InvoiceID?, limit: Int) async throws(StoreUnavailable) -> [InvoiceRow]
    /// `nil` for an unknown one, a draft and another tenant's alike.
    func invoice(_ id: InvoiceID, tenantID: TenantID) async throws(StoreUnavailable) -> Invoice?
    /// The ledger's entries behind a line, in their order; `nil` for a line that there is not.
    func requests(behind line: Int, of id: InvoiceID, tenantID: TenantID, after: RequestID?, limit: Int)
        async throws(StoreUnavailable) -> [BilledRequest]?
    func credits(_ tenant: TenantID) async throws(StoreUnavailable) -> [CreditGrantRow]
}
