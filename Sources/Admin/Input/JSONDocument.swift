internal import Domain

/// A JSON value as it was written. Numbers stay text: whoever needs one says which kind.
indirect enum JSONValue: Equatable, Sendable {
    case null
    case bool(Bool)
    case number(String)
    case string(String)
    case array([JSONValue])
    case object([String: JSONValue])
}

/// Reads RFC 8259 strictly: UTF-8, one document, no key twice, nothing behind it, and not nested too deeply.
struct JSONDocument {
    static let depthLimit = 32

    private let bytes: [UInt8]
    private var position = 0

    /// - Throws: `invalid_json`, `duplicate_key`, `too_deep`.
    static func parse(_ bytes: [UInt8]) throws(Refusal) -> JSONValue {
        guard String(validating: bytes, as: UTF8.self) != nil else {
            throw Refusal(.invalidJSON, "The body is not UTF-8.")
        }
        var reader = JSONDocument(bytes: bytes)
        let value = try reader.value(depth: 0)
        reader.skipSpace()
        guard reader.position == bytes.count else { throw reader.failure("There is something behind the document") }
        return value
    }

    private init(bytes: [UInt8]) { self.bytes = bytes }

    private var next: UInt8? { position < bytes.count ? bytes[position] : nil }

    private func failure(_ what: String) -> Refusal {
        Refusal(
            .invalidJSON, "\(what), at byte \(position).",
            errors: [
                Refusal.FieldError(
                    location: "", message: "\(what), at byte \(position).", fix: "Send one JSON object in UTF-8.")
            ])
    }

    private mutating func skipSpace() {
        while let byte = next, byte == 0x20 || byte == 0x09 || byte == 0x0A || byte == 0x0D { position += 1 }
    }

    private mutating func skip(_ byte: UInt8) -> Bool {
        skipSpace()
        guard next == byte else { return false }
        position += 1
        return true
    }

    private mutating func value(depth: Int) throws(Refusal) -> JSONValue {
        skipSpace()
        guard let byte = next else { throw failure("The document ends too early") }
        switch byte {
        case UInt8(ascii: "{"):
            try checkDepth(depth)
            return try object(depth: depth + 1)
        case UInt8(ascii: "["):
            try checkDepth(depth)
            return try array(depth: depth + 1)
        case UInt8(ascii: "\""): return .string(try string())
        case UInt8(ascii: "t"): return try word("true", .bool(true))
        case UInt8(ascii: "f"): return try word("false", .bool(false))
        case UInt8(ascii: "n"): return try word("null", .null)
        case UInt8(ascii: "-"), 0x30...0x39: return .number(try number())
        default: throw failure("No value begins like this")
        }
    }

    private func checkDepth(_ depth: Int) throws(Refusal) {
        guard depth < Self.depthLimit else {
            throw Refusal(.tooDeep, "The body is nested more than \(Self.depthLimit) levels deep.")
        }
    }

    private mutating func word(_ text: StaticString, _ value: JSONValue) throws(Refusal) -> JSONValue {
        let isThere = text.withUTF8Buffer { bytes[position...].starts(with: $0) }
        guard isThere else { throw failure("No value begins like this") }
        position += text.utf8CodeUnitCount
        return value
    }

    private mutating func object(depth: Int) throws(Refusal) -> JSONValue {
        position += 1
        var members: [String: JSONValue] = [:]
        if skip(UInt8(ascii: "}")) { return .object(members) }
        repeat {
            skipSpace()
            guard next == UInt8(ascii: "\"") else { throw failure("A key must be a string") }
            let key = try string()
            guard skip(UInt8(ascii: ":")) else { throw failure("A colon is missing") }
            let value = try value(depth: depth)
            guard members.updateValue(value, forKey: key) == nil else {
                throw Refusal(.duplicateKey, "The key \(key.prefix(64)) is there twice in one object. Send it once.")
            }
        } while skip(UInt8(ascii: ","))
        guard skip(UInt8(ascii: "}")) else { throw failure("A comma or a closing brace is missing") }
        return .object(members)
    }

