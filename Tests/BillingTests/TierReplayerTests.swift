import Billing
import Domain
import TestSupport
import Testing

@Suite("Replays")
struct TierReplayerTests {
    private static let time = ManualTime("2026-04-10T00:00:00Z")
    private static let march = PeriodCalendar.utc.period(
        containing: Timestamp(rfc3339: "2026-03-15T00:00:00Z") ?? Timestamp(microsecondsSince1970: 0), frequency: .month
    )

    private static func terms(_ number: UInt64, code: String = "pro", price: Int64, currency: String = "EUR")
        -> TierTerms
    {
        TierTerms(
            tierVersionID: TierVersionID(high: 0, low: number), tierCode: code, version: Int32(number),
            currency: currency, rules: [PriceRule(meter: .request, model: "*", price: .flat(UnitPrice(picos: price)))])
    }

    private static func tenant(_ number: Int) -> TenantID { TenantID(high: 1, low: UInt64(number)) }

    /// Tenants 1 to `count` with as many requests as their number.
    private static func records(_ count: Int, on terms: TierTerms) -> FakeRating {
        var state = FakeRating.State()
        for number in 1...count {
            state.accounts.append(
                BillingAccount(tenantID: tenant(number), name: "Tenant \(number)", timeZone: "UTC"))
            state.inputs[tenant(number)] = [
                march.id: RatingInput(
                    spans: [SubscriptionSpan(tierVersionID: terms.tierVersionID, start: march.start, end: march.end)],
                    usage: [
                        UsageQuantity(
                            tierVersionID: terms.tierVersionID, model: "iris", requests: Int64(number), inputTokens: 0,
                            outputTokens: 0)
                    ], terms: [terms.tierVersionID: terms])
            ]
        }
        return FakeRating(state)
    }

    private static let order = ReplayOrder(scope: .tier, periods: 1, until: nil)
    private static let shock = BillShock(percent: 25, amount: Micros(100_000))

    @Test("the version that is in force reproduces every bill")
    func identity() async throws {
        let old = Self.terms(1, price: 1_000_000_000)
        let summary = try await TierReplayer(records: Self.records(250, on: old), time: Self.time).replay(
            old, Self.order, shock: Self.shock)
        #expect(summary.billCount == 250 && summary.before == summary.after && summary.before == 250 * 251 / 2 * 1_000)
        #expect(summary.winnerCount == 0 && summary.loserCount == 0 && summary.shockCount == 0)
    }

    @Test("all tenants are replayed, a page at a time, and only the bills that move most are kept")
    func many() async throws {
        let records = Self.records(250, on: Self.terms(1, price: 1_000_000_000))
        let summary = try await TierReplayer(records: records, time: Self.time).replay(
            Self.terms(2, price: 2_000_000_000), Self.order, shock: Self.shock)
        #expect(records.pages == 3)
        #expect(summary.billCount == 250 && summary.loserCount == 250 && summary.winnerCount == 0)
        #expect(summary.after == 2 * summary.before)
        #expect(summary.losers.count == ReplaySummary.listLimit)
        #expect(summary.losers.map(\.tenantID) == (151...250).reversed().map(Self.tenant))
        // A rise of 1,000 for each request: above 100,000 from 101 requests on.
        #expect(summary.shockCount == 150)
    }

    @Test("cheaper prices make winners, and bills of another tier do not move unless all are meant")
    func winners() async throws {
        let records = Self.records(3, on: Self.terms(1, code: "other", price: 1_000_000_000))
        let replayer = TierReplayer(records: records, time: Self.time)
        let cheap = Self.terms(2, price: 0)
        let none = try await replayer.replay(cheap, Self.order, shock: Self.shock)
        #expect(none.billCount == 0)
        let all = try await replayer.replay(
            cheap, ReplayOrder(scope: .all, periods: 1, until: nil), shock: Self.shock)
        #expect(all.billCount == 3 && all.winnerCount == 3 && all.after == 0)
        #expect(all.winners.first?.tenantID == Self.tenant(3))
        #expect(all.fingerprint != none.fingerprint)
    }

    @Test("what cannot be rated is counted and does not stop the others")
    func skipped() async throws {
        let euro = Self.terms(1, price: 1_000_000_000)
        let records = Self.records(2, on: euro)
        let summary = try await TierReplayer(records: records, time: Self.time).replay(
            Self.terms(2, price: .max), ReplayOrder(scope: .all, periods: 1, until: nil), shock: Self.shock)
        #expect(summary.skippedCount == 0 && summary.billCount == 2)
        let mixed = FakeRating(
            FakeRating.State(
                accounts: [BillingAccount(tenantID: Self.tenant(1), name: "Mixed", timeZone: "UTC")],
                inputs: [
                    Self.tenant(1): [
                        Self.march.id: RatingInput(
                            spans: [],
                            usage: [1, 3].map {
                                UsageQuantity(
                                    tierVersionID: TierVersionID(high: 0, low: $0), model: "iris", requests: 1,
                                    inputTokens: 0, outputTokens: 0)
                            },
                            terms: [
                                euro.tierVersionID: euro,
                                TierVersionID(high: 0, low: 3): Self.terms(
                                    3, code: "dollar", price: 1, currency: "USD"),
                            ])
                    ]
                ]))
        let refused = try await TierReplayer(records: mixed, time: Self.time).replay(
            euro, Self.order, shock: Self.shock)
        #expect(refused.skippedCount == 1 && refused.billCount == 0)
    }

