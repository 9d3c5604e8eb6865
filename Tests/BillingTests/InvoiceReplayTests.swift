import Domain
import TestSupport
import Testing

@testable import Billing

/// The books of one tenant, in memory: what was used so far and what was issued.
private struct Books {
    private(set) var issued: [IssuedInvoice] = []
    var used: [Timestamp: [UsageQuantity]] = [:]
    let stays: [TenantStay]
    let terms: [TierVersionID: TierTerms]
    private var clock: Int64 = 1_800_000_000_000_000

    init(stays: [TenantStay], terms: [TierVersionID: TierTerms]) {
        self.stays = stays
        self.terms = terms
    }

    private var standing: [IssuedInvoice] { issued.filter { $0.voidedAt == nil } }

    func isIssued(_ period: BillingPeriod) -> Bool { standing.contains { $0.period.start == period.start } }

    /// Composes the invoices of a period as the product does, and keeps them.
    mutating func issue(_ period: BillingPeriod) async throws {
        let drafts = try await InvoiceComposer().drafts(Bill(books: self), period)
        clock += 1_000
        for draft in drafts {
            issued.append(
                IssuedInvoice(
                    id: InvoiceID(high: 7, low: UInt64(issued.count + 1)), tenantID: TenantID(high: 1, low: 1),
                    number: "INV-\(issued.count + 1)", periodID: period.month.id, periodStart: period.start,
                    periodEnd: period.end, timeZone: period.timeZone, currency: draft.currency,
                    subtotal: draft.subtotal, finalisedAt: Timestamp(microsecondsSince1970: clock), voidedAt: nil,
                    lines: draft.lines,
                    charged: draft.usage.map { IssuedInvoice.Charged(periodStart: $0.periodStart, usage: $0.usage) }))
        }
    }

    mutating func void(_ index: Int) {
        clock += 1_000
        issued[index] = issued[index].changed(voidedAt: Timestamp(microsecondsSince1970: clock))
    }

    mutating func set(_ invoice: IssuedInvoice, at index: Int) { issued[index] = invoice }

    func replay() async throws -> InvoiceReplayer.Summary {
        var state = FakeRating.State()
        state.invoices = issued
        state.stays = [TenantID(high: 1, low: 1): stays]
        state.terms = terms
        return try await InvoiceReplayer(records: FakeRating(state)).replay(only: nil)
    }

    private struct Bill: BillReading {
        let books: Books
        let account = BillingAccount(tenantID: TenantID(high: 1, low: 1), name: "Example", timeZone: "UTC")
        let now = Timestamp(microsecondsSince1970: 0)

        func reading(from start: Timestamp, to end: Timestamp) async throws -> BillingReading {
            let spans = books.stays.flatMap { stay -> [SubscriptionSpan] in
                let (first, last) = (max(stay.startsAt, start), min(stay.endsAt ?? end, end))
                return first < last
                    ? [SubscriptionSpan(tierVersionID: stay.tierVersionID, start: first, end: last)] : []
            }
            return BillingReading(
                input: RatingInput(spans: spans, usage: books.used[start] ?? [], terms: books.terms), seen: "s")
        }

        func billed(before end: Timestamp, limit: Int) async throws -> [BilledPeriod] {
            let starts = Set(books.standing.map(\.period).filter { $0.start < end })
            return starts.sorted { $0.start > $1.start }.prefix(limit).map { charged(in: $0) }
        }

        func billed(_ period: Period) async throws -> BilledPeriod { charged(in: period) }

        private func charged(in period: Period) -> BilledPeriod {
            let own = books.standing.filter { $0.period.start == period.start }
            return BilledPeriod(
                start: period.start, end: period.end, timeZone: own.first?.timeZone ?? "UTC",
                lines: books.standing.flatMap(\.lines).filter {
                    period.contains($0.start) && $0.kind != .carriedCredit
                },
                usage: books.standing.flatMap(\.charged).filter { $0.periodStart == period.start }.map(\.usage),
                seen: nil, settledCurrencies: Set(own.map(\.currency)))
        }

        func credits(_ currency: String) async throws -> [CreditSource] { [] }
    }
}

extension IssuedInvoice {
    /// This one with something else in it.
    fileprivate func changed(
        voidedAt: Timestamp? = nil, subtotal: Micros? = nil, lines: [InvoiceLine]? = nil
    ) -> IssuedInvoice {
        IssuedInvoice(
            id: id, tenantID: tenantID, number: number, periodID: period.id, periodStart: period.start,
            periodEnd: period.end, timeZone: timeZone, currency: currency, subtotal: subtotal ?? self.subtotal,
            finalisedAt: finalisedAt, voidedAt: voidedAt ?? self.voidedAt, lines: lines ?? self.lines,
            charged: charged)
    }
}

extension InvoiceLine {
    fileprivate func moved(by micros: Int64) -> InvoiceLine {
        InvoiceLine(
            kind: kind, tierVersionID: tierVersionID, model: model, meter: meter, band: band, description: description,
            start: start, end: end, quantityMillionths: quantityMillionths, unitPrice: unitPrice,
            amount: Micros(amount.value + micros))
    }
}

