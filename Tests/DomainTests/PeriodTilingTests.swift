import Testing

@testable import Domain

/// 400 years are one cycle of the Gregorian calendar: after that, dates fall on the same weekdays again.
@Suite("Periods over 400 years") struct PeriodTilingTests {
    /// Each of them has or had daylight saving, most of them something odd besides.
    private static let zones = [
        "Europe/Berlin", "Europe/London", "Europe/Dublin", "Europe/Lisbon", "Europe/Moscow", "America/New_York",
        "America/Los_Angeles", "America/St_Johns", "America/Sao_Paulo", "America/Havana", "America/Santiago",
        "America/Asuncion", "Africa/Cairo", "Africa/Casablanca", "Asia/Beirut", "Asia/Tehran", "Asia/Jerusalem",
        "Asia/Gaza", "Australia/Lord_Howe", "Australia/Adelaide", "Pacific/Apia", "Pacific/Auckland", "Pacific/Chatham",
        "Antarctica/Troll",
    ]
    private static let first = CivilDate(year: 1_900, month: 1, day: 1).daysSince1970 * 86_400
    private static let last = CivilDate(year: 2_300, month: 1, day: 1).daysSince1970 * 86_400
    private static let local: [Frequency] = [.day, .week, .month, .quarter, .year]

    /// The first second of every new offset from UTC, found by asking for the offset every week.
    private func transitions(_ zone: ZoneOffset) -> [Int64] {
        var found: [Int64] = []
        var before = Self.first
        var offset = zone.seconds(at: before)
        while before < Self.last {
            var after = before + 7 * 86_400
            let next = zone.seconds(at: after)
            if next != offset {
                var low = before
                while after - low > 1 {
                    let middle = low + (after - low) / 2
                    if zone.seconds(at: middle) == offset { low = middle } else { after = middle }
                }
                found.append(after)
                offset = zone.seconds(at: after)
                before = after
            } else {
                before = after
            }
        }
        return found
    }

    private static func instant(_ seconds: Int64) -> Timestamp { Timestamp(microsecondsSince1970: seconds * 1_000_000) }

    /// Checks the period of an instant against itself and the one after it.
    /// - Returns: the next period, `nil` if there is a gap, an overlap or an instant in two periods.
    private func next(
        after period: Period, containing instant: Timestamp, _ calendar: PeriodCalendar, _ frequency: Frequency,
        _ anchor: Timestamp?
    ) -> Period? {
        let lastInstant = Timestamp(microsecondsSince1970: period.end.microsecondsSince1970 - 1)
        let next = calendar.period(containing: period.end, frequency: frequency, anchor: anchor)
        guard period.contains(instant), next.start == period.end, next.start < next.end,
            calendar.period(containing: lastInstant, frequency: frequency, anchor: anchor) == period
        else { return nil }
        return next
    }

