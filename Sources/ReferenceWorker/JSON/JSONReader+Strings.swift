extension JSONReader {
    mutating func readString() throws(JSONError) -> String {
        skipWhitespace()
        guard current == UInt8(ascii: "\"") else {
            throw current == nil ? syntax("") : unexpected("expected a string")
        }
        offset += 1
        let start = offset
        var highBits: UInt8 = 0
        while offset < bytes.count {
            let byte = bytes[offset]
            if byte == UInt8(ascii: "\"") {
                let content = bytes[start..<offset]
                offset += 1
                return highBits < 0x80 ? String(decoding: content, as: UTF8.self) : try validated(content)
            }
            if byte == UInt8(ascii: "\\") { return try readEscapedString(from: start) }
            guard byte >= 0x20 else { throw syntax("a control character stands in a string") }
            highBits |= byte
            offset += 1
        }
        throw syntax("")
    }

    /// The slow way, taken from the first backslash on.
    private mutating func readEscapedString(from start: Int) throws(JSONError) -> String {
        var content = Array(bytes[start..<offset])
        while offset < bytes.count {
            let byte = bytes[offset]
            switch byte {
            case UInt8(ascii: "\""):
                offset += 1
                return try validated(content[...])
            case UInt8(ascii: "\\"):
                offset += 1
                content.append(contentsOf: try readEscape().utf8)
            case 0..<0x20: throw syntax("a control character stands in a string")
            default:
                content.append(byte)
                offset += 1
            }
        }
        throw syntax("")
    }

    private mutating func readEscape() throws(JSONError) -> Character {
        guard let byte = current else { throw syntax("") }
        offset += 1
        switch byte {
        case UInt8(ascii: "\""): return "\""
        case UInt8(ascii: "\\"): return "\\"
        case UInt8(ascii: "/"): return "/"
        case UInt8(ascii: "b"): return "\u{8}"
        case UInt8(ascii: "f"): return "\u{C}"
        case UInt8(ascii: "n"): return "\n"
        case UInt8(ascii: "r"): return "\r"
        case UInt8(ascii: "t"): return "\t"
        case UInt8(ascii: "u"): return Character(try readUnicodeEscape())
        default: throw syntax("unknown escape in a string")
        }
    }

    /// The four hexadecimal digits after `\u`, and those of the second half of a surrogate pair.
    private mutating func readUnicodeEscape() throws(JSONError) -> Unicode.Scalar {
        let first = try readFourHexadecimalDigits()
        if let scalar = Unicode.Scalar(first) { return scalar }
        guard first < 0xDC00, current == UInt8(ascii: "\\"), offset + 1 < bytes.count,
            bytes[offset + 1] == UInt8(ascii: "u")
        else {
            throw syntax("half of a surrogate pair stands alone")
        }
        offset += 2
        let second = try readFourHexadecimalDigits()
        guard (0xDC00...0xDFFF).contains(second),
            let scalar = Unicode.Scalar(0x10000 + (first - 0xD800) << 10 + (second - 0xDC00))
        else { throw syntax("half of a surrogate pair stands alone") }
        return scalar
    }

    private mutating func readFourHexadecimalDigits() throws(JSONError) -> UInt32 {
        var value: UInt32 = 0
        for _ in 0..<4 {
            guard let byte = current, let digit = Character(Unicode.Scalar(byte)).hexDigitValue else {
                throw syntax("expected four hexadecimal digits")
            }
            value = value << 4 | UInt32(digit)
            offset += 1
        }
        return value
    }

    private func validated(_ content: ArraySlice<UInt8>) throws(JSONError) -> String {
        guard let string = String(validating: content, as: UTF8.self) else { throw syntax("a string is not UTF-8") }
        return string
    }
}