@Suite("Replay of issued invoices")
struct InvoiceReplayTests {
    private static let seconds = [1_772_400_000, 1_775_100_000, 1_777_700_000] as [Int64]
    private static let months = seconds.compactMap { month($0, "UTC") }

    /// March in New York, the hours of April that are left after a move to Berlin, and May there.
    private static var movedMonths: [BillingPeriod] {
        guard let march = month(seconds[0], "America/New_York"), let april = month(seconds[1], "Europe/Berlin"),
            let may = month(seconds[2], "Europe/Berlin"),
            let rest = BillingPeriod(start: march.end, end: april.end, timeZone: april.timeZone)
        else { return [] }
        return [march, rest, may]
    }

    private static func month(_ seconds: Int64, _ zone: String) -> BillingPeriod? {
        guard let calendar = PeriodCalendar(timeZone: zone) else { return nil }
        let month = calendar.period(
            containing: Timestamp(microsecondsSince1970: seconds * 1_000_000), frequency: .month)
        return BillingPeriod(start: month.start, end: month.end, timeZone: zone)
    }

    private static func version(_ number: UInt64) -> TierVersionID { TierVersionID(high: 2, low: number) }

    private static func terms(
        _ number: UInt64, _ currency: String, _ random: inout SeededRandom
    ) -> TierTerms {
        func price() -> UnitPrice { UnitPrice(picos: .random(in: 0...9_000_000_001, using: &random)) }
        let bands = [PriceBand(upTo: 40, unitPrice: price()), PriceBand(upTo: nil, unitPrice: price())]
        return TierTerms(
            tierVersionID: version(number), tierCode: "t\(number)", version: 1, currency: currency,
            baseFee: Micros(.random(in: 0...90_000, using: &random)),
            minimumCommitment: Micros(Bool.random(using: &random) ? 0 : 5_000_000),
            includedRequests: .random(in: 0...20, using: &random),
            rules: [
                PriceRule(meter: .request, model: "*", price: .graduated(bands)),
                PriceRule(meter: .inputToken, model: "*", price: .volume(bands)),
                PriceRule(meter: .outputToken, model: "*", price: .package(size: 7, price: price())),
            ])
    }

    private static func books(_ random: inout SeededRandom, currency: String = "EUR") -> Books {
        let middle = Timestamp(
            microsecondsSince1970: months[1].start.microsecondsSince1970 + 9 * 86_400_000_000 + 17)
        return Books(
            stays: [
                TenantStay(
                    tierVersionID: version(1), startsAt: Timestamp(microsecondsSince1970: 0), endsAt: middle,
                    trialEndsAt: nil),
                TenantStay(tierVersionID: version(2), startsAt: middle, endsAt: nil, trialEndsAt: nil),
            ], terms: [version(1): terms(1, "EUR", &random), version(2): terms(2, currency, &random)])
    }

    private static func usage(_ random: inout SeededRandom) -> UsageQuantity {
        UsageQuantity(
            tierVersionID: version(.random(in: 1...2, using: &random)),
            model: ["alpha", "beta"].randomElement(using: &random) ?? "",
            requests: .random(in: -40...40, using: &random), inputTokens: .random(in: -60...60, using: &random),
            outputTokens: .random(in: -30...30, using: &random))
    }

    /// Months in any order, late usage, corrections, invoices that are void and made anew.
    private static func history(
        _ random: inout SeededRandom, _ months: [BillingPeriod] = months, currency: String = "EUR"
    ) async throws -> Books {
        var books = books(&random, currency: currency)
        for _ in 0..<14 {
            let month = months.randomElement(using: &random) ?? months[0]
            switch Int.random(in: 0..<4, using: &random) {
            case 0, 1: books.used[month.start, default: []].append(usage(&random))
            case 2: if !books.isIssued(month) { try await books.issue(month) }
            default:
                let standing = books.issued.indices.filter { books.issued[$0].voidedAt == nil }
                if let index = standing.randomElement(using: &random), Bool.random(using: &random) { books.void(index) }
            }
        }
        return books
    }

    @Test("whatever happened, every invoice that stands is what its own usage costs")
    func identity() async throws {
        var random = SeededRandom(seed: 41)
        var (count, late, voided, carried) = (0, 0, 0, 0)
        for round in 0..<400 {
            let books = try await Self.history(&random)
            let summary = try await books.replay()
            #expect(summary.differing.isEmpty && summary.differingCount == 0, "round \(round)")
            #expect(summary.count == books.issued.count { $0.voidedAt == nil })
            count += summary.count
            voided += books.issued.count { $0.voidedAt != nil }
            late += books.issued.flatMap(\.lines).count { $0.kind == .lateUsage }
            carried += books.issued.flatMap(\.lines).count { $0.kind == .carriedCredit }
        }
        #expect(count > 300 && late > 100 && voided > 100 && carried > 10, "\(count) \(late) \(voided) \(carried)")
    }