    @Test("every instant around a change of clocks is in exactly one period, for every frequency", arguments: zones)
    func tile(zone: String) throws {
        let calendar = try #require(PeriodCalendar(timeZone: zone))
        let changes = transitions(try #require(ZoneOffset(identifier: zone)))
        #expect(changes.count > 10, "the zone never changed its clocks")
        // In the hour that most zones skip or repeat, on a day that most months lack.
        let anchor = try #require(Timestamp(rfc3339: "2024-01-31T01:30:00Z"))
        for (number, change) in changes.enumerated() {
            let instant = Timestamp(microsecondsSince1970: change * 1_000_000 - Int64(number % 2))
            for frequency in Self.local {
                for anchor in [nil, anchor] {
                    // From the period ahead of the change to the one behind it.
                    var at = Self.instant(change - 86_400)
                    var current = calendar.period(containing: at, frequency: frequency, anchor: anchor)
                    let end = instant.advanced(byMilliseconds: 90_000_000)
                    repeat {
                        guard let following = next(after: current, containing: at, calendar, frequency, anchor) else {
                            Issue.record(
                                "\(zone) \(frequency) \(anchor?.description ?? "-"): \(current) near \(instant)")
                            return
                        }
                        let inside = calendar.period(containing: instant, frequency: frequency, anchor: anchor)
                        #expect(inside.contains(instant))
                        current = following
                        at = current.start
                    } while frequency == .day && current.end < end
                }
            }
        }
    }

    @Test("months, quarters and years follow each other for 400 years, each with its own name", arguments: zones)
    func walk(zone: String) throws {
        let calendar = try #require(PeriodCalendar(timeZone: zone))
        for frequency in [Frequency.month, .quarter, .year] {
            var at = Self.instant(Self.first)
            var names: Set<String> = []
            var count = 0
            while at < Self.instant(Self.last) {
                let period = calendar.period(containing: at, frequency: frequency)
                guard let following = next(after: period, containing: at, calendar, frequency, nil),
                    names.insert(period.id).inserted
                else {
                    Issue.record("\(zone) \(frequency): \(period)")
                    return
                }
                count += 1
                at = following.start
            }
            let expected = frequency == .month ? 4_800 : frequency == .quarter ? 1_600 : 400
            // The first and the last may be cut, where local years begin elsewhere.
            #expect((expected...expected + 2).contains(count))
        }
    }

    @Test("minutes and hours tile whatever they are counted from", arguments: [nil, 1_706_664_601] as [Int64?])
    func short(anchor: Int64?) {
        let anchor = anchor.map(Self.instant)
        for frequency in [Frequency.minute, .hour, .none] {
            for seconds in stride(from: Self.first, to: Self.last, by: 86_400 * 37 + 1_801) {
                let instant = Self.instant(seconds)
                let period = PeriodCalendar.utc.period(containing: instant, frequency: frequency, anchor: anchor)
                if frequency == .none {
                    #expect(seconds < 0 || period.contains(instant))
                } else {
                    #expect(next(after: period, containing: instant, .utc, frequency, anchor) != nil)
                    let length: Int64 = frequency == .minute ? 60_000 : 3_600_000
                    #expect(period.end.milliseconds(since: period.start) == length)
                    if let anchor { #expect(period.start.milliseconds(since: anchor) % length == 0) }
                }
            }
        }
    }

    @Test(
        "periods that begin with a subscription keep its day and time, and come back to the day that a month lacks",
        arguments: [
            (
                "2026-01-31T09:15:30Z", Frequency.month, "2026-02-15T00:00:00Z", "2026-01-31T09:15:30Z",
                "2026-02-28T09:15:30Z"
            ),
            ("2026-01-31T09:15:30Z", .month, "2026-03-05T00:00:00Z", "2026-02-28T09:15:30Z", "2026-03-31T08:15:30Z"),
            ("2026-01-31T09:15:30Z", .month, "2026-04-01T00:00:00Z", "2026-03-31T08:15:30Z", "2026-04-30T08:15:30Z"),
            ("2026-01-31T09:15:30Z", .month, "2025-12-31T09:15:29Z", "2025-11-30T09:15:30Z", "2025-12-31T09:15:30Z"),
            ("2024-02-29T12:00:00Z", .year, "2025-06-01T00:00:00Z", "2025-02-28T12:00:00Z", "2026-02-28T12:00:00Z"),
            ("2024-02-29T12:00:00Z", .year, "2028-06-01T00:00:00Z", "2028-02-29T12:00:00Z", "2029-02-28T12:00:00Z"),
            ("2025-11-30T23:30:00Z", .quarter, "2026-03-01T00:00:00Z", "2026-02-28T23:30:00Z", "2026-05-31T22:30:00Z"),
            ("2026-03-27T10:00:00Z", .day, "2026-03-29T09:30:00Z", "2026-03-29T09:00:00Z", "2026-03-30T09:00:00Z"),
            ("2026-03-25T10:00:00Z", .week, "2026-04-01T08:59:59Z", "2026-03-25T10:00:00Z", "2026-04-01T09:00:00Z"),
            ("2026-03-25T10:00:07.9Z", .minute, "2026-03-25T10:05:07Z", "2026-03-25T10:05:07Z", "2026-03-25T10:06:07Z"),
            ("2026-03-25T10:20:00Z", .hour, "2026-03-25T10:19:59Z", "2026-03-25T09:20:00Z", "2026-03-25T10:20:00Z"),
        ] as [(String, Frequency, String, String, String)])
    func anchored(anchor: String, frequency: Frequency, at: String, start: String, end: String) throws {
        let calendar = try #require(PeriodCalendar(timeZone: "Europe/Berlin"))
        let quota = Quota(
            id: QuotaID(high: 0, low: 1), unit: .tokens, frequency: frequency, amount: 1, mode: .hard,
            anchor: Timestamp(rfc3339: anchor))
        let period = calendar.period(containing: try #require(Timestamp(rfc3339: at)), of: quota)
        #expect(period.start.description == start)
        #expect(period.end.description == end)
        #expect(quota.alignment == .subscription)
    }

    @Test("a time that a change of clocks skips begins right after it, one that occurs twice at the first")
    func skippedAndRepeated() throws {
        let berlin = try #require(ZoneOffset(identifier: "Europe/Berlin"))
        func first(_ text: String) throws -> String {
            // Read as UTC, the text is what a local clock shows.
            let local = try #require(Timestamp(rfc3339: text + "Z")).microsecondsSince1970 / 1_000_000
            return Self.instant(berlin.firstInstant(ofLocal: local)).description
        }
        #expect(try first("2026-03-29T01:59:59") == "2026-03-29T00:59:59Z")
        for skipped in ["2026-03-29T02:00:00", "2026-03-29T02:30:00", "2026-03-29T03:00:00"] {
            #expect(try first(skipped) == "2026-03-29T01:00:00Z")
        }
        #expect(try first("2026-03-29T03:00:01") == "2026-03-29T01:00:01Z")
        #expect(try first("2026-10-25T02:00:00") == "2026-10-25T00:00:00Z")
        #expect(try first("2026-10-25T02:59:59") == "2026-10-25T00:59:59Z")
        #expect(try first("2026-10-25T03:00:00") == "2026-10-25T02:00:00Z")
    }
}
