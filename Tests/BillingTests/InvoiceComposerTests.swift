import Domain
import Testing

@testable import Billing

/// Readings by the end up to which they are asked for.
private struct FakeBill: BillReading {
    var account = BillingAccount(tenantID: TenantID(high: 1, low: 1), name: "Example", timeZone: "UTC")
    var now = Timestamp(microsecondsSince1970: 0)
    var readings: [Timestamp: RatingInput] = [:]
    var own: BilledPeriod?
    var earlier: [BilledPeriod] = []
    var sources: [CreditSource] = []

    func reading(from start: Timestamp, to end: Timestamp) async throws -> BillingReading {
        BillingReading(
            input: readings[end] ?? RatingInput(spans: [], usage: [], terms: [:]),
            seen: "\(end.microsecondsSince1970)")
    }

    func billed(before end: Timestamp, limit: Int) async throws -> [BilledPeriod] { earlier }

    func billed(_ period: Period) async throws -> BilledPeriod {
        own ?? BilledPeriod(start: period.start, end: period.end, timeZone: "UTC", lines: [], usage: [], seen: nil)
    }

    func credits(_ currency: String) async throws -> [CreditSource] { sources }
}

@Suite("what an invoice says")
struct InvoiceComposerTests {
    private static let version = TierVersionID(high: 2, low: 1)
    private static let march = month(1_772_323_200)
    private static let february = month(1_769_904_000)

    private static func month(_ seconds: Int64) -> Period {
        PeriodCalendar.utc.period(
            containing: Timestamp(microsecondsSince1970: seconds * 1_000_000), frequency: .month)
    }

    /// One cent for a request, a minimum of ten units.
    private static func terms(minimum: Int64 = 0, baseFee: Int64 = 0) -> [TierVersionID: TierTerms] {
        [
            version: TierTerms(
                tierVersionID: version, tierCode: "plain", version: 1, currency: "USD", baseFee: Micros(baseFee),
                minimumCommitment: Micros(minimum),
                rules: [
                    PriceRule(meter: .request, model: "*", price: .flat(UnitPrice(picos: 10_000_000_000)))
                ])
        ]
    }

    private static func input(
        _ requests: Int64, _ period: Period = march, minimum: Int64 = 0, baseFee: Int64 = 0
    ) -> RatingInput {
        RatingInput(
            spans: [SubscriptionSpan(tierVersionID: version, start: period.start, end: period.end)],
            usage: requests == 0 ? [] : [quantity(requests)], terms: terms(minimum: minimum, baseFee: baseFee))
    }

    private static func quantity(_ requests: Int64) -> UsageQuantity {
        UsageQuantity(tierVersionID: version, model: "iris", requests: requests, inputTokens: 0, outputTokens: 0)
    }

    private func compose(_ bill: FakeBill) async throws -> InvoiceDraft? {
        try await InvoiceComposer().compose(bill, Self.march)
    }

    @Test("neither a subscription nor usage is no invoice, and nothing used is one of nothing")
    func empty() async throws {
        #expect(try await compose(FakeBill()) == nil)
        let draft = try #require(try await compose(FakeBill(readings: [Self.march.end: Self.input(0)])))
        #expect(draft.subtotal == .zero && draft.lines.isEmpty && draft.currency == "USD")
    }

