import Domain
import Testing

@testable import Billing

/// Readings by the instant at which they begin and end.
private struct FakeBalance: BalanceReading {
    var account = BillingAccount(tenantID: TenantID(high: 1, low: 1), name: "Example", timeZone: "UTC")
    var now = Timestamp(microsecondsSince1970: 0)
    var currencyInForce: String? = "USD"
    var stretches: [BalanceStretch] = []
    var lateStretches: [BalanceStretch] = []
    var sources: [CreditSource] = []
    /// The base fee of the version that is in force for all time.
    var baseFee: Int64 = 0
    /// What standing invoices charge, by the start of the line's span.
    var charged: [(start: Timestamp, amount: Int64)] = []
    /// Whether something that is not to be asked for was asked for.
    var refusesLate = false

    static let version = TierVersionID(high: 2, low: 1)

    func reading(from start: Timestamp, to end: Timestamp) async throws -> BillingReading {
        let terms = TierTerms(
            tierVersionID: Self.version, tierCode: "pro", version: 1, currency: "USD", baseFee: Micros(baseFee),
            rules: [], multipliers: [])
        return BillingReading(
            input: RatingInput(
                spans: [SubscriptionSpan(tierVersionID: Self.version, start: start, end: end)], usage: [],
                terms: [Self.version: terms]), seen: "")
    }

    func billed(before end: Timestamp, limit: Int) async throws -> [BilledPeriod] { [] }

    func billed(_ period: Period) async throws -> BilledPeriod {
        let lines = charged.filter { period.start <= $0.start && $0.start < period.end }.map {
            InvoiceLine(
                kind: .lateUsage, tierVersionID: Self.version, description: "", start: $0.start, end: period.end,
                amount: Micros($0.amount))
        }
        return BilledPeriod(
            start: period.start, end: period.end, timeZone: "UTC", lines: lines, usage: [], seen: nil,
            currencies: [Self.version: "USD"])
    }

    func credits(_ currency: String) async throws -> [CreditSource] { sources }
    func currency() async throws -> String? { currencyInForce }

    func unbilled(_ currency: String, from start: Timestamp, to end: Timestamp) async throws -> [BalanceStretch] {
        stretches
    }

    func late(_ currency: String, limit: Int) async throws -> [BalanceStretch] {
        if refusesLate { throw Refusal(.internalError, "asked for nothing") }
        return lateStretches
    }
}

@Suite("what is left to a tenant that pays ahead")
struct PrepaidBalancingTests {
    private static let february = Timestamp(microsecondsSince1970: 1_769_904_000_000_000)
    private static let march = Timestamp(microsecondsSince1970: 1_772_323_200_000_000)
    private static let april = Timestamp(microsecondsSince1970: 1_775_001_600_000_000)

    private static func credit(
        _ number: UInt64, _ amount: Int64, from start: Timestamp = february, to end: Timestamp? = nil
    ) -> CreditSource {
        CreditSource(
            grantID: CreditGrantID(high: 3, low: number), remaining: Micros(amount), priority: 100, effectiveAt: start,
            expiresAt: end)
    }

    private static func bill(fee: Int64, credits: [CreditSource]) -> FakeBalance {
        var bill = FakeBalance(now: march.advanced(byMilliseconds: 86_400_000))
        bill.stretches = [BalanceStretch(start: february, end: april, timeZone: "UTC")]
        bill.baseFee = fee
        bill.sources = credits
        return bill
    }

    private static func balance(_ bill: FakeBalance, before: BalanceFinding? = nil) async throws -> Int64? {
        try await PrepaidBalancing(bill: bill, before: before).find()?.balance.amount.value
    }

    @Test("a stretch is cut by months, and each of them costs its fee")
    func months() async throws {
        #expect(try await Self.balance(Self.bill(fee: 100, credits: [Self.credit(1, 1_000)])) == 800)
    }

