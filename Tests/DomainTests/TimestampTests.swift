import Testing

@testable import Domain

@Suite("Time") struct TimestampTests {
    @Test(
        "RFC 3339 is read to the microsecond",
        arguments: [
            ("1970-01-01T00:00:00Z", Int64(0)), ("1970-01-01T00:00:00.000001Z", 1), ("1969-12-31T23:59:59.999999Z", -1),
            ("2026-03-01T00:00:00Z", 1_772_323_200_000_000), ("2026-03-01t00:00:00z", 1_772_323_200_000_000),
            ("2026-03-01T01:00:00+01:00", 1_772_323_200_000_000), ("2026-02-28T18:30:00-05:30", 1_772_323_200_000_000),
            ("2026-03-01T00:00:00-00:00", 1_772_323_200_000_000), ("2026-03-01T00:00:00.5Z", 1_772_323_200_500_000),
            ("2026-03-01T00:00:00.123456+00:00", 1_772_323_200_123_456), ("2000-02-29T00:00:00Z", 951_782_400_000_000),
            ("2024-02-29T12:00:00Z", 1_709_208_000_000_000), ("1900-02-28T00:00:00Z", -2_203_977_600_000_000),
            ("9999-12-31T23:59:59Z", 253_402_300_799_000_000), ("2026-03-01T23:59:59+23:59", 1_772_323_259_000_000),
        ] as [(String, Int64)])
    func accepted(text: String, microseconds: Int64) {
        #expect(Timestamp(rfc3339: text)?.microsecondsSince1970 == microseconds)
    }

    @Test(
        "what is not exactly RFC 3339 with an offset is refused",
        arguments: [
            "", "2026-03-01", "2026-03-01T00:00:00", "2026-03-01 00:00:00Z", "2026-03-01T24:00:00Z",
            "2026-03-01T23:60:00Z",
            "2026-06-30T23:59:60Z", "2026-02-29T00:00:00Z", "1900-02-29T00:00:00Z", "2100-02-29T00:00:00Z",
            "2026-04-31T00:00:00Z",
            "2026-00-01T00:00:00Z", "2026-13-01T00:00:00Z", "2026-01-00T00:00:00Z", "2026-01-32T00:00:00Z",
            "2026-03-01T00:00:00.Z",
            "2026-03-01T00:00:00.1234567Z", "2026-03-01T00:00:00,5Z", "2026-03-01T00:00:00+0100",
            "2026-03-01T00:00:00+01",
            "2026-03-01T00:00:00+24:00", "2026-03-01T00:00:00+01:60", "2026-03-01T00:00:00Z ", " 2026-03-01T00:00:00Z",
            "26-03-01T00:00:00Z", "12026-03-01T00:00:00Z", "+2026-03-01T00:00:00Z", "2026-3-1T00:00:00Z",
            "2026-03-01T00:00Z",
            "２026-03-01T00:00:00Z", "2026-03-01T00:00:00ZZ", "2026-03-01T00:00:00Z\u{0}",
        ])
    func refused(text: String) {
        #expect(Timestamp(rfc3339: text) == nil)
    }

    @Test(
        "an instant is written in UTC, without a fraction where there is none",
        arguments: [
            (Int64(0), "1970-01-01T00:00:00Z"), (1, "1970-01-01T00:00:00.000001Z"), (-1, "1969-12-31T23:59:59.999999Z"),
            (1_772_323_200_120_000, "2026-03-01T00:00:00.120000Z"),
            (253_402_300_799_999_999, "9999-12-31T23:59:59.999999Z"),
        ] as [(Int64, String)])
    func written(microseconds: Int64, text: String) {
        let instant = Timestamp(microsecondsSince1970: microseconds)
        #expect(instant.description == text)
        #expect(Timestamp(rfc3339: text) == instant)
    }

    @Test("the ends of the range can be written", arguments: [Int64.min, .min + 1, .max])
    func ends(microseconds: Int64) {
        #expect(Timestamp(microsecondsSince1970: microseconds).description.hasSuffix("Z"))
    }