    @Test("lines sum to the subtotal, and usage is the ledger's")
    func plain() async throws {
        let draft = try #require(
            try await compose(
                FakeBill(readings: [Self.march.end: Self.input(7, minimum: 10_000_000, baseFee: 1_000_000)])))
        #expect(draft.lines.map(\.amount.value) == [1_000_000, 70_000, 8_930_000])
        #expect(draft.subtotal == Micros(10_000_000))
        #expect(draft.usage.map(\.usage) == [Self.quantity(7)])
        #expect(draft.lines.map(\.kind) == [.baseFee, .usage, .minimumCommitment])
    }

    @Test("late usage is what the month costs now less what was invoiced")
    func late() async throws {
        var bill = FakeBill(readings: [
            Self.march.end: Self.input(0), Self.february.end: Self.input(9, Self.february, minimum: 80_000),
        ])
        let billed = try await InvoiceComposer().compose(
            FakeBill(readings: [Self.march.end: Self.input(5, minimum: 80_000)]), Self.march)
        let lines = try #require(billed).lines
        #expect(lines.map(\.amount.value) == [50_000, 30_000])
        bill.earlier = [
            BilledPeriod(
                start: Self.february.start, end: Self.february.end, timeZone: "UTC", lines: lines,
                usage: [Self.quantity(5)], seen: "before")
        ]
        let draft = try #require(try await compose(bill))
        // 90,000 less 50,000 for requests; the minimum's 30,000 is given back.
        #expect(draft.lines.map(\.kind) == [.lateUsage, .lateUsage])
        #expect(draft.lines.map(\.amount.value) == [40_000, -30_000])
        #expect(draft.subtotal == Micros(10_000))
        #expect(draft.usage.map(\.usage.requests) == [4])
        #expect(draft.usage.first?.seenBefore == "before" && draft.usage.first?.periodStart == Self.february.start)
        // Nothing new, nothing late.
        bill.readings[Self.february.end] = Self.input(5, Self.february, minimum: 80_000)
        #expect(try await compose(bill)?.lines == [])
    }

    @Test("what comes out below zero is given back as a credit, and no credit pays for it")
    func negative() async throws {
        var bill = FakeBill(readings: [Self.march.end: Self.input(-3)])
        bill.sources = [
            CreditSource(
                grantID: CreditGrantID(high: 1, low: 1), remaining: Micros(5), priority: 1,
                effectiveAt: Self.february.start, expiresAt: nil)
        ]
        let draft = try #require(try await compose(bill))
        #expect(draft.subtotal == .zero && draft.givenBack == Micros(30_000) && draft.credits.isEmpty)
        #expect(draft.lines.map(\.amount.value) == [-30_000, 30_000])
        #expect(draft.lines.last?.kind == .carriedCredit)
    }

    @Test("a credit that ends inside the month pays for its part, without the minimum")
    func credits() async throws {
        let middle = Timestamp(microsecondsSince1970: Self.march.start.microsecondsSince1970 + 86_400_000_000 * 10)
        var bill = FakeBill(readings: [
            Self.march.end: Self.input(10, minimum: 500_000), middle: Self.input(4, minimum: 500_000),
        ])
        bill.sources = [
            CreditSource(
                grantID: CreditGrantID(high: 1, low: 1), remaining: Micros(1_000_000), priority: 1,
                effectiveAt: Self.february.start, expiresAt: middle)
        ]
        let draft = try #require(try await compose(bill))
        #expect(draft.credits.map(\.amount.value) == [40_000])
        #expect(draft.subtotal == Micros(500_000))
    }

    @Test("a page escapes what people wrote, and a table keeps formulas from running")
    func documents() throws {
        let line = InvoiceLine(
            kind: .usage, model: "iris", meter: .request, description: "=1+1, \"x\"", start: Self.march.start,
            end: Self.march.end, quantityMillionths: 2_500_000, unitPrice: UnitPrice(picos: 150_000),
            amount: Micros(1_234_567_890))
        let row = InvoiceRow(
            id: InvoiceID(high: 1, low: 2), kind: .invoice, state: .finalised, number: 7, issuer: "default",
            issuerName: "A & B", issuerAddress: "One\n<Two>", issuerTaxID: "", numberPrefix: "INV-",
            correctsInvoiceID: nil, tenantID: TenantID(high: 1, low: 1), customerName: "<b>'x'</b>",
            periodID: "2026-03@UTC", periodStart: Self.march.start, periodEnd: Self.march.end, timeZone: "UTC",
            currency: "USD", subtotal: Micros(1_234_567_890), credits: .zero, total: Micros(1_234_567_890),
            credited: .zero, note: "", draftedAt: Self.march.end, finalisedAt: Self.march.end, dueAt: nil, paidAt: nil,
            voidedAt: nil)
        let invoice = Invoice(row: row, lines: [line], credits: [])
        let page = InvoicePage(invoice).html
        #expect(page.contains("A &amp; B") && page.contains("&lt;b&gt;&#39;x&#39;&lt;/b&gt;") && !page.contains("<b>"))
        #expect(page.contains("INV-000007") && page.contains("1,234.56789") && page.contains("2026-03-01 – 2026-03-31"))
        #expect(page.contains("0.00000015") && page.contains(">2.5<"))
        #expect(InvoiceTable.csv(invoice).contains("\"'=1+1, \"\"x\"\"\""))
    }
}
