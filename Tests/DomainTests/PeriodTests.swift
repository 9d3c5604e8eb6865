import Testing

@testable import Domain

@Suite("Periods") struct PeriodTests {
    private static let zones = [
        "UTC", "Europe/Berlin", "Europe/London", "Europe/Lisbon", "Europe/Moscow", "America/New_York",
        "America/Los_Angeles",
        "America/St_Johns", "America/Sao_Paulo", "America/Havana", "America/Santiago", "America/Asuncion",
        "America/Caracas",
        "Africa/Cairo", "Africa/Casablanca", "Asia/Beirut", "Asia/Tehran", "Asia/Kolkata", "Asia/Kathmandu",
        "Asia/Gaza",
        "Asia/Amman", "Asia/Damascus", "Asia/Pyongyang", "Australia/Lord_Howe", "Australia/Adelaide", "Pacific/Apia",
        "Pacific/Chatham", "Pacific/Kiritimati", "Pacific/Fakaofo", "Antarctica/Troll",
    ]

    private func at(_ text: String) throws -> Timestamp { try #require(Timestamp(rfc3339: text)) }

    private func period(_ text: String, _ zone: String, _ frequency: Frequency) throws -> Period {
        try #require(PeriodCalendar(timeZone: zone)).period(containing: try at(text), frequency: frequency)
    }

    @Test(
        "periods tile 25 years in every zone: each contains its edges, none overlaps, none is missing", arguments: zones
    )
    func tile(zone: String) throws {
        let calendar = try #require(PeriodCalendar(timeZone: zone))
        let last = try at("2032-01-01T00:00:00Z")
        for frequency in [Frequency.day, .week, .month, .quarter, .year] {
            var current = calendar.period(containing: try at("2007-01-01T00:00:00Z"), frequency: frequency)
            var ids: Set<String> = [current.id]
            while current.end < last {
                let next = calendar.period(containing: current.end, frequency: frequency)
                let final = Timestamp(microsecondsSince1970: current.end.microsecondsSince1970 - 1)
                guard next.start == current.end, next.start < next.end, ids.insert(next.id).inserted,
                    calendar.period(containing: final, frequency: frequency) == current,
                    calendar.period(containing: current.start, frequency: frequency) == current
                else {
                    Issue.record("\(zone) \(frequency): \(current) is followed by \(next)")
                    return
                }
                current = next
            }
        }
    }

    @Test("an instant chosen anywhere is in the period that it is said to be in", arguments: zones)
    func anywhere(zone: String) throws {
        let calendar = try #require(PeriodCalendar(timeZone: zone))
        // A stride that is no multiple of an hour, so that edges are met from every side.
        for microseconds in stride(from: Int64(1_167_609_600_000_000), to: 1_956_528_000_000_000, by: 397_777_777_777) {
            let instant = Timestamp(microsecondsSince1970: microseconds)
            for frequency in Frequency.allCases {
                let period = calendar.period(containing: instant, frequency: frequency)
                #expect(period.contains(instant) && !period.contains(period.end))
                #expect(period.contains(period.start))
            }
        }
    }

    @Test(
        "minutes and hours are those of UTC in every zone",
        arguments: ["Asia/Kathmandu", "Australia/Lord_Howe", "Europe/Berlin"])
    func short(zone: String) throws {
        let minute = try period("2026-03-01T12:34:56.789Z", zone, .minute)
        #expect(minute.id == "2026-03-01T12:34Z")
        #expect(minute.start.description == "2026-03-01T12:34:00Z")
        #expect(minute.end.description == "2026-03-01T12:35:00Z")
        let hour = try period("2026-03-01T12:34:56Z", zone, .hour)
        #expect(hour.id == "2026-03-01T12Z")
        #expect(hour.end.milliseconds(since: hour.start) == 3_600_000)
        #expect(try period("1969-12-31T23:59:59.5Z", zone, .minute).id == "1969-12-31T23:59Z")
    }

    @Test(
        "a period is named by its first local day and its zone",
        arguments: [
            ("2026-02-28T23:30:00Z", "Europe/Berlin", Frequency.month, "2026-03@Europe/Berlin"),
            ("2026-02-28T22:30:00Z", "Europe/Berlin", .month, "2026-02@Europe/Berlin"),
            ("2026-03-01T04:59:59Z", "America/New_York", .month, "2026-02@America/New_York"),
            ("2026-03-01T05:00:00Z", "America/New_York", .month, "2026-03@America/New_York"),
            ("2026-06-30T21:59:59Z", "Europe/Berlin", .quarter, "2026-Q2@Europe/Berlin"),
            ("2026-06-30T22:00:00Z", "Europe/Berlin", .quarter, "2026-Q3@Europe/Berlin"),
            ("2025-12-31T23:00:00Z", "Europe/Berlin", .year, "2026@Europe/Berlin"),
            ("2025-12-31T18:15:00Z", "Asia/Kathmandu", .day, "2026-01-01@Asia/Kathmandu"),
            ("2025-12-31T18:14:59Z", "Asia/Kathmandu", .day, "2025-12-31@Asia/Kathmandu"),
            ("2026-03-01T00:00:00Z", "UTC", .day, "2026-03-01@UTC"),
            ("2026-03-01T00:00:00Z", "UTC", .none, "all"),
        ] as [(String, String, Frequency, String)])
    func name(instant: String, zone: String, frequency: Frequency, id: String) throws {
        #expect(try period(instant, zone, frequency).id == id)
    }

    @Test(
        "weeks are those of ISO 8601",
        arguments: [
            ("2020-12-31", "2020-W53"), ("2021-01-03", "2020-W53"), ("2021-01-04", "2021-W01"),
            ("2024-12-30", "2025-W01"),
            ("2024-12-29", "2024-W52"), ("2026-01-01", "2026-W01"), ("2026-12-31", "2026-W53"),
            ("2027-01-01", "2026-W53"),
            ("2016-01-03", "2015-W53"), ("2018-01-01", "2018-W01"), ("1970-01-01", "1970-W01"),
        ] as [(String, String)])
    func week(day: String, id: String) throws {
        #expect(try period(day + "T12:00:00Z", "UTC", .week).id == id + "@UTC")
    }

    @Test(
        "a day whose midnight is skipped begins at the first instant after it",
        arguments: [
            ("America/Sao_Paulo", "2018-11-04", "2018-11-04T03:00:00Z", Int64(23)),
            ("Asia/Beirut", "2022-03-27", "2022-03-26T22:00:00Z", 23),
            ("America/Havana", "2024-03-10", "2024-03-10T05:00:00Z", 23),
            ("America/Asuncion", "2018-10-07", "2018-10-07T04:00:00Z", 23),
        ] as [(String, String, String, Int64)])
    func skippedMidnight(zone: String, day: String, start: String, hours: Int64) throws {
        let period = try period(start, zone, .day)
        #expect(period.id == "\(day)@\(zone)")
        #expect(period.start.description == start)
        #expect(period.end.milliseconds(since: period.start) == hours * 3_600_000)
        let before = Timestamp(microsecondsSince1970: period.start.microsecondsSince1970 - 1)
        #expect(!period.contains(before))
    }

    @Test("a day whose midnight occurs twice begins at the first one, and the hour that repeats stays in it")
    func repeatedMidnight() throws {
        // At 01:00 of 2024-11-03 the clocks of Havana go back to 00:00.
        let day = try period("2024-11-03T04:00:00Z", "America/Havana", .day)
        #expect(day.id == "2024-11-03@America/Havana")
        #expect(day.start.description == "2024-11-03T04:00:00Z")
        #expect(day.end.milliseconds(since: day.start) == 25 * 3_600_000)
        #expect(try period("2024-11-03T05:30:00Z", "America/Havana", .day) == day)
        // At 00:00 of 2018-02-18 the clocks of Sao Paulo go back to 23:00 of the day before.
        let first = try period("2018-02-18T02:30:00Z", "America/Sao_Paulo", .day)
        #expect(first.id == "2018-02-17@America/Sao_Paulo")
        #expect(first.end.milliseconds(since: first.start) == 25 * 3_600_000)
    }

    @Test("clocks that go back just after midnight do not reopen the day before")
    func backOverMidnight() throws {
        // Until 2011 Newfoundland changed its clocks at one minute past midnight, back to 23:01.
        let day = try period("2010-11-07T02:30:00Z", "America/St_Johns", .day)
        #expect(day.start.description == "2010-11-07T02:30:00Z")
        #expect(try period("2010-11-07T02:45:00Z", "America/St_Johns", .day) == day)
        #expect(try period("2010-11-07T02:29:59Z", "America/St_Johns", .day).id == "2010-11-06@America/St_Johns")
    }

    @Test("a day that a zone skipped has no period")
    func skippedDay() throws {
        let calendar = try #require(PeriodCalendar(timeZone: "Pacific/Apia"))
        let before = try period("2011-12-30T09:59:59Z", "Pacific/Apia", .day)
        let after = try period("2011-12-30T10:00:00Z", "Pacific/Apia", .day)
        #expect(before.id == "2011-12-29@Pacific/Apia")
        #expect(after.id == "2011-12-31@Pacific/Apia")
        #expect(before.end == after.start)
        #expect(calendar.day(containing: after.start) == CivilDate(year: 2_011, month: 12, day: 31))
    }

    @Test("a day of changing clocks has 23 or 25 hours, one of Lord Howe 23.5 or 24.5")
    func lengths() throws {
        func hours(_ text: String, _ zone: String) throws -> Int64 {
            let day = try period(text, zone, .day)
            return day.end.milliseconds(since: day.start) / 1_800_000
        }
        #expect(try hours("2026-03-29T12:00:00Z", "Europe/Berlin") == 46)
        #expect(try hours("2026-10-25T12:00:00Z", "Europe/Berlin") == 50)
        #expect(try hours("2026-04-04T20:00:00Z", "Australia/Lord_Howe") == 49)
        #expect(try hours("2026-10-03T20:00:00Z", "Australia/Lord_Howe") == 47)
    }

    @Test("the day of an instant is the local one")
    func day() throws {
        let calendar = try #require(PeriodCalendar(timeZone: "Pacific/Kiritimati"))
        #expect(calendar.day(containing: try at("2026-02-28T10:00:00Z")) == CivilDate(year: 2_026, month: 3, day: 1))
        #expect(
            PeriodCalendar.utc.day(containing: try at("2024-02-29T23:59:59.999999Z"))
                == CivilDate(year: 2_024, month: 2, day: 29))
    }

    @Test(
        "an unknown zone is refused",
        arguments: ["", "Mars/Olympus", "Europe/Berlin ", "../../etc/passwd", "europe berlin"])
    func unknownZone(name: String) {
        #expect(PeriodCalendar(timeZone: name) == nil)
    }

    @Test("a quota is named by level, unit and frequency")
    func policy() {
        func policy(_ level: QuotaLevel) -> String {
            Quota(
                id: QuotaID(high: 0, low: 1), unit: .tokens, frequency: .month, amount: 1, mode: .hard, level: level
            ).policy
        }
        #expect(policy(.tenant) == "tokens-month")
        #expect(policy(.user) == "user-tokens-month")
        #expect(policy(.key) == "key-tokens-month")
    }
}
