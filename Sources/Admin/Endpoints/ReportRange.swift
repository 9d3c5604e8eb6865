internal import Billing
internal import Domain
internal import HTTPListener

/// The time that a report covers: half-open, on quarters of an hour, by default the current month.
struct ReportRange: Sendable, CustomStringConvertible {
    let start: Timestamp
    let end: Timestamp
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
        start = try call.query.usageEdge("start") ?? month.start
        end = try call.query.usageEdge("end") ?? max(month.end, start)
        guard start < end else {
            throw .invalid("end", "must be later than start", fix: "The range is half-open: start <= t < end.")
        }
        guard end.milliseconds(since: start) <= dayLimit * 86_400_000 else {
            throw .invalid("start", "spans more than \(dayLimit) days", fix: "Ask for a shorter range.")
        }
    }

    var stretch: UsageQuery.Stretch { UsageQuery.Stretch(start: start, end: end) }

    var description: String { "\(start)/\(end)/\(timeZone)" }
}

/// What a report of usage is grouped by.
struct ReportGroups: Sendable {
    let text: String
    let byTenant: Bool
    /// hour, day or month.
    let unit: String?
    let dimensions: Set<UsageReporter.Dimension>

    /// The columns of the groups, in their order.
    var columns: [String] {
        (unit.map { [$0] } ?? []) + (byTenant ? ["tenant_id"] : []) + (dimensions.contains(.tag) ? ["tag"] : [])
            + (dimensions.contains(.tier) ? ["tier"] : []) + (dimensions.contains(.model) ? ["model"] : [])
    }

    func stretches(
        _ range: ReportRange, limit: Int
    ) throws(Refusal) -> [(name: String, stretch: UsageQuery.Stretch)] {
        guard let unit else { return [("", range.stretch)] }
        let frequency: Frequency = unit == "hour" ? .hour : unit == "day" ? .day : .month
        var stretches: [(name: String, stretch: UsageQuery.Stretch)] = []
        var cursor = range.start
        while cursor < range.end {
            guard stretches.count < limit else {
                throw .invalid(
                    "start", "spans more than \(limit) of what it is grouped by", fix: "Ask for a shorter range.")
            }
            let period = range.calendar.period(containing: cursor, frequency: frequency)
            let name =
                unit == "hour" ? period.start.description : String(period.id.prefix(unit == "day" ? 10 : 7))
            stretches.append((name, UsageQuery.Stretch(start: cursor, end: min(period.end, range.end))))
            cursor = period.end
        }
        return stretches
    }
}

extension ReportsEndpoint {
    static func groups(_ query: QueryParameters) throws(Refusal) -> ReportGroups {
        try query.value(
            "group_by", "a list of tenant, model, tier and tag, each once, and one of hour, day and month",
            fix: "Send group_by=day,tenant."
        ) { text -> ReportGroups? in
            var seen: Set<Substring> = []
            var unit: String?
            for part in text.split(separator: ",", omittingEmptySubsequences: false) {
                guard seen.insert(part).inserted else { return nil }
                switch part {
                case "hour", "day", "month":
                    guard unit == nil else { return nil }
                    unit = String(part)
                case "tenant", "model", "tier", "tag": break
                default: return nil
                }
            }
            var dimensions = Set(seen.compactMap { UsageReporter.Dimension(rawValue: String($0)) })
            if unit != nil { dimensions.insert(.day) }
            return ReportGroups(text: text, byTenant: seen.contains("tenant"), unit: unit, dimensions: dimensions)
        } ?? ReportGroups(text: "", byTenant: false, unit: nil, dimensions: [])
    }
}
