internal import Domain
internal import HTTPListener

/// A place in the list of requests, as callers hand it back: they need not know what is in it.
///
/// It names a request's id, by which the list is sorted, whether or not there is such a request: what comes or goes meanwhile moves
/// nothing.
enum RequestCursor {
    static func text(_ id: Domain.RequestID) -> String {
        var text = "cur_"
        for word in [id.high, id.low] {
            let digits = String(word, radix: 36)
            text += String(repeating: "0", count: 13 - digits.count) + digits
        }
        return text
    }

    /// Reads a cursor, and a request's id, which has always been one.
    static func id(_ text: String) -> Domain.RequestID? {
        guard text.hasPrefix("cur_") else { return Domain.RequestID(publicText: text) }
        let digits = text.dropFirst(4)
        guard digits.utf8.count == 26,
            digits.utf8.allSatisfy({ (0x30...0x39).contains($0) || (0x61...0x7A).contains($0) }),
            let high = UInt64(digits.prefix(13), radix: 36), let low = UInt64(digits.suffix(13), radix: 36)
        else { return nil }
        return Domain.RequestID(high: high, low: low)
    }
}

extension QueryParameters {
    /// A cursor of the list of requests.
    func requestID(_ name: String) throws(Refusal) -> Domain.RequestID? {
        try value(name, "a cursor of the list of requests", fix: "Take it from next_cursor or last_id of a page.") {
            RequestCursor.id($0)
        }
    }
}