    @Test("what a credit that has ended paid is paid, and what it left is gone")
    func ended() async throws {
        let ended = Self.credit(1, 1_000, to: Self.march)
        #expect(try await Self.balance(Self.bill(fee: 100, credits: [ended])) == -100)
        let bill = Self.bill(fee: 100, credits: [ended, Self.credit(2, 150, from: Self.march)])
        #expect(try await Self.balance(bill) == 50)
        // It paid 40 of February; nothing paid the rest.
        let short = [Self.credit(1, 40, to: Self.march), Self.credit(2, 150, from: Self.march)]
        #expect(try await Self.balance(Self.bill(fee: 100, credits: short)) == -10)
    }

    @Test("what is to come counts for nothing yet")
    func future() async throws {
        let bill = Self.bill(fee: 100, credits: [Self.credit(1, 250), Self.credit(2, 500, from: Self.april)])
        #expect(try await Self.balance(bill) == 50)
    }

    @Test("a part of a month costs its part")
    func part() async throws {
        var bill = Self.bill(fee: 2_800, credits: [Self.credit(1, 10_000)])
        bill.stretches = [
            BalanceStretch(
                start: Self.february.advanced(byMilliseconds: 14 * 86_400_000), end: Self.march, timeZone: "UTC")
        ]
        #expect(try await Self.balance(bill) == 10_000 - 1_400)
    }

    @Test("late usage counts less what was billed, and is asked for once")
    func late() async throws {
        var bill = Self.bill(fee: 100, credits: [Self.credit(1, 1_000)])
        bill.stretches = [BalanceStretch(start: Self.march, end: Self.april, timeZone: "UTC")]
        bill.lateStretches = [
            BalanceStretch(start: Self.february, end: Self.march, timeZone: "UTC", billed: Micros(130))
        ]
        let finding = try #require(try await PrepaidBalancing(bill: bill).find())
        #expect(finding.balance.amount.value == 1_000 - 100 + 30)
        #expect(finding.late.value == -30 && finding.openSince == Self.march)
        bill.refusesLate = true
        #expect(try await Self.balance(bill, before: finding) == 930)
        await #expect(throws: Refusal.self) { try await Self.balance(bill) }
    }

    @Test("what a later invoice charges of an open month is not owed again")
    func charged() async throws {
        var bill = Self.bill(fee: 100, credits: [Self.credit(1, 1_000)])
        bill.charged = [(Self.february, 30), (Self.february.advanced(byMilliseconds: -1), 500), (Self.april, 500)]
        #expect(try await Self.balance(bill) == 1_000 - 70 - 100)
        bill.charged = [(Self.february, 130)]
        #expect(try await Self.balance(bill) == 1_000 + 30 - 100)
        // A credit that has ended pays what is still open, and no more of it.
        bill.charged = [(Self.february, 30)]
        bill.sources = [Self.credit(1, 60, to: Self.march), Self.credit(2, 500, from: Self.march)]
        #expect(try await Self.balance(bill) == 500 - 10 - 100)
    }

    @Test("an invoiced month is rated by the month of its middle, as its invoice was")
    func lateMonth() async throws {
        var bill = Self.bill(fee: 7_430, credits: [Self.credit(1, 1_000)])
        bill.stretches = []
        // Behind an invoice of UTC, March of New York has 748 hours, and 743 of them are its own.
        bill.lateStretches = [
            BalanceStretch(
                start: Self.march, end: Self.april.advanced(byMilliseconds: 4 * 3_600_000),
                timeZone: "America/New_York", billed: Micros(7_480))
        ]
        #expect(try await Self.balance(bill) == 1_000)
    }

    @Test("amounts that do not fit are refused and do not end the process")
    func overflow() async throws {
        await #expect(throws: Refusal.self) { try await Self.balance(Self.bill(fee: .max, credits: [])) }
        let credits = [Self.credit(1, .max, from: Self.march), Self.credit(2, .max, from: Self.march)]
        await #expect(throws: Refusal.self) { try await Self.balance(Self.bill(fee: 1, credits: credits)) }
        var bill = Self.bill(fee: 1, credits: [Self.credit(1, 1_000)])
        bill.charged = [(Self.february, .min)]
        await #expect(throws: Refusal.self) { try await Self.balance(bill) }
    }

    @Test("who is on nothing has no balance")
    func nothing() async throws {
        var bill = Self.bill(fee: 100, credits: [])
        bill.currencyInForce = nil
        #expect(try await Self.balance(bill) == nil)
    }
}
