internal import Domain
internal import Hummingbird

/// The query of a request, read strictly: an unknown or a repeated name is an error, because a misspelt filter would
/// silently show too much.
struct QueryParameters: Sendable {
    private var values: [String: String] = [:]

    init(_ request: Request, allowed: Set<String>) throws(Refusal) {
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

    func text(_ name: String) -> String? { values[name] }

    /// A value that `read` makes of the text; `nil` where there is none.
    func value<Value>(_ name: String, _ expectation: String, fix: String, _ read: (String) -> Value?) throws(Refusal)
        -> Value?
    {
        guard let text = values[name] else { return nil }
        guard let value = read(text) else { throw .invalid(name, "must be \(expectation)", fix: fix) }
        return value
    }

    func integer(_ name: String, in range: ClosedRange<Int>, default fallback: Int) throws(Refusal) -> Int {
        try value(
            name, "a number from \(range.lowerBound) to \(range.upperBound)", fix: "Leave it out for \(fallback)."
        ) { text in
            guard text.utf8.allSatisfy({ (0x30...0x39).contains($0) }), let number = Int(text), range.contains(number)
            else { return nil }
            return number
        } ?? fallback
    }

    func instant(_ name: String) throws(Refusal) -> Timestamp? {
        try value(
            name, "a time with an offset, from 1970 to 9999",
            fix: "Send it as 2026-03-01T00:00:00Z; write a plus sign as %2B."
        ) { text in
            guard let instant = Timestamp(rfc3339: text), InputRule<Timestamp>.range.contains(instant) else {
                return nil
            }
            return instant
        }
    }

    /// The start or the end of a range of usage.
    func usageEdge(_ name: String) throws(Refusal) -> Timestamp? {
        guard let edge = try instant(name) else { return nil }
        guard edge.isUsageEdge else {
            throw .invalid(
                name, "must be on a quarter of an hour, by which usage is summed",
                fix: "Send minutes of 00, 15, 30 or 45 and no seconds.")
        }
        return edge
    }

    /// `limit`, `after` and `before` of a list.
    func page<Cursor>(_ cursor: (String) -> Cursor?) throws(Refusal) -> PageRequest<Cursor> {
        let limit = try integer("limit", in: 1...100, default: 20)
        let fix = "Take it from first_id or last_id of a page."
        let after = try value("after", "a cursor of this list", fix: fix, cursor)
        let before = try value("before", "a cursor of this list", fix: fix, cursor)
        guard after == nil || before == nil else {
            throw .invalid("before", "cannot be sent together with after", fix: "Send one of them.")
        }
        return PageRequest(limit: limit, after: after, before: before)
    }

    /// A cursor that is a name or a code. It need not exist any more: what comes behind it is still clear.
    static func nameCursor(_ text: String) -> String? {
        text.utf8.count <= 256 && !text.isEmpty && !InputRule<String>.hasControlCharacter(text) ? text : nil
    }
}
