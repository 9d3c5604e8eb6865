internal import Domain

/// Writes the members of a JSON object in the order in which they are given.
struct ExportWriter {
    private(set) var bytes: [UInt8] = []

    init(object: StaticString, expecting count: Int = 1_024) {
        bytes.reserveCapacity(count)
        text("{\"object\":\"")
        text(object)
        text("\"")
    }

    private mutating func text(_ text: StaticString) { text.withUTF8Buffer { bytes.append(contentsOf: $0) } }

    private mutating func key(_ name: StaticString) {
        text(",\"")
        text(name)
        text("\":")
    }

    mutating func member(_ name: StaticString, _ value: Int64) {
        key(name)
        bytes.append(contentsOf: String(value).utf8)
    }

    mutating func member(_ name: StaticString, _ value: String?) {
        key(name)
        guard let value else { return text("null") }
        bytes.append(UInt8(ascii: "\""))
        for byte in value.utf8 {
            switch byte {
            case UInt8(ascii: "\""), UInt8(ascii: "\\"):
                bytes.append(UInt8(ascii: "\\"))
                bytes.append(byte)
            case 0x00...0x1F:
                text("\\u00")
                bytes.append(contentsOf: [byte].hexadecimal.utf8)
            default: bytes.append(byte)
            }
        }
        bytes.append(UInt8(ascii: "\""))
    }

    mutating func member<Kind>(_ name: StaticString, _ id: Identifier<Kind>?) { member(name, id?.description) }

    mutating func member(_ name: StaticString, _ instant: Timestamp) { member(name, instant.description) }

    mutating func member(_ name: StaticString, _ hash: ProofHash?) { member(name, hash?.hexadecimal) }

    /// A value that is JSON already.
    mutating func member(_ name: StaticString, json value: [UInt8]?) {
        key(name)
        if let value { bytes.append(contentsOf: value) } else { text("null") }
    }

    mutating func member(_ name: StaticString, json values: [[UInt8]]) {
        key(name)
        bytes.append(UInt8(ascii: "["))
        for (index, value) in values.enumerated() {
            if index > 0 { bytes.append(UInt8(ascii: ",")) }
            bytes.append(contentsOf: value)
        }
        bytes.append(UInt8(ascii: "]"))
    }

    /// The object, whole.
    consuming func end() -> [UInt8] {
        bytes.append(UInt8(ascii: "}"))
        return bytes
    }
}

/// Takes the members of a JSON object one by one; what is left at the end was not expected.
struct ExportReader {
    private var members: [String: ProofJSON]

    /// - Throws: for anything but an object that names itself so.
    init(_ value: ProofJSON, object: StaticString) throws(ProofFailure) {
        guard case .object(let members) = value else { throw ProofFailure("it is no JSON object") }
        self.members = members
        let found = try text("object")
        guard found == "\(object)" else { throw ProofFailure("it is no \(object)") }
    }

    /// What the object says that it is.
    static func name(of value: ProofJSON) -> String? {
        guard case .object(let members) = value, case .string(let name) = members["object"] else { return nil }
        return name
    }

    private mutating func take(_ name: String) throws(ProofFailure) -> ProofJSON {
        guard let value = members.removeValue(forKey: name) else { throw ProofFailure("the field \(name) is missing") }
        return value
    }

    func has(_ name: String) -> Bool { members[name] != nil }

    mutating func value(_ name: String) throws(ProofFailure) -> ProofJSON { try take(name) }

    mutating func text(_ name: String) throws(ProofFailure) -> String {
        guard case .string(let text) = try take(name) else { throw ProofFailure("the field \(name) is no text") }
        return text
    }

    mutating func optionalText(_ name: String) throws(ProofFailure) -> String? {
        switch try take(name) {
        case .null: return nil
        case .string(let text): return text
        default: throw ProofFailure("the field \(name) is no text")
        }
    }

    mutating func integer(_ name: String) throws(ProofFailure) -> Int64 {
        guard case .integer(let number) = try take(name) else {
            throw ProofFailure("the field \(name) is no number")
        }
        return number
    }

    mutating func array(_ name: String) throws(ProofFailure) -> [ProofJSON] {
        guard case .array(let elements) = try take(name) else { throw ProofFailure("the field \(name) is no list") }
        return elements
    }

    /// Only the form in which we write it: one value has one form.
    mutating func identifier<Kind>(
        _ name: String, prefix: String = ""
    ) throws(ProofFailure) -> Identifier<Kind> {
        guard let id: Identifier<Kind> = Self.identifier(try text(name), prefix) else {
            throw ProofFailure("the field \(name) is no id")
        }
        return id
    }

    mutating func optionalIdentifier<Kind>(_ name: String) throws(ProofFailure) -> Identifier<Kind>? {
        guard let text = try optionalText(name) else { return nil }
        guard let id: Identifier<Kind> = Self.identifier(text, "") else {
            throw ProofFailure("the field \(name) is no id")
        }
        return id
    }

    private static func identifier<Kind>(_ text: String, _ prefix: String) -> Identifier<Kind>? {
        guard text.hasPrefix(prefix), let id = Identifier<Kind>(text.dropFirst(prefix.count)),
            prefix + id.description == text
        else { return nil }
        return id
    }

    mutating func instant(_ name: String) throws(ProofFailure) -> Timestamp {
        let text = try text(name)
        guard let instant = Timestamp(rfc3339: text), instant.description == text else {
            throw ProofFailure("the field \(name) is no instant as exports have it")
        }
        return instant
    }

    mutating func optionalInstant(_ name: String) throws(ProofFailure) -> Timestamp? {
        if members[name] == .null {
            members[name] = nil
            return nil
        }
        return try instant(name)
    }

    mutating func hash(_ name: String) throws(ProofFailure) -> ProofHash {
        guard let hash = ProofHash(hexadecimal: try text(name)) else {
            throw ProofFailure("the field \(name) is no hash of 64 hexadecimal digits")
        }
        return hash
    }

    mutating func bytes(_ name: String, count: Int) throws(ProofFailure) -> [UInt8] {
        guard let bytes = [UInt8](hexadecimal: try text(name)), bytes.count == count else {
            throw ProofFailure("the field \(name) is not \(count) bytes in hexadecimal digits")
        }
        return bytes
    }

    mutating func keyID(_ name: String) throws(ProofFailure) -> SigningKeyID {
        guard let id = SigningKeyID(try text(name)) else { throw ProofFailure("the field \(name) is no key's id") }
        return id
    }

    /// - Throws: where a member is left that nobody asked for: it would look as if it had been signed.
    consuming func end() throws(ProofFailure) {
        if let name = members.keys.min() {
            throw ProofFailure("the field \(String(name.prefix(64))) does not belong there")
        }
    }
}
