import Foundation

/// One call of the admin API.
struct AdminRequest: Sendable {
    enum Method: String, Sendable {
        case get = "GET"
        case post = "POST"
        case put = "PUT"
        case patch = "PATCH"
        case delete = "DELETE"
    }

    /// A body that is sent as it is.
    struct Document: Encodable {
        let json: Data
    }

    let method: Method
    /// The path and the query, both encoded.
    let target: String
    /// JSON.
    let body: Data?

    /// - Parameters:
    ///   - path: components below `/admin/v1`, not encoded.
    ///   - query: pairs, not encoded; those without a value are left out.
    init(_ method: Method, _ path: [String], query: [(String, String?)] = [], body: (any Encodable)? = nil) throws {
        self.method = method
        var target = "/admin/v1/" + path.map(PercentEncoding.component).joined(separator: "/")
        let pairs = query.compactMap { name, value in value.map { "\(name)=\(PercentEncoding.component($0))" } }
        if !pairs.isEmpty { target += "?" + pairs.joined(separator: "&") }
        self.target = target
        if let document = body as? Document {
            self.body = document.json
            return
        }
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        encoder.keyEncodingStrategy = .convertToSnakeCase
        self.body = try body.map { try encoder.encode($0) }
    }
}

/// An error answer of the admin API, RFC 9457.
struct AdminProblem: Decodable, Sendable {
    struct Detail: Decodable, Sendable {
        let location: String
        let message: String
        let fix: String?
    }

    let title: String
    let detail: String?
    let code: String?
    let requestID: String?
    let errors: [Detail]?

    private enum CodingKeys: String, CodingKey {
        case title, detail, code, errors
        case requestID = "request_id"
    }

    /// One line for a person.
    var line: String {
        var text = title
        if let detail, detail != title { text += ": \(detail)" }
        for error in errors ?? [] {
            text += "; \(error.location): \(error.message)"
            if let fix = error.fix { text += " (\(fix))" }
        }
        let marks = [code, requestID].compactMap(\.self).joined(separator: ", ")
        return SafeText.line(marks.isEmpty ? text : "\(text) [\(marks)]")
    }
}

/// What the admin API answered.
struct AdminAnswer: Sendable {
    let status: Int
    let body: Data
    /// Of a file that goes on: what to send as `page`.
    var nextPage: String?

    /// - Throws: ``CommandFailure`` with the problem's one line, unless the status is 2xx.
    func checked() throws(CommandFailure) -> AdminAnswer {
        if (200..<300).contains(status) { return self }
        let exit: ExitStatus = status == 503 ? .unavailable : .failed
        guard let problem = try? JSONDecoder().decode(AdminProblem.self, from: body) else {
            throw CommandFailure(
                "the admin API answered with status \(status) and no explanation; is WEIR_ADMIN_URL right?",
                status: exit)
        }
        let hint =
            switch status {
            case 401: ". Is WEIR_ADMIN_KEY the admin key of this installation?"
            case 403: ". The admin key lacks the scope for this"
            default: ""
            }
        throw CommandFailure("\(problem.line)\(hint)", status: exit)
    }

    func decoded<Value: Decodable>(_ type: Value.Type) throws(CommandFailure) -> Value {
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        do {
            return try decoder.decode(type, from: body)
        } catch {
            throw CommandFailure(
                "the admin API's answer has another shape than this version expects; --json shows it as it came")
        }
    }

    /// The body as it came.
    var text: String { String(decoding: body, as: UTF8.self).trimmingCharacters(in: .whitespacesAndNewlines) }
}

/// Text from elsewhere, made harmless for a terminal.
enum SafeText {
    /// Control characters become spaces: a tenant's name may hold an escape sequence.
    static func line(_ text: String) -> String {
        String(text.unicodeScalars.map { $0.value < 0x20 || (0x7F..<0xA0).contains($0.value) ? " " : Character($0) })
    }
}