    @Test("moving an instant saturates at the ends of the range")
    func advanced() {
        let instant = Timestamp(microsecondsSince1970: 1_000_500)
        #expect(instant.advanced(byMilliseconds: -2).microsecondsSince1970 == 998_500)
        #expect(instant.advanced(byMilliseconds: .max).microsecondsSince1970 == .max)
        #expect(instant.advanced(byMilliseconds: .min).microsecondsSince1970 == .min)
        #expect(Timestamp(microsecondsSince1970: .max - 500).advanced(byMilliseconds: 1).microsecondsSince1970 == .max)
        #expect(Timestamp(microsecondsSince1970: .min + 500).advanced(byMilliseconds: -1).microsecondsSince1970 == .min)
    }

    @Test("a difference in milliseconds is rounded down")
    func difference() {
        let zero = Timestamp(microsecondsSince1970: 0)
        #expect(Timestamp(microsecondsSince1970: 1_999).milliseconds(since: zero) == 1)
        #expect(Timestamp(microsecondsSince1970: -1).milliseconds(since: zero) == -1)
        #expect(
            Timestamp(microsecondsSince1970: .max).milliseconds(since: Timestamp(microsecondsSince1970: .min)) == .max)
        #expect(
            Timestamp(microsecondsSince1970: .min).milliseconds(since: Timestamp(microsecondsSince1970: .max)) == .min)
    }

    @Test("every day of 400 years survives the way through the number of days and the text")
    func everyDay() {
        var expected = CivilDate(year: 1_970, month: 1, day: 1)
        for days in Int64(0)..<146_097 {
            let date = CivilDate(daysSince1970: days)
            guard date == expected, date.daysSince1970 == days, CivilDate(iso8601: date.description) == date else {
                Issue.record("day \(days) is \(date), expected \(expected)")
                return
            }
            expected = Self.following(date)
        }
        #expect(expected == CivilDate(year: 2_370, month: 1, day: 1))
    }

    @Test("days before 1970 survive too")
    func before1970() {
        #expect(CivilDate(daysSince1970: -1) == CivilDate(year: 1_969, month: 12, day: 31))
        #expect(CivilDate(year: 1_600, month: 1, day: 1).daysSince1970 == -135_140)
        for days in stride(from: Int64(-800_000), to: 0, by: 97) {
            #expect(CivilDate(daysSince1970: days).daysSince1970 == days)
        }
    }

    @Test(
        "a month beyond the year is carried into it",
        arguments: [(13, 2_027, 1), (25, 2_028, 1), (0, 2_025, 12), (-11, 2_025, 1), (-12, 2_024, 12)]
            as [(Int, Int, Int)])
    func carried(month: Int, expectedYear: Int, expectedMonth: Int) {
        let carried = CivilDate(daysSince1970: CivilDate(year: 2_026, month: month, day: 1).daysSince1970)
        #expect(carried == CivilDate(year: expectedYear, month: expectedMonth, day: 1))
    }

    @Test(
        "a date has two digits for month and day",
        arguments: ["2026-2-01", "2026-02-30", "2026-02-1", "2026-02-01 ", "2026-02", "abcd-01-01"])
    func badDate(text: String) {
        #expect(CivilDate(iso8601: text) == nil)
    }

    /// The next day by the rules that children learn.
    private static func following(_ date: CivilDate) -> CivilDate {
        let isLeap = date.year % 4 == 0 && (date.year % 100 != 0 || date.year % 400 == 0)
        let lengths = [31, isLeap ? 29 : 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
        if date.day < lengths[date.month - 1] {
            return CivilDate(year: date.year, month: date.month, day: date.day + 1)
        }
        return date.month < 12
            ? CivilDate(year: date.year, month: date.month + 1, day: 1)
            : CivilDate(year: date.year + 1, month: 1, day: 1)
    }
}
