internal import Domain
internal import HTTPListener
internal import Hummingbird

/// The query of `GET /api/v1/requests`.
enum RequestListInput {
    private static let names: Set<String> = [
        "limit", "after", "before", "starting_after", "ending_before", "start", "end", "status", "model", "version",
        "error_code", "key_id", "user_id", "operation", "cached",
    ]
    private static let statuses: Set<String> = ["queued", "processing", "completed", "failed", "cancelled", "expired"]

    static func query(_ request: Request, tenantID: TenantID) throws(Refusal) -> RequestQuery {
        let query = try QueryParameters(request, allowed: names)
        let limit = try query.integer("limit", in: 1...100, default: 20)
        let (after, before) = try edges(query)
        if let status = query.text("status"), !statuses.contains(status) {
            throw Refusal.invalid(
                "status", "is not a status", fix: "One of \(statuses.sorted().joined(separator: ", ")).")
        }
        if let model = query.text("model"), !ModelName.isValid(model.utf8) {
            throw Refusal.invalid("model", "is not a model's name", fix: "Send the name that the request had.")
        }
        var asked = RequestQuery(
            tenantID: tenantID, limit: limit + 1, after: after, before: before, status: query.text("status"),
            model: query.text("model"))
        try filter(&asked, by: query)
        return asked
    }

    /// The cursors, under either of their names.
    private static func edges(_ query: QueryParameters) throws(Refusal) -> (Domain.RequestID?, Domain.RequestID?) {
        let given = ["after", "before", "starting_after", "ending_before"].filter { query.text($0) != nil }
        guard given.count <= 1 else {
            throw Refusal.invalid(given[1], "cannot be sent together with \(given[0])", fix: "Send one of them.")
        }
        guard let name = given.first, let edge = try query.requestID(name) else { return (nil, nil) }
        return name == "after" || name == "starting_after" ? (edge, nil) : (nil, edge)
    }

    private static func filter(_ asked: inout RequestQuery, by query: QueryParameters) throws(Refusal) {
        asked.start = try query.instant("start")
        asked.end = try query.instant("end")
        if let start = asked.start, let end = asked.end, start >= end {
            throw .invalid("end", "must be later than start", fix: "The range is half-open: start <= t < end.")
        }
        asked.version = try query.value("version", "a text of 1 to 128 bytes", fix: "Send the version of an answer.") {
            (1...128).contains($0.utf8.count) ? $0 : nil
        }
        asked.errorCode = try query.value(
            "error_code", "a code of lower-case letters and underscores", fix: "Send the code of a problem."
        ) { isWord($0, also: "_") ? $0 : nil }
        asked.operation = try query.value(
            "operation", "a word of lower-case letters and dots",
            fix: "Send a word such as predict or chat.completions."
        ) { isWord($0, also: ".") ? $0 : nil }
        asked.keyID = try query.value("key_id", "the id of a key", fix: "Take it from a request.") { KeyID($0) }
        asked.userID = try query.value("user_id", "the id of a user", fix: "Take it from a request.") { UserID($0) }
        asked.isCached = try query.value("cached", "true or false", fix: "Send one of these words.") { text in
            switch text {
            case "true": true
            case "false": false
            default: nil
            }
        }
    }

    private static func isWord(_ text: String, also sign: Character) -> Bool {
        (1...64).contains(text.utf8.count) && text.allSatisfy { $0.isASCII && $0.isLowercase || $0 == sign }
    }
}
