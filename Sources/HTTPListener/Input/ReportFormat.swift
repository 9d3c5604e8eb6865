public import Domain
internal import HTTPTypes
public import Hummingbird

/// In what form a report is answered.
public enum ReportFormat: String, Sendable {
    case json, csv

    /// What the parameter `format` says; without it CSV where `Accept` names it and nothing of JSON before it.
    /// - Throws: `validation_failed` for a format that there is not.
    public init(_ query: QueryParameters, _ request: Request) throws(Refusal) {
        let asked = try query.value("format", "json or csv", fix: "Leave it out for json.") {
            ReportFormat(rawValue: $0)
        }
        self = asked ?? (Self.prefersCSV(request.headers[values: .accept]) ? .csv : .json)
    }

    /// Whether `text/csv` is named and nothing that JSON fits is wanted more. Of two that are wanted alike the one that is named first counts.
    static func prefersCSV(_ fields: [String]) -> Bool {
        let ranges = fields.flatMap { $0.split(separator: ",") }.map(MediaRange.init)
        guard let place = ranges.firstIndex(where: { $0.media == "text/csv" }), ranges[place].weight > 0 else {
            return false
        }
        let csv = ranges[place]
        return !ranges.enumerated().contains { index, range in
            switch range.media {
            case "application/json": range.weight > csv.weight || range.weight == csv.weight && index < place
            case "application/*", "*/*": range.weight > csv.weight
            default: false
            }
        }
    }

    /// One of what `Accept` lists (RFC 9110, section 12.5.1).
    private struct MediaRange {
        let media: String
        /// In thousandths.
        let weight: Int

        init(_ text: Substring) {
            let parts = text.lowercased().split(separator: ";").map { part in part.filter { $0 != " " && $0 != "\t" } }
            media = parts.first ?? ""
            weight = parts.dropFirst().first { $0.hasPrefix("q=") }.map { Self.thousandths($0.dropFirst(2)) } ?? 1_000
        }

        /// `1` or a fraction of at most three digits; anything else is no wish at all.
        private static func thousandths(_ text: Substring) -> Int {
            let parts = text.split(separator: ".", maxSplits: 1, omittingEmptySubsequences: false)
            let fraction = parts.count == 2 ? parts[1] : ""
            guard parts.count <= 2, parts[0] == "0" || parts[0] == "1", fraction.utf8.count <= 3,
                fraction.utf8.allSatisfy({ (0x30...0x39).contains($0) }),
                let number = Int(fraction + String(repeating: "0", count: 3 - fraction.utf8.count))
            else { return 0 }
            return min(1_000, (parts[0] == "1" ? 1_000 : 0) + number)
        }
    }
}
