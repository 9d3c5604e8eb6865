import TestSupport
import Testing

@testable import Domain

@Suite("which periods are billed")
struct BillingTimelineTests {
    private static let zones = [
        "UTC", "Europe/Berlin", "America/New_York", "Asia/Tokyo", "Pacific/Kiritimati", "Etc/GMT+12", "Asia/Kathmandu",
        "Australia/Lord_Howe", "Pacific/Apia", "America/St_Johns",
    ]
    private static let hour: Int64 = 3_600_000_000

    private static func instant(_ text: String) throws -> Timestamp { try #require(Timestamp(rfc3339: text)) }

    private static func taken(
        _ period: BillingPeriod, _ number: UInt64 = 1, stands: Bool = true
    ) -> BillingTimeline.Taken {
        BillingTimeline.Taken(
            invoiceID: InvoiceID(high: number, low: 1), currency: "USD", start: period.start, end: period.end,
            timeZone: period.timeZone, stands: stands)
    }

    private func period(
        _ zone: String, _ text: String, _ taken: [BillingTimeline.Taken] = []
    ) throws -> BillingPeriod {
        let timeline = try #require(BillingTimeline(timeZone: zone, taken: taken))
        return try #require(timeline.period(holding: try Self.instant(text)))
    }

    @Test("without invoices a period is the calendar's month")
    func plain() throws {
        let march = try period("Europe/Berlin", "2026-03-15T12:00:00Z")
        let (start, end) = (try Self.instant("2026-02-28T23:00:00Z"), try Self.instant("2026-03-31T22:00:00Z"))
        #expect(march.start == start && march.end == end)
        #expect(march.period.id == "2026-03@Europe/Berlin" && march.label == "2026-03")
        #expect(march.month == march.period)
    }

    @Test("after a move to the east the month begins later, and to the west earlier")
    func moves() throws {
        let west = try period("America/New_York", "2026-03-15T12:00:00Z")
        let east = try period("Europe/Berlin", "2026-04-15T00:00:00Z", [Self.taken(west)])
        let (start, end) = (try Self.instant("2026-03-31T22:00:00Z"), try Self.instant("2026-04-30T22:00:00Z"))
        #expect(east.start == west.end && east.end == end)
        #expect(east.month.start == start && east.label == "2026-04")
        let march = try period("Europe/Berlin", "2026-03-15T12:00:00Z")
        // Its first hours are still March in New York.
        let april = try period("America/New_York", "2026-03-31T22:00:00Z", [Self.taken(march)])
        let aprilEnd = try Self.instant("2026-05-01T04:00:00Z")
        #expect(april.start == march.end && april.end == aprilEnd)
        #expect(april.label == "2026-04" && april.period.id == "2026-04@America/New_York")
    }

    @Test("hours that fell between two invoices are a period of their own")
    func sliver() throws {
        let march = try period("Europe/Berlin", "2026-03-15T12:00:00Z")
        let april = try period("America/New_York", "2026-04-15T12:00:00Z")
        let between = try period("America/New_York", "2026-03-31T23:00:00Z", [Self.taken(march), Self.taken(april)])
        #expect(between.start == march.end && between.end == april.start)
    }

    @Test("a void invoice that is left alone is no obstacle to its own period, and one that stands is")
    func leftAlone() throws {
        let march = try period("UTC", "2026-03-15T12:00:00Z")
        let again = try period("UTC", "2026-03-15T12:00:00Z", [Self.taken(march, stands: false)])
        #expect(again == march)
        let timeline = try #require(BillingTimeline(timeZone: "UTC", taken: [Self.taken(march)]))
        #expect(timeline.period(holding: march.start) == nil && timeline.standing(at: march.middle) != nil)
        #expect(timeline.standing(at: march.end) == nil)
    }

    @Test("billed periods tile, whatever zones the tenant had between two invoices")
    func tiling() throws {
        var generator = SeededRandom(seed: 20_260_401)
        for _ in 0..<400 {
            var taken: [BillingTimeline.Taken] = []
            let start = Int64.random(in: 0..<400_000, using: &generator) * Self.hour
            var cursor = Timestamp(microsecondsSince1970: start)
            var first: Timestamp?
            for number in 1...UInt64(14) {
                let zone = try #require(Self.zones.randomElement(using: &generator))
                let timeline = try #require(BillingTimeline(timeZone: zone, taken: taken))
                let next = try #require(timeline.period(holding: cursor))
                if let last = taken.last {
                    #expect(next.start == last.end)
                } else {
                    first = next.start
                    #expect(next.start <= cursor)
                }
                // A month is a month, within what zones differ by.
                let hours = (next.end.microsecondsSince1970 - next.start.microsecondsSince1970) / Self.hour
                #expect((26 * 24...33 * 24).contains(hours), "\(zone) \(next.start) \(next.end)")
                taken.append(Self.taken(next, number))
                cursor = next.end
            }
            let length = taken.reduce(0) { $0 + $1.end.microsecondsSince1970 - $1.start.microsecondsSince1970 }
            #expect(length == cursor.microsecondsSince1970 - (first?.microsecondsSince1970 ?? 0))
        }
    }

    @Test("a period that is asked for overlaps no invoice that stands, in any order of months")
    func noOverlap() throws {
        var generator = SeededRandom(seed: 7)
        for _ in 0..<400 {
            var taken: [BillingTimeline.Taken] = []
            let origin = Int64.random(in: 200_000..<400_000, using: &generator)
            for number in 1...UInt64(20) {
                let zone = try #require(Self.zones.randomElement(using: &generator))
                let timeline = try #require(BillingTimeline(timeZone: zone, taken: taken))
                let hours = origin + Int64.random(in: 0..<6_000, using: &generator)
                let instant = Timestamp(microsecondsSince1970: hours * Self.hour)
                guard let next = timeline.period(holding: instant) else { continue }
                #expect(next.start <= instant && instant < next.end)
                #expect(taken.allSatisfy { $0.end <= next.start || next.end <= $0.start })
                taken.append(Self.taken(next, number))
            }
        }
    }

    @Test("a note lowers what is owed, then gives back what credits paid; of a paid one it is what was asked for")
    func notes() {
        func division(
            _ amount: Int64, reduced: Int64 = 0, givenBack: Int64 = 0, isPaid: Bool, asCredit: Bool
        ) -> CreditNoteDivision {
            CreditNoteDivision(
                amount: Micros(amount), total: Micros(6), reduced: Micros(reduced), givenBack: Micros(givenBack),
                isPaid: isPaid, asCredit: asCredit)
        }
        // Ten, of which credits have paid four.
        let open = division(5, isPaid: false, asCredit: true)
        #expect(open.form == .reduction && open.granted == .zero)
        #expect(division(5, reduced: 5, isPaid: false, asCredit: false).granted == Micros(4))
        let credit = division(8, isPaid: true, asCredit: true)
        #expect(credit.form == .credit && credit.granted == Micros(8))
        let money = division(8, isPaid: true, asCredit: false)
        #expect(money.form == .money && money.granted == Micros(2))
        #expect(division(3, reduced: 1, givenBack: 4, isPaid: true, asCredit: false).granted == Micros(2))
    }
}
