internal import Domain
internal import HTTPListener
internal import Hummingbird

/// The body of a request to the control plane: one JSON object with known members, read strictly.
struct JSONObjectBody {
    let tape: JSONTape
    private let members: [String: JSONTape.Value]

    /// - Parameters:
    ///   - allowed: the members that there are; another one is an error, because a misspelt one would silently do nothing.
    ///   - isOptional: whether an absent body is an empty object.
    init(
        _ request: Request, allowed: Set<String>, maximumBytes: Int, isOptional: Bool = false
    ) async throws {
        if let coding = request.headers[.contentEncoding], coding.lowercased() != "identity" {
            throw Refusal(.unsupportedEncoding, "Compressed bodies are not accepted. Send the body as it is.")
        }
        let type = request.headers[.contentType]
        if !isOptional || type != nil {
            guard let type, MediaType.isJSON(type) else {
                throw Refusal(.unsupportedMediaType, "The body must be JSON. Send content-type: application/json.")
            }
        }
        let bytes = try await request.body.collect(upTo: maximumBytes)
        do throws(JSONTape.Failure) {
            tape = try JSONTape(isOptional && bytes.readableBytes == 0 ? ByteBuffer(string: "{}") : bytes)
        } catch {
            throw Refusal(error)
        }
        guard tape.kind(tape.root) == .object else {
            throw Refusal(.invalidJSON, "The body must be a JSON object.")
        }
        var members: [String: JSONTape.Value] = [:]
        tape.forEachMember(of: tape.root) { [tape] key, value in members[tape.string(key) ?? ""] = value }
        for name in members.keys.sorted() where !allowed.contains(name) {
            throw Refusal(
                .unknownField, "/\(name.prefix(64)) is not a field of this route.",
                errors: [
                    .init(
                        location: "/\(name.prefix(64))", message: "is not a field of this route",
                        fix: "The fields are \(allowed.sorted().joined(separator: ", ")).")
                ])
        }
        self.members = members
    }

    func value(_ name: String) -> JSONTape.Value? { members[name] }

    /// - Throws: `validation_failed` where it is there and no string, or longer than `limit` characters.
    func text(_ name: String, limit: Int) throws(Refusal) -> String? {
        guard let value = members[name], tape.kind(value) != .null else { return nil }
        guard let text = tape.string(value), text.count <= limit else {
            throw .invalid(
                "/\(name)", "must be a string of at most \(limit) characters", fix: "Shorten it, or leave it out.")
        }
        return text
    }

    /// - Throws: `validation_failed` where it is there and no whole number of the range.
    func integer(_ name: String, in range: ClosedRange<Int64>) throws(Refusal) -> Int64? {
        guard let value = members[name], tape.kind(value) != .null else { return nil }
        guard let number = tape.int64(value), range.contains(number) else {
            throw .invalid(
                "/\(name)", "must be a whole number from \(range.lowerBound) to \(range.upperBound)",
                fix: "Leave it out for the default.")
        }
        return number
    }
}
