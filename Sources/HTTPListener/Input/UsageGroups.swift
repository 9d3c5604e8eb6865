public import Domain

/// What a report of usage is grouped by: the parameter `group_by`, as both listeners read it.
public struct UsageGroups: Sendable {
    /// A stretch of time that has rows of its own.
    public enum Unit: String, Sendable, CaseIterable {
        case hour, day, month

        var frequency: Frequency {
            switch self {
            case .hour: .hour
            case .day: .day
            case .month: .month
            }
        }
    }

    /// What else rows can be told apart by, in the order of their columns.
    public enum Word: String, Sendable, CaseIterable {
        case tenant, tag, tier, model, user, key

        var column: String {
            switch self {
            case .tenant, .user, .key: "\(rawValue)_id"
            case .tag, .tier, .model: rawValue
            }
        }
    }

    /// As it was asked; empty for no groups.
    public let text: String
    public let unit: Unit?
    public let words: Set<Word>

    /// Thirteen months of hours.
    public static let hourLimit = 9_600
    /// Of days, or of months.
    public static let dayLimit = 400

    /// - Parameters:
    ///   - words: those that the route knows.
    ///   - units: the same of time.
    /// - Throws: `validation_failed` for a word that the route does not know, one that is there twice, two stretches of time, and for tags
    ///   together with keys or users.
    public init(
        _ query: QueryParameters, among words: Set<Word>, units: [Unit] = Unit.allCases
    ) throws(Refusal) {
        let known = Word.allCases.filter(words.contains).map(\.rawValue).joined(separator: ", ")
        let times = units.map(\.rawValue).joined(separator: ", ")
        let parsed =
            try query.value(
                "group_by", "a list of \(known), each once, and at most one of \(times)",
                fix: "Send group_by=day,model."
            ) { Self.parse($0, among: words, units: units) } ?? (unit: nil, words: [])
        guard !parsed.words.contains(.tag) || parsed.words.isDisjoint(with: [.key, .user]) else {
            throw .invalid(
                "group_by", "cannot name tag together with key or user",
                fix: "Ask for one of them: the usage of tags is not kept by key.")
        }
        text = query.text("group_by") ?? ""
        unit = parsed.unit
        self.words = parsed.words
    }

    private static func parse(
        _ text: String, among known: Set<Word>, units: [Unit]
    ) -> (unit: Unit?, words: Set<Word>)? {
        var unit: Unit?
        var words: Set<Word> = []
        for part in text.split(separator: ",", omittingEmptySubsequences: false) {
            if unit == nil, let asked = Unit(rawValue: String(part)), units.contains(asked) {
                unit = asked
            } else if let word = Word(rawValue: String(part)), known.contains(word), words.insert(word).inserted {
                continue
            } else {
                return nil
            }
        }
        return (unit, words)
    }

    /// The columns of the groups.
    public var columns: [String] {
        (unit.map { [$0.rawValue] } ?? []) + Word.allCases.filter(words.contains).map(\.column)
    }

    /// The stretches of a range, cut at its ends: local days and months, hours of UTC; or the whole range as one.
    /// - Throws: `validation_failed` where there are too many.
    public func stretches(
        of range: UsageQuery.Stretch, _ calendar: PeriodCalendar
    ) throws(Refusal) -> [(name: String, stretch: UsageQuery.Stretch)] {
        guard let unit else { return [("", range)] }
        let limit = unit == .hour ? Self.hourLimit : Self.dayLimit
        var stretches: [(name: String, stretch: UsageQuery.Stretch)] = []
        var cursor = range.start
        while cursor < range.end {
            guard stretches.count < limit else {
                throw .invalid(
                    "start", "spans more than \(limit) of what it is grouped by",
                    fix: "Ask for a shorter range, or do not group by \(unit.rawValue).")
            }
            let period = calendar.period(containing: cursor, frequency: unit.frequency)
            let name =
                switch unit {
                case .hour: period.start.description
                case .day: String(period.id.prefix(10))
                case .month: String(period.id.prefix(7))
                }
            stretches.append((name, UsageQuery.Stretch(start: cursor, end: min(period.end, range.end))))
            cursor = period.end
        }
        return stretches
    }
}
