/// A JSON value of an export: these have no fractions and no booleans.
public indirect enum ProofJSON: Equatable, Sendable {
    case null
    case integer(Int64)
    case string(String)
    case array([ProofJSON])
    case object([String: ProofJSON])

    public init(_ bytes: [UInt8]) throws(ProofFailure) { self = try ProofJSONReader.parse(bytes) }
}

/// Reads JSON (RFC 8259) from somebody who may want to deceive: strict, no key twice, no number that is no 64-bit integer, nothing behind the
/// value, and not nested deeply.
struct ProofJSONReader {
    private let bytes: [UInt8]
    private var position = 0

    private static let depthLimit = 6

    static func parse(_ bytes: [UInt8]) throws(ProofFailure) -> ProofJSON {
        guard String(validating: bytes, as: UTF8.self) != nil else { throw ProofFailure("it is not UTF-8") }
        var reader = ProofJSONReader(bytes: bytes)
        let value = try reader.value(depth: 0)
        reader.skipSpace()
        guard reader.position == bytes.count else { throw reader.failure("there is something behind the value") }
        return value
    }

    private init(bytes: [UInt8]) { self.bytes = bytes }

    private var next: UInt8? { position < bytes.count ? bytes[position] : nil }

    private func failure(_ what: String) -> ProofFailure { ProofFailure("\(what), at byte \(position)") }

    private mutating func skipSpace() {
        while let byte = next, byte == 0x20 || byte == 0x09 || byte == 0x0A || byte == 0x0D { position += 1 }
    }

    private mutating func skip(_ byte: UInt8) -> Bool {
        skipSpace()
        guard next == byte else { return false }
        position += 1
        return true
    }

    private mutating func value(depth: Int) throws(ProofFailure) -> ProofJSON {
        guard depth <= Self.depthLimit else { throw failure("it is nested too deeply") }
        skipSpace()
        switch next {
        case UInt8(ascii: "{"): return .object(try object(depth: depth + 1))
        case UInt8(ascii: "["): return .array(try array(depth: depth + 1))
        case UInt8(ascii: "\""): return .string(try string())
        case UInt8(ascii: "-"), .some(0x30...0x39): return .integer(try integer())
        case UInt8(ascii: "n") where bytes[position...].starts(with: "null".utf8):
            position += 4
            return .null
        default: throw failure("no value of an export begins like this")
        }
    }

    private mutating func object(depth: Int) throws(ProofFailure) -> [String: ProofJSON] {
        position += 1
        var members: [String: ProofJSON] = [:]
        if skip(UInt8(ascii: "}")) { return members }
        repeat {
            skipSpace()
            guard next == UInt8(ascii: "\"") else { throw failure("a key must be a string") }
            let key = try string()
            guard skip(UInt8(ascii: ":")) else { throw failure("a colon is missing") }
            guard members.updateValue(try value(depth: depth), forKey: key) == nil else {
                throw failure("a key is there twice")
            }
        } while skip(UInt8(ascii: ","))
        guard skip(UInt8(ascii: "}")) else { throw failure("a comma or a closing brace is missing") }
        return members
    }

    private mutating func array(depth: Int) throws(ProofFailure) -> [ProofJSON] {
        position += 1
        var elements: [ProofJSON] = []
        if skip(UInt8(ascii: "]")) { return elements }
        repeat { elements.append(try value(depth: depth)) } while skip(UInt8(ascii: ","))
        guard skip(UInt8(ascii: "]")) else { throw failure("a comma or a closing bracket is missing") }
        return elements
    }

    private mutating func integer() throws(ProofFailure) -> Int64 {
        let start = position
        if next == UInt8(ascii: "-") { position += 1 }
        while let byte = next, (0x30...0x39).contains(byte) { position += 1 }
        let text = String(decoding: bytes[start..<position], as: UTF8.self)
        // One number has one form: no leading zero, no minus zero.
        guard let number = Int64(text), String(number) == text else { throw failure("a number is no 64-bit integer") }
        if let byte = next, byte == UInt8(ascii: ".") || byte | 0x20 == UInt8(ascii: "e") {
            throw failure("a number is no 64-bit integer")
        }
        return number
    }

    private mutating func string() throws(ProofFailure) -> String {
        position += 1
        var text: [UInt8] = []
        while let byte = next {
            position += 1
            switch byte {
            case UInt8(ascii: "\""): return String(decoding: text, as: UTF8.self)
            case UInt8(ascii: "\\"): text.append(contentsOf: try escape())
            case 0x00...0x1F: throw failure("a control character must be escaped")
            default: text.append(byte)
            }
        }
        throw failure("a string does not end")
    }

    private mutating func escape() throws(ProofFailure) -> [UInt8] {
        guard let byte = next else { throw failure("a string does not end") }
        position += 1
        switch byte {
        case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): return [byte]
        case UInt8(ascii: "b"): return [0x08]
        case UInt8(ascii: "f"): return [0x0C]
        case UInt8(ascii: "n"): return [0x0A]
        case UInt8(ascii: "r"): return [0x0D]
        case UInt8(ascii: "t"): return [0x09]
        case UInt8(ascii: "u"): return Array(String(Character(try scalar())).utf8)
        default: throw failure("there is no such escape")
        }
    }

    private mutating func scalar() throws(ProofFailure) -> Unicode.Scalar {
        var code = UInt32(try unit())
        if (0xD800..<0xDC00).contains(code) {
            guard bytes[position...].starts(with: "\\u".utf8) else {
                throw failure("half of a surrogate pair stands alone")
            }
            position += 2
            let low = UInt32(try unit())
            guard (0xDC00..<0xE000).contains(low) else { throw failure("half of a surrogate pair stands alone") }
            code = 0x10000 + (code - 0xD800) << 10 + (low - 0xDC00)
        }
        guard let scalar = Unicode.Scalar(code) else { throw failure("half of a surrogate pair stands alone") }
        return scalar
    }

    private mutating func unit() throws(ProofFailure) -> UInt16 {
        guard position + 4 <= bytes.count,
            let unit = UInt16(String(decoding: bytes[position..<position + 4], as: UTF8.self), radix: 16),
            bytes[position] != UInt8(ascii: "+")
        else { throw failure("four hexadecimal digits must follow") }
        position += 4
        return unit
    }
}
