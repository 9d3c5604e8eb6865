/// A half-open stretch of time, `start <= t < end`, in which a quota is counted.
public struct Period: Hashable, Sendable {
    public let start: Timestamp
    public let end: Timestamp
    /// What people call it, as in `2026-03@Europe/Berlin`.
    public let id: String

    public init(start: Timestamp, end: Timestamp, id: String) {
        self.start = start
        self.end = end
        self.id = id
    }

    public func contains(_ instant: Timestamp) -> Bool { start <= instant && instant < end }
}

/// Finds the period of an instant. Quotas, usage, invoices and exports all ask this one function, so they cannot disagree about an edge.
///
/// Aligned to the calendar, days and longer begin at local midnight of an IANA time zone, and minutes and hours are those of UTC, because a
/// local hour is not always an hour long. Aligned to an anchor, such as the start of a subscription, minutes and hours are counted from it,
/// and days and longer begin at its local time of day; a month that lacks the anchor's day begins on its own last day, and the next one
/// is back on the anchor's.
///
/// A local time begins at the first instant at which the clocks show it or a later one: one that a change of clocks skips is the first
/// instant after it, one that occurs twice is the first of the two. So the edges are in order whatever the clocks do.
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

    /// The period of `frequency` that contains `instant`. Periods of one frequency, zone and anchor tile the whole of time.
    /// - Parameter anchor: where one period begins, to the second; `nil` aligns to the calendar.
    public func period(containing instant: Timestamp, frequency: Frequency, anchor: Timestamp? = nil) -> Period {
        let anchorSeconds = anchor.map { floorDivision($0.microsecondsSince1970, 1_000_000) }
        switch frequency {
        case .minute: return fixed(instant, length: 60, idLength: 16, anchor: anchorSeconds)
        case .hour: return fixed(instant, length: 3_600, idLength: 13, anchor: anchorSeconds)
        case .none:
            let bounds = (CivilDate(year: 1970, month: 1, day: 1), CivilDate(year: 10_000, month: 1, day: 1))
            return Period(start: utcMidnight(bounds.0), end: utcMidnight(bounds.1), id: "all")
        case .day, .week, .month, .quarter, .year:
            let edges = LocalEdges(zone: zone, frequency: frequency, anchorSeconds: anchorSeconds)
            let seconds = floorDivision(instant.microsecondsSince1970, 1_000_000)
            let (number, start, end) = edges.around(seconds)
            let first = Timestamp(microsecondsSince1970: start * 1_000_000)
            let id =
                anchor == nil ? "\(label(edges.day(number), frequency))@\(zoneName)" : "\(first)/\(frequency.rawValue)"
            return Period(start: first, end: Timestamp(microsecondsSince1970: end * 1_000_000), id: id)
        }
    }

    /// The period of a quota that contains `instant`.
    public func period(containing instant: Timestamp, of quota: Quota) -> Period {
        period(containing: instant, frequency: quota.frequency, anchor: quota.anchor)
    }

    /// The calendar day of `instant` in this zone.
    public func day(containing instant: Timestamp) -> CivilDate {
        let start = period(containing: instant, frequency: .day).id.prefix(10)
        return CivilDate(iso8601: start)
            ?? CivilDate(daysSince1970: floorDivision(instant.microsecondsSince1970, 86_400_000_000))
    }

    /// The first instant of a local day.
    public func midnight(_ date: CivilDate) -> Timestamp {
        Timestamp(microsecondsSince1970: zone.firstInstant(ofLocal: date.daysSince1970 * 86_400) * 1_000_000)
    }

    private func utcMidnight(_ date: CivilDate) -> Timestamp {
        Timestamp(microsecondsSince1970: date.daysSince1970 * 86_400_000_000)
    }

    private func fixed(_ instant: Timestamp, length: Int64, idLength: Int, anchor: Int64?) -> Period {
        let seconds = floorDivision(instant.microsecondsSince1970, 1_000_000)
        let origin = (anchor ?? 0) % length
        let start = floorDivision(seconds - origin, length) * length + origin
        let first = Timestamp(microsecondsSince1970: start * 1_000_000)
        return Period(
            start: first, end: Timestamp(microsecondsSince1970: (start + length) * 1_000_000),
            id: anchor == nil ? String(first.description.prefix(idLength)) + "Z" : first.description)
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

/// The edges of the periods of days and longer, numbered: edge `n` begins period `n`. The calendar's own edges are those of an anchor at
/// local midnight of the first day of a period.
private struct LocalEdges {
    private enum Step {
        case days(Int64)
        case months(Int64)
    }

    private let zone: ZoneOffset
    private let step: Step
    private let anchorDay: CivilDate
    private let secondOfDay: Int64

    init(zone: ZoneOffset, frequency: Frequency, anchorSeconds: Int64?) {
        self.zone = zone
        switch frequency {
        case .week: step = .days(7)
        case .month: step = .months(1)
        case .quarter: step = .months(3)
        case .year: step = .months(12)
        case .day, .minute, .hour, .none: step = .days(1)
        }
        if let anchorSeconds {
            let local = anchorSeconds + zone.seconds(at: anchorSeconds)
            anchorDay = CivilDate(daysSince1970: floorDivision(local, 86_400))
            secondOfDay = local - floorDivision(local, 86_400) * 86_400
        } else {
            // ISO 8601: weeks begin on Monday; 1970-01-01 was a Thursday.
            anchorDay = CivilDate(daysSince1970: frequency == .week ? -3 : 0)
            secondOfDay = 0
        }
    }

    /// The local day on which edge `number` lies.
    func day(_ number: Int64) -> CivilDate {
        switch step {
        case .days(let length): return CivilDate(daysSince1970: anchorDay.daysSince1970 + number * length)
        case .months(let length):
            let month = Int64(anchorDay.year) * 12 + Int64(anchorDay.month) - 1 + number * length
            let year = floorDivision(month, 12)
            let first = CivilDate(year: Int(year), month: Int(month - year * 12) + 1, day: 1)
            let next = CivilDate(year: first.year, month: first.month + 1, day: 1)
            let length = next.daysSince1970 - first.daysSince1970
            return CivilDate(year: first.year, month: first.month, day: Int(min(Int64(anchorDay.day), length)))
        }
    }

    /// Seconds since 1970 of edge `number`.
    private func edge(_ number: Int64) -> Int64 {
        zone.firstInstant(ofLocal: day(number).daysSince1970 * 86_400 + secondOfDay)
    }

    /// The last edge at or before `seconds` and the one after it. Where a zone skips a whole day two edges are one, and the later counts.
    func around(_ seconds: Int64) -> (number: Int64, start: Int64, end: Int64) {
        let local = CivilDate(daysSince1970: floorDivision(seconds + zone.seconds(at: seconds), 86_400))
        var number: Int64
        switch step {
        case .days(let length):
            number = floorDivision(local.daysSince1970 - anchorDay.daysSince1970, length)
        case .months(let length):
            let months = Int64(local.year - anchorDay.year) * 12 + Int64(local.month - anchorDay.month)
            number = floorDivision(months, length)
        }
        var start = edge(number)
        while start > seconds {
            number -= 1
            start = edge(number)
        }
        var end = edge(number + 1)
        while end <= seconds {
            number += 1
            start = end
            end = edge(number + 1)
        }
        return (number, start, end)
    }
}
