internal import Billing
internal import Domain
internal import HTTPListener

/// The time that a report covers: half-open, on quarters of an hour, by default the current month.
struct ReportRange: Sendable, CustomStringConvertible {
    let stretch: UsageQuery.Stretch
    let timeZone: String
    let calendar: PeriodCalendar

    /// - Throws: `validation_failed` for an unknown zone, and for a range that is empty, turned round or too long.
    init(_ call: AdminCall, at now: Timestamp, dayLimit: Int64) throws(Refusal) {
        timeZone = call.query.text("time_zone") ?? "UTC"
        guard let calendar = PeriodCalendar(timeZone: timeZone) else {
            throw .invalid("time_zone", "must be the name of a zone of the IANA data", fix: "Send it as Europe/Berlin.")
        }
        self.calendar = calendar
        let month = calendar.period(containing: now, frequency: .month)
        stretch = try call.query.usageRange(in: month)
        guard end.milliseconds(since: start) <= dayLimit * 86_400_000 else {
            throw .invalid("start", "spans more than \(dayLimit) days", fix: "Ask for a shorter range.")
        }
    }

    var start: Timestamp { stretch.start }
    var end: Timestamp { stretch.end }

    var description: String { "\(start)/\(end)/\(timeZone)" }
}

extension UsageGroups {
    /// What the reporter tells apart; whose usage it is, is told apart before.
    var dimensions: Set<UsageReporter.Dimension> {
        let dimensions = words.compactMap { UsageReporter.Dimension(rawValue: $0.rawValue) }
        return Set(unit == nil ? dimensions : dimensions + [.day])
    }
}
