import Billing
import Domain
import Testing

@Suite("Usage reports") struct UsageReporterTests {
    private static let first = TierVersionID(high: 0, low: 1)
    private static let second = TierVersionID(high: 0, low: 2)
    private static let keyA = KeyID(high: 0, low: 10)
    private static let keyB = KeyID(high: 0, low: 11)

    private static func sheet(_ id: TierVersionID, picos: Int64, currency: String = "EUR") -> PriceSheet {
        PriceSheet(
            tierVersionID: id, tierCode: "pro", version: 1, currency: currency,
            prices: [
                .init(meter: .request, model: "*", unitPrice: UnitPrice(picos: picos)),
                .init(meter: .inputToken, model: "dear", unitPrice: UnitPrice(picos: picos * 10)),
            ])
    }

    private static func row(
        day: Int = 0, model: String = "iris", version: TierVersionID = first, key: KeyID? = keyA, requests: Int64 = 1,
        input: Int64 = 0,
        cached: Int64 = 0, output: Int64 = 0
    ) -> UsageRow {
        UsageRow(
            day: day, model: model, tierVersionID: version, keyID: key, requests: requests, inputTokens: input,
            cachedInputTokens: cached,
            outputTokens: output)
    }

    private func report(
        _ rows: [UsageRow], sheets: [PriceSheet] = [sheet(first, picos: 1_000_000), sheet(second, picos: 3_000_000)],
        byDay: Bool = false,
        byModel: Bool = false, byKey: Bool = false
    ) throws(UsageReporter.Failure) -> UsageReporter.Report {
        var known: [TierVersionID: PriceSheet] = [:]
        for sheet in sheets { known[sheet.tierVersionID] = sheet }
        var dimensions: Set<UsageReporter.Dimension> = []
        if byDay { dimensions.insert(.day) }
        if byModel { dimensions.insert(.model) }
        if byKey { dimensions.insert(.key) }
        return try UsageReporter().report(rows, sheets: known, by: dimensions)
    }

