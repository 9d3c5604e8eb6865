import Domain
import TestSupport
import Testing

@Suite("Thresholds of quotas") struct QuotaThresholdsTests {
    private static let start = Timestamp(microsecondsSince1970: 1_772_323_200_000_000)

    private func standing(
        used: Int64, allowed: Int64, mode: QuotaMode = .hard, thresholds: QuotaThresholds = .standard,
        raised: Set<Int16> = []
    ) -> QuotaStanding {
        QuotaStanding(
            quotaID: QuotaID(high: 1, low: 1), tenantID: TenantID(high: 0, low: 1), mode: mode,
            periodStart: Self.start, periodEnd: Self.start.advanced(byMilliseconds: 60_000), amount: allowed,
            allowed: allowed, used: used, thresholds: thresholds, raised: raised, seenAt: Self.start)
    }

    @Test(
        "a list ascends, is within 1 and 1000, and has at most ten",
        arguments: [
            ([], true), ([1], true), ([1_000], true), ([50, 80, 100], true), (Array(1...10), true), ([0], false),
            ([1_001], false), ([-1], false), ([50, 50], false), ([80, 50], false), (Array(1...11), false),
        ] as [([Int16], Bool)])
    func lists(percents: [Int16], isValid: Bool) {
        let thresholds = QuotaThresholds(percents)
        #expect((thresholds != nil) == isValid)
        #expect(thresholds?.percents == (isValid ? percents : nil))
        if let thresholds { #expect(QuotaThresholds(text: thresholds.text) == thresholds) }
    }

    @Test("a text that is no list is none", arguments: ["a", "50,", ",50", "50;80", "80,50", "99999999"])
    func texts(text: String) { #expect(QuotaThresholds(text: text) == nil) }

    @Test("a threshold is reached at its share and not a unit before, whatever the limit")
    func edges() throws {
        var random = SeededRandom(seed: 7)
        for _ in 0..<10_000 {
            let percent = Int16.random(in: 1...1_000, using: &random)
            let allowed = Int64.random(in: 1...(1 << Int64.random(in: 1...50, using: &random)), using: &random)
            // The least number of units with units * 100 >= allowed * percent.
            let edge = (allowed * Int64(percent) + 99) / 100
            let thresholds = try #require(QuotaThresholds([percent]))
            #expect(thresholds.reached(used: edge, allowed: allowed) == [percent])
            #expect(edge == 1 || thresholds.reached(used: edge - 1, allowed: allowed).isEmpty)
        }
    }

    @Test("what was reached stays reached as use grows, and the thresholds come in order")
    func monotonic() throws {
        var random = SeededRandom(seed: 11)
        for _ in 0..<1_000 {
            let count = Int.random(in: 0...10, using: &random)
            let percents = Set((0..<count).map { _ in Int16.random(in: 1...1_000, using: &random) }).sorted()
            let thresholds = try #require(QuotaThresholds(percents))
            let allowed = Int64.random(in: 0...1_000, using: &random)
            var before: [Int16] = []
            for used in stride(from: Int64(0), through: 10_000, by: 97) {
                let reached = thresholds.reached(used: used, allowed: allowed)
                #expect(reached.starts(with: before) && percents.starts(with: reached))
                before = reached
            }
            if allowed > 0 { #expect(thresholds.reached(used: allowed * 10, allowed: allowed) == percents) }
        }
    }

    @Test("numbers at the edge of 64 bits are compared exactly")
    func extremes() {
        #expect(QuotaThresholds.standard.reached(used: .max, allowed: .max) == [50, 80, 100])
        #expect(QuotaThresholds.standard.reached(used: .max - 1, allowed: .max) == [50, 80])
        #expect(QuotaThresholds.standard.reached(used: 0, allowed: 0).isEmpty)
        #expect(QuotaThresholds.standard.reached(used: 1, allowed: 0) == [50, 80, 100])
    }

    @Test("over any history of use, limits and looks each threshold becomes due once")
    func onceEach() {
        var random = SeededRandom(seed: 13)
        for _ in 0..<500 {
            var raised: Set<Int16> = []
            var used: Int64 = 0
            for _ in 0..<40 {
                used += Int64.random(in: 0...80, using: &random)
                // Limits are raised and lowered meanwhile.
                let now = standing(
                    used: used, allowed: Int64.random(in: 1...2_000, using: &random), raised: raised)
                let due = now.dueThresholds
                #expect(raised.isDisjoint(with: due))
                raised.formUnion(due)
                #expect(raised.isSuperset(of: now.thresholds.reached(used: used, allowed: now.allowed)))
            }
        }
    }

    @Test("only a limit that does not refuse is exceeded, and only beyond it")
    func exceeded() {
        for mode in QuotaMode.allCases {
            #expect(!standing(used: 100, allowed: 100, mode: mode).isExceeded)
            #expect(standing(used: 101, allowed: 100, mode: mode).isExceeded == (mode != .hard))
        }
    }

    @Test("units lie within the limit or beyond it, and both parts are all of them")
    func beyond() {
        var random = SeededRandom(seed: 17)
        for _ in 0..<5_000 {
            let (used, units) = (Int64.random(in: 0...300, using: &random), Int64.random(in: 0...300, using: &random))
            let amount = Int64.random(in: 0...300, using: &random)
            let quota = Quota(
                id: QuotaID(high: 1, low: 1), unit: .tokens, frequency: .month, amount: amount, mode: .payAsYouGo)
            let expected = (used..<(used + units)).count { $0 >= amount }
            #expect(quota.beyond(units: units, after: used) == Int64(expected))
        }
        let huge = Quota(id: QuotaID(high: 1, low: 1), unit: .tokens, frequency: .month, amount: 5, mode: .soft)
        #expect(huge.beyond(units: .max, after: .max) == 0)
        #expect(huge.beyond(units: .max, after: 0) == .max - 5)
        let hard = Quota(id: QuotaID(high: 1, low: 1), unit: .tokens, frequency: .month, amount: 5, mode: .hard)
        #expect(hard.beyond(units: 10, after: 10) == 0)
    }
}
