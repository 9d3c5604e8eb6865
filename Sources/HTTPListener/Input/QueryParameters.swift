public import Domain
public import Hummingbird

/// The query of a request, read strictly: an unknown or a repeated name is an error, because a misspelt filter would silently show too
/// much.
public struct QueryParameters: Sendable {
    private var values: [String: String] = [:]

    /// - Throws: `validation_failed` for a name that is not `allowed` or is there twice.
    public init(_ request: Request, allowed: Set<String>) throws(Refusal) {
        for (name, value) in request.uri.queryParameters {
            guard allowed.contains(String(name)) else {
                throw .invalid(
                    String(name.prefix(64)), "is not a parameter of this route",
                    fix: allowed.isEmpty
                        ? "Leave it out." : "The parameters are \(allowed.sorted().joined(separator: ", ")).")
            }
            guard values.updateValue(String(value), forKey: String(name)) == nil else {
                throw .invalid(String(name), "is given twice", fix: "Send it once.")
            }
        }
    }

    public func text(_ name: String) -> String? { values[name] }

    /// A value that `read` makes of the text; `nil` where there is none.
    /// - Parameter expectation: goes behind "must be".
    /// - Throws: `validation_failed` where `read` gives nothing. So do the readers below.
    public func value<Value>(
        _ name: String, _ expectation: String, fix: String, _ read: (String) -> Value?
    ) throws(Refusal) -> Value? {
        guard let text = values[name] else { return nil }
        guard let value = read(text) else { throw .invalid(name, "must be \(expectation)", fix: fix) }
        return value
    }

    public func integer(_ name: String, in range: ClosedRange<Int>, default fallback: Int) throws(Refusal) -> Int {
        try value(
            name, "a number from \(range.lowerBound) to \(range.upperBound)", fix: "Leave it out for \(fallback)."
        ) { text in
            guard text.utf8.allSatisfy({ (0x30...0x39).contains($0) }), let number = Int(text), range.contains(number)
            else { return nil }
            return number
        } ?? fallback
    }

    public func instant(_ name: String) throws(Refusal) -> Timestamp? {
        try value(
            name, "a time with an offset, from 1970 to 9999",
            fix: "Send it as 2026-03-01T00:00:00Z; write a plus sign as %2B."
        ) { text in
            guard let instant = Timestamp(rfc3339: text), (0..<Self.year10000).contains(instant.microsecondsSince1970)
            else { return nil }
            return instant
        }
    }

    private static let year10000: Int64 = 253_402_300_800_000_000

    /// The start or the end of a range of usage.
    public func usageEdge(_ name: String) throws(Refusal) -> Timestamp? {
        guard let edge = try instant(name) else { return nil }
        guard edge.isUsageEdge else {
            throw .invalid(
                name, "must be on a quarter of an hour, by which usage is summed",
                fix: "Send minutes of 00, 15, 30 or 45 and no seconds.")
        }
        return edge
    }

    /// The range of a report, `start` to `end`, half-open and on quarters of an hour. What is left out is that of `month`; a
    /// range that begins behind it has to name its end.
    public func usageRange(in month: Period) throws(Refusal) -> UsageQuery.Stretch {
        let start = try usageEdge("start") ?? month.start
        let end = try usageEdge("end") ?? month.end
        guard start < end else {
            throw .invalid("end", "must be later than start", fix: "The range is half-open: start <= t < end.")
        }
        return UsageQuery.Stretch(start: start, end: end)
    }
}