    @Test(
        "bills of another currency are counted and not added, and terms that sums do not show are named where there were any"
    )
    func currencies() async throws {
        let records = Self.records(3, on: Self.terms(1, code: "dollar", price: 1_000_000_000, currency: "USD"))
        let replayer = TierReplayer(records: records, time: Self.time)
        let all = ReplayOrder(scope: .all, periods: 1, until: nil)
        let euro = try await replayer.replay(Self.terms(2, price: 0), all, shock: Self.shock)
        #expect(euro.billCount == 0 && euro.skippedCount == 3 && euro.before == 0)
        await #expect(throws: RatingFailure.mixedCurrencies) {
            _ = try await replayer.bills(Self.tenant(1), Self.terms(2, price: 0), all)
        }
        let hits = TierTerms(
            tierVersionID: TierVersionID(high: 0, low: 3), tierCode: "dollar", version: 3, currency: "USD",
            cacheHitTokenPercent: 10)
        let dollar = try await replayer.replay(hits, all, shock: Self.shock)
        // Nothing of their usage was a hit.
        #expect(
            dollar.billCount == 3 && dollar.approximateCount == 0 && dollar.unseen.isEmpty && dollar.reratedHits == 0)
    }

    @Test(
        "hits are charged by the other version's percentage, and how many were is told; left streams are told where they cannot be"
    )
    func otherTerms() async throws {
        func terms(_ number: UInt64, percent: Int64, leave: StreamLeave) -> TierTerms {
            TierTerms(
                tierVersionID: TierVersionID(high: 0, low: number), tierCode: "pro", version: Int32(number),
                currency: "EUR",
                rules: [PriceRule(meter: .outputToken, model: "*", price: .flat(UnitPrice(picos: 1_000_000)))],
                cacheHitTokenPercent: percent, streamLeave: leave)
        }
        let old = terms(1, percent: 50, leave: .drain)
        var state = FakeRating.State(accounts: [BillingAccount(tenantID: Self.tenant(1), name: "One", timeZone: "UTC")])
        let used = UsageQuantity(
            tierVersionID: old.tierVersionID, model: "iris", requests: 4, inputTokens: 0, outputTokens: 1_000,
            termed: TermedUsage(
                hits: 2, servedOutputTokens: 401, hitOutputTokens: 200, leftStreams: 2, drainedStreams: 1,
                drainedOutputTokens: 90, drainedDeliveredTokens: 30))
        state.inputs[Self.tenant(1)] = [
            Self.march.id: RatingInput(spans: [], usage: [used], terms: [old.tierVersionID: old])
        ]
        let replayer = TierReplayer(records: FakeRating(state), time: Self.time)
        func replay(_ terms: TierTerms) async throws -> ReplaySummary {
            try await replayer.replay(terms, Self.order, shock: Self.shock)
        }
        let same = try await replay(old)
        #expect(same.before == 1_000 && same.after == 1_000 && same.reratedHits == 0)
        let dear = try await replay(terms(2, percent: 100, leave: .cancel))
        #expect(dear.after == 1_000 - 200 + 401 - 90 + 30 && dear.reratedHits == 2 && dear.approximateCount == 0)
        let bill = try #require(
            try await replayer.bills(Self.tenant(1), terms(2, percent: 0, leave: .drain), Self.order)?.first)
        #expect(bill.after.subtotal == Micros(800) && bill.reratedHits == 2 && bill.unseen.isEmpty)
        let cancelled = TierTerms(
            tierVersionID: old.tierVersionID, tierCode: "pro", version: 1, currency: "EUR", cacheHitTokenPercent: 50,
            streamLeave: .cancel)
        state.inputs[Self.tenant(1)] = [
            Self.march.id: RatingInput(spans: [], usage: [used], terms: [old.tierVersionID: cancelled])
        ]
        let unknown = try await TierReplayer(records: FakeRating(state), time: Self.time).replay(
            terms(2, percent: 50, leave: .drain), Self.order, shock: Self.shock)
        #expect(unknown.approximateCount == 1 && unknown.unseen == [.streamLeave])
    }

    @Test("months are those of the order, and one tenant's bills come line by line")
    func months() async throws {
        let old = Self.terms(1, price: 1_000_000_000)
        let replayer = TierReplayer(records: Self.records(2, on: old), time: Self.time)
        let march = try #require(CivilDate(iso8601: "2026-03-01"))
        let february = try #require(CivilDate(iso8601: "2026-02-01"))
        let bills = try #require(
            try await replayer.bills(
                Self.tenant(2), old, ReplayOrder(scope: .tier, periods: 2, until: march)))
        #expect(bills.map(\.period.id) == [Self.march.id])
        #expect(bills.first?.after.lines.map(\.amount) == [Micros(2_000)])
        let none = try await replayer.bills(
            Self.tenant(2), old, ReplayOrder(scope: .tier, periods: 1, until: february))
        #expect(none?.isEmpty == true)
        #expect(try await replayer.bills(Self.tenant(9), old, Self.order) == nil)
    }

    @Test("a shock is more than the percentage and more than the amount")
    func shocks() {
        func bill(_ before: Int64, _ after: Int64) -> ReplayedBill {
            ReplayedBill(
                tenantID: Self.tenant(1), name: "", periodID: "", before: Micros(before), after: Micros(after))
        }
        let shock = BillShock(percent: 25, amount: Micros(10))
        #expect(!shock.isMet(by: bill(100, 125)) && shock.isMet(by: bill(100, 126)))
        #expect(!shock.isMet(by: bill(8, 18)) && shock.isMet(by: bill(8, 19)))
        #expect(!shock.isMet(by: bill(100, 50)))
    }
}
