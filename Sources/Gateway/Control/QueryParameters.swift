internal import Domain
internal import Hummingbird

/// The query of a request, read strictly: an unknown or a repeated name is an error, because a misspelt filter would silently show too
/// much.
struct QueryParameters {
    private var values: [String: String] = [:]

    init(_ request: Request, allowed: Set<String>) throws(Refusal) {
        for (name, value) in request.uri.queryParameters {
            guard allowed.contains(String(name)) else {
                throw .invalid(
                    String(name.prefix(64)), "is not a parameter of this route",
                    fix: "The parameters are \(allowed.sorted().joined(separator: ", ")).")
            }
            guard values.updateValue(String(value), forKey: String(name)) == nil else {
                throw .invalid(String(name), "is given twice", fix: "Send it once.")
            }
        }
    }

    func text(_ name: String) -> String? { values[name] }

    func integer(_ name: String, in range: ClosedRange<Int>, default fallback: Int) throws(Refusal) -> Int {
        guard let text = values[name] else { return fallback }
        guard let number = Int(text), range.contains(number), text.utf8.first != UInt8(ascii: "+") else {
            throw .invalid(
                name, "must be a number from \(range.lowerBound) to \(range.upperBound)",
                fix: "Leave it out for \(fallback).")
        }
        return number
    }

    func instant(_ name: String) throws(Refusal) -> Timestamp? {
        guard let text = values[name] else { return nil }
        guard let instant = Timestamp(rfc3339: text), instant.microsecondsSince1970 >= 0,
            instant.microsecondsSince1970 < 253_402_300_800_000_000
        else {
            throw .invalid(
                name, "must be a time with an offset, from 1970 to 9999",
                fix: "Send it as 2026-03-01T00:00:00Z; write a plus sign as %2B.")
        }
        return instant
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

    func requestID(_ name: String) throws(Refusal) -> Domain.RequestID? {
        guard let text = values[name] else { return nil }
        guard let id = Domain.RequestID(publicText: text) else {
            throw .invalid(name, "must be the id of a request", fix: "Take it from first_id or last_id of a page.")
        }
        return id
    }
}
