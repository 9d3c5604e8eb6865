internal import Domain
internal import NIOCore

/// The native surface's body: `{model, version?, features | inputs}`, checked, with its numbers left where they are.
struct PredictRequest: Sendable {
    /// Numbers of one row, and rows of one request, at most.
    static let valueLimit = 4_096
    static let rowLimit = 4_096

    let model: String
    let version: String?
    let tape: JSONTape
    /// One row for `features`, all rows for `inputs`.
    let rows: [JSONTape.Value]
    let isBatch: Bool
    /// One field besides those of every request, by which a model may divide its requests. Whether it may be there is the model's to say.
    let extra: (key: JSONTape.Value, value: JSONTape.Value)?

    private static let forbidden: [StaticString] = ["api_base", "base_url", "url", "callback", "headers"]

    /// Numbers of all rows together.
    var numberCount: Int64 { rows.reduce(0) { $0 + Int64(tape.elements(of: $1).count) } }

    init(_ body: ByteBuffer) throws(Refusal) {
        let tape: JSONTape
        do throws(JSONTape.Failure) {
            tape = try JSONTape(body)
        } catch {
            throw Refusal(error)
        }
        self.tape = tape
        guard tape.kind(tape.root) == .object else {
            throw Refusal(.invalidJSON, "The body must be a JSON object with model and features.")
        }
        let members = try Members(tape)
        extra = members.extra
        guard let modelValue = members.model, let model = tape.string(modelValue) else {
            throw .invalid("/model", "must be the name of a model", fix: "Send \"model\": \"<name>\".")
        }
        guard ModelName.isValid(model.utf8) else {
            throw .invalid(
                "/model", "is not a model's name",
                fix:
                    "A name has 1 to 128 characters of a-z, 0-9, dot, underscore and hyphen, and begins with a letter or digit."
            )
        }
        self.model = model
        version = try members.version.map { value throws(Refusal) in
            guard let text = tape.string(value), ModelVersionName.isValid(text.utf8) else {
                throw .invalid(
                    "/version",
                    "must be 1 to 128 of A-Z, a-z, 0-9, dot, underscore, plus and hyphen, without two dots in a row",
                    fix: "Leave it out for the version in service.")
            }
            return text
        }
        switch (members.features, members.inputs) {
        case (let features?, nil):
            rows = [features]
            isBatch = false
        case (nil, let inputs?):
            guard tape.kind(inputs) == .array else {
                throw .invalid(
                    "/inputs", "must be an array of rows", fix: "Send [[…], […]], one array of numbers for each row.")
            }
            rows = tape.elements(of: inputs)
            isBatch = true
        case (nil, nil):
            throw .invalid(
                "/features", "is missing",
                fix: "Send \"features\": [numbers] for one row, or \"inputs\": [[…], …] for several.")
        case (.some, .some):
            throw .invalid("/inputs", "cannot be sent together with features", fix: "Send one of them.")
        }
        try checkRows()
    }

    /// Checks that a field beyond those of every request is the one by which the model divides its requests.
    func check(extra field: String?) throws(Refusal) {
        guard let extra else { return }
        guard let field, tape.matches(extra.key, text: field) else { throw Self.unknown(extra.key, in: tape) }
        guard tape.kind(extra.value) == .string || tape.int64(extra.value) != nil else {
            throw .invalid(
                "/\(field)", "must be a string or a whole number of 64 bits",
                fix: "Send what your requests have in common, or leave it out.")
        }
    }

    /// Checks the row width that the model's profile declares.
    func check(against profile: ModelProfile) throws(Refusal) {
        guard let expected = profile.featureCount else { return }
        for (index, row) in rows.enumerated() {
            let count = tape.elements(of: row).count
            guard count == expected else {
                throw .invalid(
                    isBatch ? "/inputs/\(index)" : "/features",
                    "has \(count) numbers, the model \(model) takes \(expected)",
                    fix: "Send \(expected) numbers for each row.")
            }
        }
    }

    private func checkRows() throws(Refusal) {
        guard !rows.isEmpty, rows.count <= Self.rowLimit else {
            throw .invalid(
                "/inputs", "must have 1 to \(Self.rowLimit) rows", fix: "Split the input into several requests.")
        }
        var width: Int?
        for (index, row) in rows.enumerated() {
            let location = isBatch ? "/inputs/\(index)" : "/features"
            guard tape.kind(row) == .array else {
                throw .invalid(location, "must be an array of numbers", fix: "Send [numbers].")
            }
            var count = 0
            var allNumbers = true
            tape.forEachElement(of: row) { element in
                count += 1
                if tape.kind(element) != .number { allNumbers = false }
            }
            guard allNumbers else { throw .invalid(location, "must hold numbers only", fix: "Send [numbers].") }
            guard (1...Self.valueLimit).contains(count) else {
                throw .invalid(location, "must have 1 to \(Self.valueLimit) numbers", fix: "Send the model's features.")
            }
            guard count == width ?? count else {
                throw .invalid(location, "must be as long as the rows before it", fix: "Send rows of equal length.")
            }
            width = count
        }
    }

    private struct Members {
        var model: JSONTape.Value?
        var version: JSONTape.Value?
        var features: JSONTape.Value?
        var inputs: JSONTape.Value?
        var extra: (key: JSONTape.Value, value: JSONTape.Value)?

        init(_ tape: JSONTape) throws(Refusal) {
            var forbidden: StaticString?
            var unknown = 0
            tape.forEachMember(of: tape.root) { key, value in
                if tape.matches(key, "model") {
                    model = value
                } else if tape.matches(key, "version") {
                    version = value
                } else if tape.matches(key, "features") {
                    features = value
                } else if tape.matches(key, "inputs") {
                    inputs = value
                } else if let name = PredictRequest.forbidden.first(where: { tape.matches(key, $0) }) {
                    forbidden = name
                } else {
                    if unknown == 0 { extra = (key, value) }
                    unknown += 1
                }
            }
            if let forbidden {
                throw Refusal(
                    .forbiddenField,
                    "The field \(forbidden) is not accepted: where a model is served is the operator's to say. Leave it out."
                )
            }
            if unknown > 1, let extra { throw PredictRequest.unknown(extra.key, in: tape) }
        }
    }

    private static func unknown(_ key: JSONTape.Value, in tape: JSONTape) -> Refusal {
        // The name is the caller's own text, cut so that an answer cannot be made large with it.
        let name = String((tape.string(key) ?? "").unicodeScalars.prefix(64).map { Character($0) })
        return .invalid(
            "/\(name)", "is not a field of this request", fix: "Send model, version, and features or inputs.")
    }
}

extension Refusal {
    /// The refusal of a body that is no document.
    init(_ failure: JSONTape.Failure) {
        switch failure {
        case .invalid(let byte):
            self.init(.invalidJSON, "The body is not valid JSON: unexpected byte, or end, at byte \(byte).")
        case .tooDeep: self.init(.tooDeep, "The body is nested deeper than 32 levels. Send it flatter.")
        case .duplicateKey:
            self.init(
                .duplicateKey,
                "An object in the body has the same key twice. Which one counts would be a guess; send it once.")
        case .invalidNumber:
            self.init(
                .invalidNumber,
                "A number is not finite or does not fit into a 64-bit float. JSON has no NaN and no infinity.")
        case .tooManyKeys: self.init(.invalidJSON, "An object in the body has more than 4,096 keys.")
        case .nul(let byte):
            self.init(
                .validationFailed, "A text in the body has the character U+0000, at byte \(byte). Leave it out.")
        }
    }
}