    @Test("so is every invoice of a tenant with two currencies that moved to another time zone")
    func currenciesAndZones() async throws {
        var random = SeededRandom(seed: 47)
        let months = Self.movedMonths
        let rest = try #require(months.dropFirst().first)
        #expect(rest.start > rest.month.start)
        var (ofBoth, ofFeesAlone, ofRest) = (0, 0, 0)
        for round in 0..<400 {
            let books = try await Self.history(&random, months, currency: "USD")
            let summary = try await books.replay()
            #expect(summary.differing.isEmpty && summary.differingCount == 0, "round \(round)")
            ofBoth += Set(books.issued.map(\.currency)).count == 2 ? 1 : 0
            for invoice in books.issued {
                let late = Set(invoice.lines.map(\.start).filter { $0 < invoice.period.start })
                ofFeesAlone += late.subtracting(invoice.charged.map(\.periodStart)).count
                ofRest += late.contains(rest.start) ? 1 : 0
            }
        }
        #expect(ofBoth > 100 && ofFeesAlone > 5 && ofRest > 20, "\(ofBoth) \(ofFeesAlone) \(ofRest)")
    }

    @Test("a line, two lines or a subtotal that say something else are found, and nothing beside them")
    func changes() async throws {
        var random = SeededRandom(seed: 43)
        var found = 0
        for round in 0..<200 {
            var books = try await Self.history(&random)
            let standing = books.issued.indices.filter {
                books.issued[$0].voidedAt == nil && books.issued[$0].lines.count > 1
            }
            guard let index = standing.randomElement(using: &random) else { continue }
            let invoice = books.issued[index]
            var lines = invoice.lines
            let line = Int.random(in: 0..<lines.count, using: &random)
            switch round % 3 {
            case 0:
                lines[line] = lines[line].moved(by: 1)
                books.set(invoice.changed(lines: lines), at: index)
            case 1:
                // The sum stays what it was: only the lines can tell.
                let places = lines.indices.filter {
                    lines[$0].kind != .carriedCredit
                        && (lines[$0].model, lines[$0].meter, lines[$0].tierVersionID)
                            != (lines[line].model, lines[line].meter, lines[line].tierVersionID)
                }
                guard lines[line].kind != .carriedCredit, let other = places.first else { continue }
                lines[line] = lines[line].moved(by: 1)
                lines[other] = lines[other].moved(by: -1)
                books.set(invoice.changed(lines: lines), at: index)
            default: books.set(invoice.changed(subtotal: Micros(invoice.subtotal.value + 1)), at: index)
            }
            let summary = try await books.replay()
            #expect(summary.differing.map(\.invoice.id) == [invoice.id], "round \(round)")
            #expect(summary.differing.first?.replayed == Int128(invoice.subtotal.value))
            found += 1
        }
        #expect(found > 100)
    }

    @Test("all tenants are gone through, a page at a time, and the first hundred invoices that differ are named")
    func many() async throws {
        var random = SeededRandom(seed: 6)
        var books = Self.books(&random)
        try await books.issue(Self.months[0])
        let one = try #require(books.issued.first)
        var state = FakeRating.State()
        state.terms = books.terms
        for number in 1...250 as ClosedRange<UInt64> {
            let tenant = TenantID(high: 1, low: number)
            state.stays[tenant] = books.stays
            state.invoices.append(
                IssuedInvoice(
                    id: InvoiceID(high: 7, low: number), tenantID: tenant, number: "INV-\(number)",
                    periodID: one.period.id, periodStart: one.period.start, periodEnd: one.period.end,
                    timeZone: one.timeZone, currency: one.currency,
                    subtotal: Micros(one.subtotal.value + (number > 120 ? 1 : 0)), finalisedAt: one.finalisedAt,
                    voidedAt: nil, lines: one.lines, charged: one.charged))
        }
        let summary = try await InvoiceReplayer(records: FakeRating(state)).replay(only: nil)
        #expect(summary.count == 250 && summary.equalCount == 120 && summary.differingCount == 130)
        #expect(summary.differing.map(\.invoice.id.low) == Array(121...220))
    }

    @Test("what cannot be rated differs, and says that it cannot")
    func unrateable() async throws {
        var random = SeededRandom(seed: 5)
        var books = Self.books(&random)
        try await books.issue(Self.months[0])
        var state = FakeRating.State()
        state.invoices = books.issued
        state.stays = [TenantID(high: 1, low: 1): books.stays]
        let summary = try await InvoiceReplayer(records: FakeRating(state)).replay(only: TenantID(high: 1, low: 1))
        #expect(summary.count == 1 && summary.equalCount == 0)
        #expect(summary.differing.first?.replayed == nil)
        let nobody = try await InvoiceReplayer(records: FakeRating(state)).replay(only: TenantID(high: 9, low: 9))
        #expect(nobody.count == 0)
    }
}