    @Test("nothing used is an empty report of no cost and no currency")
    func empty() throws {
        let report = try report([])
        #expect(
            report.lines.isEmpty && report.total.cost == .zero && report.total.requests == 0 && report.currency == "")
    }

    @Test("without a grouping everything is one line")
    func one() throws {
        let report = try report([
            Self.row(day: 0, model: "a", requests: 2, input: 5, cached: 1, output: 7),
            Self.row(day: 3, model: "b", key: Self.keyB, requests: 3),
        ])
        #expect(report.lines.count == 1)
        let line = try #require(report.lines.first)
        #expect(line.day == nil && line.model == nil && line.keyID == nil)
        #expect(line.requests == 5 && line.inputTokens == 5 && line.cachedInputTokens == 1 && line.outputTokens == 7)
        #expect(line.cost == Micros(5) && report.currency == "EUR")
    }

    @Test("lines are grouped as asked and sorted by day, model and key")
    func grouped() throws {
        let rows = [
            Self.row(day: 1, model: "a"), Self.row(day: 0, model: "b", key: Self.keyB), Self.row(day: 0, model: "b"),
            Self.row(day: 0, model: "a"), Self.row(day: 0, model: "b"),
        ]
        #expect(try report(rows, byDay: true).lines.map(\.day) == [0, 1])
        #expect(try report(rows, byModel: true).lines.map(\.model) == ["a", "b"])
        #expect(try report(rows, byKey: true).lines.map(\.keyID) == [Self.keyA, Self.keyB])
        let all = try report(rows, byDay: true, byModel: true, byKey: true).lines
        #expect(all.map(\.requests) == [1, 2, 1, 1])
        #expect(all.map(\.model) == ["a", "b", "b", "a"])
        #expect(all.map(\.keyID) == [Self.keyA, Self.keyA, Self.keyB, Self.keyA])
    }

    @Test("a row without a key comes first, whatever the order of the rows")
    func noKey() throws {
        let keys: [KeyID?] = [nil] + (1...9).map { KeyID(high: 0, low: $0) }
        for shift in 0..<keys.count {
            let rows = (0..<keys.count).map { Self.row(key: keys[($0 * 7 + shift) % keys.count]) }
            #expect(try report(rows, byKey: true).lines.map(\.keyID) == keys)
        }
    }

    @Test("each row is rated by the price version of its own entries")
    func versions() throws {
        let report = try report([Self.row(requests: 10), Self.row(version: Self.second, requests: 10)])
        #expect(report.lines.map(\.cost) == [Micros(40)])
        #expect(report.total.cost == Micros(40))
    }

    @Test("each row is rated by its model, grouped by it or not")
    func models() throws {
        let rows = [Self.row(model: "dear", requests: 0, input: 2), Self.row(model: "cheap", requests: 0, input: 2)]
        #expect(try report(rows).total.cost == Micros(20))
        #expect(try report(rows, byModel: true).lines.map(\.cost) == [Micros(0), Micros(20)])
    }

    @Test("a line is rounded once, and the total is the sum of the lines as they are shown")
    func rounding() throws {
        // Half a micro-unit per request: three lines of 0.5 round to 0 each, one line of 1.5 to 2.
        let sheets = [Self.sheet(Self.first, picos: 500_000)]
        let rows = (0..<3).map { Self.row(day: $0) }
        let byDay = try report(rows, sheets: sheets, byDay: true)
        #expect(byDay.lines.map(\.cost) == [.zero, .zero, .zero])
        #expect(byDay.total.cost == .zero)
        #expect(try report(rows, sheets: sheets).total.cost == Micros(2))
    }

    @Test("the total adds up every column of the lines")
    func total() throws {
        let rows = (0..<50).map {
            Self.row(
                day: $0 % 7, model: $0 % 2 == 0 ? "dear" : "b", requests: Int64($0), input: Int64($0 * 3), cached: 1,
                output: 2)
        }
        let report = try report(rows, byDay: true, byModel: true)
        #expect(report.total.requests == report.lines.reduce(0) { $0 + $1.requests })
        #expect(report.total.requests == 1_225)
        #expect(report.total.inputTokens == 3_675)
        #expect(report.total.cachedInputTokens == 50 && report.total.outputTokens == 100)
        #expect(report.total.cost == report.lines.reduce(.zero) { $0 + $1.cost })
    }

    @Test("amounts of different currencies are not added up")
    func currencies() throws {
        let sheets = [Self.sheet(Self.first, picos: 1), Self.sheet(Self.second, picos: 1, currency: "USD")]
        #expect(throws: UsageReporter.Failure.mixedCurrencies) {
            try report([Self.row(), Self.row(version: Self.second)], sheets: sheets, byDay: true)
        }
        #expect(try report([Self.row(version: Self.second)], sheets: sheets).currency == "USD")
    }

    @Test("what the caller can do about is told apart from what is our defect")
    func refusals() {
        #expect(UsageReporter.Failure.mixedCurrencies.refusal.code == .conflict)
        #expect(UsageReporter.Failure.amountTooLarge.refusal.code == .internalError)
        #expect(UsageReporter.Failure.unknownPriceVersion(Self.first).refusal.code == .internalError)
    }

    @Test("a price version that is not there stops the report")
    func unknown() {
        #expect(throws: UsageReporter.Failure.unknownPriceVersion(Self.second)) {
            try report([Self.row(), Self.row(version: Self.second)], sheets: [Self.sheet(Self.first, picos: 1)])
        }
    }

    @Test("an amount beyond 64 bits of micro-units is an error, in a line and in the total, and never a crash")
    func tooLarge() {
        let sheets = [Self.sheet(Self.first, picos: 1_000_000)]
        #expect(throws: UsageReporter.Failure.amountTooLarge) {
            try report([Self.row(requests: .max), Self.row(requests: .max)], sheets: sheets)
        }
        #expect(throws: UsageReporter.Failure.amountTooLarge) {
            try report(
                [Self.row(day: 0, requests: .max), Self.row(day: 1, requests: .max)], sheets: sheets, byDay: true)
        }
        #expect(throws: UsageReporter.Failure.amountTooLarge) {
            try report([Self.row(requests: 0, output: .max), Self.row(requests: 0, output: .max)], sheets: sheets)
        }
    }
}
