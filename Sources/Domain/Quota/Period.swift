/// A half-open stretch of time, `start <= t < end`, in which a quota is counted.
public struct Period: Hashable, Sendable {
    public let start: Timestamp
    public let end: Timestamp
    /// What people call it, as in `2026-03@Europe/Berlin`.
    public let id: String

    public func contains(_ instant: Timestamp) -> Bool { start <= instant && instant < end }
}

/// Finds the period of an instant. Quotas, usage, invoices and exports all ask this one function, so they cannot disagree about an edge.
///
/// Days and longer are cut at local midnight of an IANA time zone; minutes and hours at those of UTC, because a local hour is not always
/// an hour long. Midnight that a change of clocks skips counts as the first instant after it, midnight that occurs twice as the first one.
public struct PeriodCalendar: Sendable {
    private let zone: ZoneOffset
    private let zoneName: String

    /// - Returns: `nil` for an unknown IANA zone.
    public init?(timeZone name: String) {
        guard let zone = ZoneOffset(identifier: name) else { return nil }
        self.zone = zone
        zoneName = name
    }

    private init() {
        zone = .utc
        zoneName = "UTC"
    }

    public static let utc = PeriodCalendar()

    /// The period of `frequency` that contains `instant`. Periods of one frequency and zone tile the whole of time.
    public func period(containing instant: Timestamp, frequency: Frequency) -> Period {
        let seconds = floorDivision(instant.microsecondsSince1970, 1_000_000)
        switch frequency {
        case .minute: return fixed(seconds, length: 60, idLength: 16)
        case .hour: return fixed(seconds, length: 3_600, idLength: 13)
        case .none:
            let bounds = (CivilDate(year: 1970, month: 1, day: 1), CivilDate(year: 10_000, month: 1, day: 1))
            return Period(start: utcMidnight(bounds.0), end: utcMidnight(bounds.1), id: "all")
        case .day, .week, .month, .quarter, .year:
            let local = CivilDate(daysSince1970: floorDivision(seconds + zone.seconds(at: seconds), 86_400))
            var first = firstDay(of: local, frequency)
            // Where midnight occurs twice, the local date alone would put the repeated hour into the day that it has already left.
            if instant < midnight(first) { first = advanced(first, by: -1, frequency) }
            var next = advanced(first, by: 1, frequency)
            if instant >= midnight(next) {
                first = next
                next = advanced(first, by: 1, frequency)
            }
            return Period(start: midnight(first), end: midnight(next), id: "\(label(first, frequency))@\(zoneName)")
        }
    }

    /// The calendar day of `instant` in this zone.
    public func day(containing instant: Timestamp) -> CivilDate {
        let start = period(containing: instant, frequency: .day).id.prefix(10)
        return CivilDate(iso8601: start)
            ?? CivilDate(daysSince1970: floorDivision(instant.microsecondsSince1970, 86_400_000_000))
    }

    /// The first instant of a local day.
    public func midnight(_ date: CivilDate) -> Timestamp {
        let local = date.daysSince1970 * 86_400
        let before = zone.seconds(at: local - 86_400 - zone.seconds(at: local))
        let after = zone.seconds(at: local + 86_400 - zone.seconds(at: local))
        let candidates = [local - max(before, after), local - min(before, after)]
        let exact = candidates.first { $0 + zone.seconds(at: $0) == local }
        // No candidate shows midnight: the clocks jumped over it, and the offset before the jump gives the jump itself.
        return Timestamp(microsecondsSince1970: (exact ?? local - before) * 1_000_000)
    }

    private func utcMidnight(_ date: CivilDate) -> Timestamp {
        Timestamp(microsecondsSince1970: date.daysSince1970 * 86_400_000_000)
    }

    private func fixed(_ seconds: Int64, length: Int64, idLength: Int) -> Period {
        let start = floorDivision(seconds, length) * length
        let instant = Timestamp(microsecondsSince1970: start * 1_000_000)
        return Period(
            start: instant, end: Timestamp(microsecondsSince1970: (start + length) * 1_000_000),
            id: String(instant.description.prefix(idLength)) + "Z")
    }

    private func firstDay(of date: CivilDate, _ frequency: Frequency) -> CivilDate {
        switch frequency {
        case .week:
            // ISO 8601: weeks begin on Monday; 1970-01-01 was a Thursday.
            let days = date.daysSince1970
            return CivilDate(daysSince1970: floorDivision(days + 3, 7) * 7 - 3)
        case .month: return CivilDate(year: date.year, month: date.month, day: 1)
        case .quarter: return CivilDate(year: date.year, month: (date.month - 1) / 3 * 3 + 1, day: 1)
        case .year: return CivilDate(year: date.year, month: 1, day: 1)
        case .day, .minute, .hour, .none: return date
        }
    }

    private func advanced(_ date: CivilDate, by count: Int, _ frequency: Frequency) -> CivilDate {
        var moved = date
        switch frequency {
        case .week: moved.day += 7 * count
        case .month: moved.month += count
        case .quarter: moved.month += 3 * count
        case .year: moved.year += count
        case .day, .minute, .hour, .none: moved.day += count
        }
        return CivilDate(daysSince1970: moved.daysSince1970)
    }

    private func label(_ first: CivilDate, _ frequency: Frequency) -> String {
        let text = first.description
        switch frequency {
        case .week:
            // The ISO week belongs to the year of its Thursday.
            let thursday = CivilDate(daysSince1970: first.daysSince1970 + 3)
            let number =
                (thursday.daysSince1970 - CivilDate(year: thursday.year, month: 1, day: 1).daysSince1970) / 7 + 1
            return "\(thursday.description.prefix(4))-W\(number < 10 ? "0" : "")\(number)"
        case .month: return String(text.prefix(7))
        case .quarter: return "\(text.prefix(4))-Q\((first.month - 1) / 3 + 1)"
        case .year: return String(text.prefix(4))
        case .day, .minute, .hour, .none: return text
        }
    }
}
