import Domain
import Testing

@Suite("which credits pay what of a period")
struct CreditBurnTests {
    private static let march = PeriodCalendar.utc.period(containing: day(10), frequency: .month)

    /// The start of a day of March 2026.
    private static func day(_ number: Int) -> Timestamp {
        Timestamp(microsecondsSince1970: 1_772_323_200_000_000 + Int64(number - 1) * 86_400_000_000)
    }

    private static func grant(
        _ number: UInt64, _ remaining: Int64, priority: Int16 = 100, from: Int = -30, to: Int? = nil
    ) -> CreditSource {
        CreditSource(
            grantID: CreditGrantID(high: 1, low: number), remaining: Micros(remaining), priority: priority,
            effectiveAt: day(from), expiresAt: to.map(day))
    }

    /// A period with these cuts (days) and totals up to each cut behind the first; paid amounts by grant.
    private func paid(_ totals: [Int64], _ sources: [CreditSource], cuts days: [Int]) -> [UInt64: Int64] {
        let burn = CreditBurn(period: Self.march)
        let cuts = burn.cuts(sources)
        #expect(cuts == days.map(Self.day))
        let applications = burn.burn(totals: totals.map(Micros.init), cuts: cuts, sources: sources)
        #expect(applications.allSatisfy { $0.amount > .zero })
        return Dictionary(applications.map { ($0.grantID.low, $0.amount.value) }) { $0 + $1 }
    }

    @Test("a grant over the whole period pays what it can and no more")
    func whole() {
        #expect(paid([1_000_000], [Self.grant(1, 250_000)], cuts: [1, 32]) == [1: 250_000])
        #expect(paid([100_000], [Self.grant(1, 250_000)], cuts: [1, 32]) == [1: 100_000])
        #expect(paid([0], [Self.grant(1, 250_000)], cuts: [1, 32]) == [:])
        #expect(paid([-5], [Self.grant(1, 250_000)], cuts: [1, 32]) == [:])
    }

    @Test("a grant that ends inside the period pays for what was used before its end alone")
    func expires() {
        // 300,000 by the tenth, 1,000,000 in all.
        #expect(paid([300_000, 1_000_000], [Self.grant(1, 500_000, to: 10)], cuts: [1, 10, 32]) == [1: 300_000])
        // One that begins on the tenth pays for the rest.
        #expect(paid([300_000, 1_000_000], [Self.grant(1, 900_000, from: 10)], cuts: [1, 10, 32]) == [1: 700_000])
        // Ended before, or begins behind: nothing, and no cut.
        #expect(paid([700], [Self.grant(1, 500, to: -1), Self.grant(2, 5, from: 32)], cuts: [1, 32]) == [:])
    }

    @Test("the smaller priority pays first, then what ends first, then the smaller id")
    func order() {
        let sources = [
            Self.grant(1, 100), Self.grant(2, 100, to: 40), Self.grant(3, 100, to: 35), Self.grant(4, 100, priority: 5),
            Self.grant(5, 100),
        ]
        #expect(paid([100], sources, cuts: [1, 32]) == [4: 100])
        #expect(paid([250], sources, cuts: [1, 32]) == [4: 100, 3: 100, 2: 50])
        #expect(paid([460], sources, cuts: [1, 32]) == [4: 100, 3: 100, 2: 100, 1: 100, 5: 60])
    }

    @Test("overlapping grants share the segments in which both are valid")
    func overlap() {
        // Days 1-9: 400; 10-19: 300; 20-31: 200. The first is valid to the 20th, the second from the 10th.
        let sources = [Self.grant(1, 550, to: 20), Self.grant(2, 1_000, from: 10)]
        #expect(paid([400, 700, 900], sources, cuts: [1, 10, 20, 32]) == [1: 550, 2: 350])
        // The other one first.
        let turned = [Self.grant(1, 550, priority: 200, to: 20), Self.grant(2, 250, from: 10)]
        #expect(paid([400, 700, 900], turned, cuts: [1, 10, 20, 32]) == [1: 450, 2: 250])
    }

    @Test("a negative segment is set against those behind it, and nothing is paid twice")
    func negative() {
        let sources = [Self.grant(1, 10_000, from: 10), Self.grant(2, 10_000, to: 5)]
        // 500 by the fifth, 100 by the tenth (volume prices), 300 in the end: the second paid 500 and gets 200 back.
        #expect(paid([500, 100, 300], sources, cuts: [1, 5, 10, 32]) == [2: 300])
        // Down to nothing.
        #expect(paid([500, -100, -50], sources, cuts: [1, 5, 10, 32]) == [:])
        #expect(paid([500, 100, 800], sources, cuts: [1, 5, 10, 32]) == [2: 500, 1: 300])
    }
}