    private mutating func array(depth: Int) throws(Refusal) -> JSONValue {
        position += 1
        var elements: [JSONValue] = []
        if skip(UInt8(ascii: "]")) { return .array(elements) }
        repeat { elements.append(try value(depth: depth)) } while skip(UInt8(ascii: ","))
        guard skip(UInt8(ascii: "]")) else { throw failure("A comma or a closing bracket is missing") }
        return .array(elements)
    }

    private mutating func number() throws(Refusal) -> String {
        let start = position
        if next == UInt8(ascii: "-") { position += 1 }
        if next == UInt8(ascii: "0") { position += 1 } else { try digits() }
        if next == UInt8(ascii: ".") {
            position += 1
            try digits()
        }
        if next == UInt8(ascii: "e") || next == UInt8(ascii: "E") {
            position += 1
            if next == UInt8(ascii: "+") || next == UInt8(ascii: "-") { position += 1 }
            try digits()
        }
        return String(decoding: bytes[start..<position], as: UTF8.self)
    }

    private mutating func digits() throws(Refusal) {
        let start = position
        while let byte = next, (0x30...0x39).contains(byte) { position += 1 }
        guard position > start else { throw failure("A digit is missing") }
    }

    private mutating func string() throws(Refusal) -> String {
        position += 1
        var text: [UInt8] = []
        while let byte = next {
            position += 1
            switch byte {
            case UInt8(ascii: "\""): return String(decoding: text, as: UTF8.self)
            case UInt8(ascii: "\\"): text.append(contentsOf: try escape())
            case 0x00...0x1F:
                position -= 1
                throw failure("A control character must be escaped")
            default: text.append(byte)
            }
        }
        throw failure("A string does not end")
    }

    private mutating func escape() throws(Refusal) -> [UInt8] {
        guard let byte = next else { throw failure("A string does not end") }
        position += 1
        switch byte {
        case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): return [byte]
        case UInt8(ascii: "b"): return [0x08]
        case UInt8(ascii: "f"): return [0x0C]
        case UInt8(ascii: "n"): return [0x0A]
        case UInt8(ascii: "r"): return [0x0D]
        case UInt8(ascii: "t"): return [0x09]
        case UInt8(ascii: "u"): return Array(String(try scalar()).utf8)
        default: throw failure("There is no such escape")
        }
    }

    private mutating func scalar() throws(Refusal) -> Character {
        let unit = try hexadecimal()
        var code = UInt32(unit)
        if (0xD800..<0xDC00).contains(unit) {
            guard bytes[position...].starts(with: "\\u".utf8) else {
                throw failure("Half of a surrogate pair stands alone")
            }
            position += 2
            let low = try hexadecimal()
            guard (0xDC00..<0xE000).contains(low) else { throw failure("Half of a surrogate pair stands alone") }
            code = 0x10000 + (UInt32(unit) - 0xD800) << 10 + (UInt32(low) - 0xDC00)
        }
        guard let scalar = Unicode.Scalar(code) else { throw failure("Half of a surrogate pair stands alone") }
        return Character(scalar)
    }

    private mutating func hexadecimal() throws(Refusal) -> UInt16 {
        guard position + 4 <= bytes.count else { throw failure("A string does not end") }
        var unit: UInt16 = 0
        for byte in bytes[position..<position + 4] {
            guard let digit = Character(Unicode.Scalar(byte)).hexDigitValue, byte < 0x80 else {
                throw failure("Four digits must follow")
            }
            unit = unit << 4 | UInt16(digit)
        }
        position += 4
        return unit
    }
}

extension JSONValue: Encodable {
    /// For what we wrote ourselves, whose numbers are integers: any other goes out as text, because it would pass
    /// through floating point.
    func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        switch self {
        case .null: try container.encodeNil()
        case .bool(let value): try container.encode(value)
        case .number(let text):
            if let number = Int64(text) { try container.encode(number) } else { try container.encode(text) }
        case .string(let value): try container.encode(value)
        case .array(let value): try container.encode(value)
        case .object(let value): try container.encode(value)
        }
    }
}
