/// Reads JSON (RFC 8259) front to back, without building a tree.
///
/// A caller walks the text with `enterObject`/`nextKey` and `enterArray`/`nextElement`, reads or skips each value, and
/// calls `finish` at the end. Depth is bounded before anything recurses, numbers keep their full precision, and nothing
/// but JSON is taken: no trailing data, no comments, no `NaN`. The reader is a value; a copy of it is a bookmark to
/// read the same value again.
struct JSONReader {
    /// Objects and arrays within one another.
    static let maximumDepth = 32

    let bytes: [UInt8]
    var offset = 0
    private var depth = 0
    /// No comma is due before the next member or element. One flag is enough for all levels: entering sets it, and
    /// leaving clears it, as the level outside has then had a member.
    private var isFirst = false

    init(_ bytes: [UInt8]) {
        self.bytes = bytes
    }

    // MARK: Structure

    mutating func enterObject() throws(JSONError) {
        try enter(UInt8(ascii: "{"), called: "an object")
    }

    mutating func enterArray() throws(JSONError) {
        try enter(UInt8(ascii: "["), called: "an array")
    }

    /// The next member's name, with the reader at its value; `nil` when the object has ended.
    mutating func nextKey() throws(JSONError) -> String? {
        guard try advance(closing: UInt8(ascii: "}")) else { return nil }
        let key = try readString()
        skipWhitespace()
        guard current == UInt8(ascii: ":") else { throw syntax("expected a colon") }
        offset += 1
        return key
    }

    /// Whether there is another element, with the reader at it.
    mutating func nextElement() throws(JSONError) -> Bool {
        try advance(closing: UInt8(ascii: "]"))
    }

    /// - Throws: `JSONError` if anything but white space follows.
    mutating func finish() throws(JSONError) {
        skipWhitespace()
        guard offset == bytes.count else { throw syntax("there is data after the end of the JSON text") }
    }

    /// The first byte of the next value.
    mutating func peek() -> UInt8? {
        skipWhitespace()
        return current
    }

    /// Steps over `null`, if that is the next value.
    mutating func skipNull() throws(JSONError) -> Bool {
        guard peek() == UInt8(ascii: "n") else { return false }
        try readLiteral("null")
        return true
    }

    mutating func skipValue() throws(JSONError) {
        switch peek() {
        case UInt8(ascii: "{"):
            try enterObject()
            while try nextKey() != nil { try skipValue() }
        case UInt8(ascii: "["):
            try enterArray()
            while try nextElement() { try skipValue() }
        case UInt8(ascii: "\""): _ = try readString()
        case UInt8(ascii: "t"): try readLiteral("true")
        case UInt8(ascii: "f"): try readLiteral("false")
        case UInt8(ascii: "n"): try readLiteral("null")
        default: _ = try scanNumber()
        }
    }

    mutating func readBoolean() throws(JSONError) -> Bool {
        switch peek() {
        case UInt8(ascii: "t"):
            try readLiteral("true")
            return true
        case UInt8(ascii: "f"):
            try readLiteral("false")
            return false
        default: throw unexpected("expected true or false")
        }
    }

    // MARK: Errors

    func syntax(_ message: String) -> JSONError {
        JSONError(
            kind: .syntax, message: offset < bytes.count ? message : "the JSON text ends too early", offset: offset)
    }

    func unexpected(_ message: String) -> JSONError {
        JSONError(kind: .unexpected, message: message, offset: offset)
    }

    // MARK: Steps

    var current: UInt8? { offset < bytes.count ? bytes[offset] : nil }

    mutating func skipWhitespace() {
        while offset < bytes.count {
            switch bytes[offset] {
            case 0x20, 0x0A, 0x0D, 0x09: offset += 1
            default: return
            }
        }
    }

    private mutating func enter(_ opening: UInt8, called name: String) throws(JSONError) {
        skipWhitespace()
        guard current == opening else {
            throw current == nil ? syntax("") : unexpected("expected \(name)")
        }
        guard depth < Self.maximumDepth else {
            throw JSONError(kind: .tooDeep, message: "nested deeper than \(Self.maximumDepth) levels", offset: offset)
        }
        depth += 1
        offset += 1
        isFirst = true
    }

    private mutating func advance(closing: UInt8) throws(JSONError) -> Bool {
        skipWhitespace()
        if current == closing {
            offset += 1
            depth -= 1
            isFirst = false
            return false
        }
        if !isFirst {
            guard current == UInt8(ascii: ",") else { throw syntax("expected a comma") }
            offset += 1
            skipWhitespace()
            guard current != closing else { throw syntax("there is a comma before the end") }
        }
        isFirst = false
        return true
    }

    private mutating func readLiteral(_ literal: StaticString) throws(JSONError) {
        let length = literal.utf8CodeUnitCount
        let matches = literal.withUTF8Buffer { bytes[offset...].prefix(length).elementsEqual($0) }
        guard matches else { throw syntax("expected a value") }
        offset += length
    }
}
