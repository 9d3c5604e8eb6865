internal import Domain

/// Everything that is wrong with an input, so that a caller learns it at once and not one by one.
final class InputProblems {
    /// An input can hold thousands of wrong values; the first ones say enough.
    private static let limit = 32
    private(set) var list: [Refusal.FieldError] = []
    private var hasUnknownField = false

    func add(_ location: String, _ message: String, fix: String) {
        guard list.count < Self.limit else { return }
        list.append(Refusal.FieldError(location: location, message: message, fix: fix))
    }

    /// Decides about the code: whoever sends a field that there is not means something that would not happen, however
    /// good the other values are.
    func addUnknownField(_ location: String, fix: String) {
        hasUnknownField = true
        add(location, "is not a field of this object", fix: fix)
    }

    var refusal: Refusal {
        Refusal(
            hasUnknownField ? .unknownField : .validationFailed,
            list.count == 1 ? "One value is not acceptable." : "\(list.count) values are not acceptable.", errors: list)
    }

    /// - Throws: `unknown_field` or `validation_failed` if anything was wrong.
    func check() throws(Refusal) {
        if !list.isEmpty { throw refusal }
    }
}

/// One object of an input. Readers note what is wrong and go on; a field that is not known is wrong.
struct InputObject {
    let problems: InputProblems
    private let members: [String: JSONValue]
    private let pointer: String

    init(_ members: [String: JSONValue], at pointer: String, fields: Set<String>, problems: InputProblems) {
        self.members = members
        self.pointer = pointer
        self.problems = problems
        for name in members.keys.sorted() where !fields.contains(name) {
            problems.addUnknownField(
                location(name), fix: "The fields are \(fields.sorted().joined(separator: ", ")).")
        }
    }

    var isEmpty: Bool { members.isEmpty }

    func has(_ name: String) -> Bool { members[name] != nil }

    func isNull(_ name: String) -> Bool { members[name] == .null }

    func isEmptyList(_ name: String) -> Bool { members[name] == .array([]) }

    /// The field's JSON Pointer (RFC 6901).
    func location(_ name: String) -> String {
        var escaped = ""
        for character in name.prefix(64) {
            switch character {
            case "~": escaped += "~0"
            case "/": escaped += "~1"
            default: escaped.append(character)
            }
        }
        return "\(pointer)/\(escaped)"
    }

    func note(_ name: String, _ message: String, fix: String) { problems.add(location(name), message, fix: fix) }

    func required<Value>(_ name: String, _ rule: InputRule<Value>) -> Value? {
        guard let value = members[name] else {
            note(name, "is missing", fix: rule.fix)
            return nil
        }
        return read(value, name, rule)
    }

    /// A field that may be left out; `null` is not the same.
    func optional<Value>(_ name: String, _ rule: InputRule<Value>) -> Value? {
        members[name].flatMap { read($0, name, rule) }
    }

    /// A field that may be left out or `null`, which mean the same.
    func nullable<Value>(_ name: String, _ rule: InputRule<Value>) -> Value? {
        members[name].flatMap { $0 == .null ? nil : read($0, name, rule) }
    }

    /// An object in a field.
    func object(_ name: String, fields: Set<String>) -> InputObject? {
        guard let value = members[name] else {
            note(name, "is missing", fix: "Send an object.")
            return nil
        }
        guard case .object(let inner) = value else {
            note(name, "must be an object", fix: "Send {...}.")
            return nil
        }
        return InputObject(inner, at: location(name), fields: fields, problems: problems)
    }

    /// A list of objects in a field.
    func objects(_ name: String, count: ClosedRange<Int>, fields: Set<String>) -> [InputObject] {
        guard let value = members[name] else {
            note(name, "is missing", fix: "Send a list of objects.")
            return []
        }
        guard case .array(let elements) = value, count.contains(elements.count) else {
            note(name, "must be a list of \(count.lowerBound) to \(count.upperBound) objects", fix: "Send [{...}].")
            return []
        }
        var objects: [InputObject] = []
        for (index, element) in elements.enumerated() {
            guard case .object(let inner) = element else {
                note(name, "must hold objects only, unlike the one at \(index)", fix: "Send [{...}].")
                continue
            }
            objects.append(InputObject(inner, at: "\(location(name))/\(index)", fields: fields, problems: problems))
        }
        return objects
    }

    private func read<Value>(_ value: JSONValue, _ name: String, _ rule: InputRule<Value>) -> Value? {
        guard let result = rule.read(value) else {
            note(name, "must be \(rule.expectation)", fix: rule.fix)
            return nil
        }
        return result
    }
}
