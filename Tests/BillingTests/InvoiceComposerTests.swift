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

    // MARK: Currencies

    private static let euro = TierVersionID(high: 2, low: 2)

    private static func bothTerms(baseFee: Int64) -> [TierVersionID: TierTerms] {
        let euroTerms = TierTerms(
            tierVersionID: euro, tierCode: "euro", version: 1, currency: "EUR", baseFee: Micros(baseFee),
            rules: [PriceRule(meter: .request, model: "*", price: .flat(UnitPrice(picos: 1_000_000_000_000)))])
        return terms(baseFee: baseFee).merging([euro: euroTerms]) { old, _ in old }
    }

    /// Ten days in dollars, the rest in euro.
    private static func moved(_ requests: Int64, _ euroRequests: Int64, _ period: Period) -> RatingInput {
        let middle = period.start.advanced(byMilliseconds: 864_000_000)
        let used = UsageQuantity(
            tierVersionID: euro, model: "iris", requests: euroRequests, inputTokens: 0, outputTokens: 0)
        return RatingInput(
            spans: [
                SubscriptionSpan(tierVersionID: version, start: period.start, end: middle),
                SubscriptionSpan(tierVersionID: euro, start: middle, end: period.end),
            ], usage: [quantity(requests), used], terms: bothTerms(baseFee: 3_100_000))
    }

    private func drafts(_ bill: FakeBill, _ period: Period = march) async throws -> [InvoiceDraft] {
        let period = try #require(BillingPeriod(start: period.start, end: period.end, timeZone: "UTC"))
        return try await InvoiceComposer().drafts(bill, period)
    }

    @Test("each currency has its own invoice with the fees of its stay, that of the last stay first")
    func currencies() async throws {
        let drafts = try await drafts(FakeBill(readings: [Self.march.end: Self.moved(2, 3, Self.march)]))
        #expect(drafts.map(\.currency) == ["EUR", "USD"])
        #expect(drafts.map(\.subtotal.value) == [2_100_000 + 3_000_000, 1_000_000 + 20_000])
        #expect(drafts.map { $0.usage.map(\.usage.requests) } == [[3], [2]])
        let first = try await compose(FakeBill(readings: [Self.march.end: Self.moved(2, 3, Self.march)]))
        #expect(first == drafts.first)
    }

    @Test("quantities of nothing name no currency, and a tier version that is not known is refused")
    func nothing() async throws {
        let zero = UsageQuantity(tierVersionID: Self.euro, model: "iris", requests: 0, inputTokens: 0, outputTokens: 0)
        let input = Self.input(7)
        func bill(_ usage: [UsageQuantity], _ terms: [TierVersionID: TierTerms]) -> FakeBill {
            FakeBill(readings: [Self.march.end: RatingInput(spans: input.spans, usage: usage, terms: terms)])
        }
        let drafts = try await drafts(bill([Self.quantity(7), zero], Self.bothTerms(baseFee: 0)))
        #expect(drafts.map(\.currency) == ["USD"])
        let unknown = UsageQuantity(
            tierVersionID: Self.euro, model: "iris", requests: 1, inputTokens: 0, outputTokens: 0)
        await #expect(throws: Refusal.self) { try await compose(bill([unknown], Self.terms())) }
    }

    @Test("late usage is in its own currency, and one that has no invoice yet has its fees too")
    func lateCurrencies() async throws {
        var bill = FakeBill(readings: [
            Self.march.end: Self.input(1), Self.february.end: Self.moved(2, 3, Self.february),
        ])
        let billed = try #require(
            try await drafts(FakeBill(readings: [Self.february.end: Self.moved(2, 3, Self.february)]), Self.february)
                .first)
        func earlier(_ settled: Set<String>, leftAlone: Set<String> = []) -> BilledPeriod {
            BilledPeriod(
                start: Self.february.start, end: Self.february.end, timeZone: "UTC", lines: billed.lines,
                usage: billed.usage.map(\.usage), seen: "before", currencies: [Self.euro: "EUR"],
                settledCurrencies: settled, currenciesLeftAlone: leftAlone)
        }
        bill.earlier = [earlier(["EUR"])]
        let first = try await drafts(bill)
        #expect(first.map(\.currency) == ["USD"])
        // Ten of 28 days of the fee, and two requests.
        #expect(first.map(\.subtotal.value) == [10_000 + 1_107_143 + 20_000])
        #expect(first.first?.late.map(\.label) == ["2026-02"])
        // What is void and left alone is charged by nobody but who asks for its month.
        bill.earlier = [earlier(["EUR"], leftAlone: ["USD"])]
        #expect(try await drafts(bill).flatMap(\.late).isEmpty)
        bill.earlier = [earlier(["EUR"])]
        // More of what is invoiced in euro is in euro.
        bill.readings[Self.february.end] = Self.moved(2, 5, Self.february)
        let second = try await drafts(bill)
        #expect(second.map(\.currency) == ["USD", "EUR"] && second.last?.subtotal == Micros(2_000_000))
    }

    @Test("a period that is longer than its month has more of the fees, in elapsed time")
    func longer() async throws {
        // March, with the six hours before it that a move from Berlin to New York has added.
        let end = Timestamp(microsecondsSince1970: 1_775_016_000_000_000)
        let start = Timestamp(microsecondsSince1970: 1_772_319_600_000_000)
        let period = try #require(BillingPeriod(start: start, end: end, timeZone: "America/New_York"))
        let span = SubscriptionSpan(tierVersionID: Self.version, start: start, end: end)
        let bill = FakeBill(readings: [
            end: RatingInput(spans: [span], usage: [], terms: Self.terms(baseFee: 743_000_000))
        ])
        let drafts = try await InvoiceComposer().drafts(bill, period)
        // 743 hours of March in New York, where the clocks go forward, and six more.
        #expect(drafts.first?.lines.map(\.amount.value) == [749_000_000])
        #expect(period.label == "2026-03")
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
        // The total is exact, and what is paid of it is not.
        #expect(page.contains(">USD 1,234.56789<") && page.contains(">0.00211<") && page.contains(">USD 1,234.57<"))
        #expect(InvoiceTable.csv(invoice).contains("\"'=1+1, \"\"x\"\"\""))
    }
}
