/// A caller's own name for one operation, from the header `Idempotency-Key`: 1 to 255 visible ASCII characters.
public struct IdempotencyKey: Hashable, Sendable {
    public static let lengthLimit = 255

    public let text: String

    /// Reads the value of the header: a bare text, or the quoted string of a structured field (RFC 8941, section 3.3.3; the form of
    /// draft-ietf-httpapi-idempotency-key-header). Both forms of the same characters are the same key.
    /// - Returns: `nil` for everything else: nothing, blanks inside, other characters, an open quote, parameters behind the string.
    public init?(field: String) {
        let bytes = Array(field.utf8).trimmingBlanks
        let content = bytes.first == Self.quote ? Self.unquoted(bytes) : bytes[...]
        guard let content, (1...Self.lengthLimit).contains(content.count),
            content.allSatisfy({ (0x21...0x7E).contains($0) })
        else { return nil }
        text = String(decoding: content, as: UTF8.self)
    }

    private static let quote = UInt8(ascii: "\"")
    private static let backslash = UInt8(ascii: "\\")

    /// What stands between the quotes, its escapes resolved; `nil` unless the first and the last byte are the only bare quotes.
    private static func unquoted(_ bytes: ArraySlice<UInt8>) -> ArraySlice<UInt8>? {
        var content: [UInt8] = []
        var rest = bytes.dropFirst()
        while let byte = rest.popFirst() {
            switch byte {
            case quote: return rest.isEmpty ? content[...] : nil
            case backslash:
                guard let escaped = rest.popFirst(), escaped == quote || escaped == backslash else { return nil }
                content.append(escaped)
            default: content.append(byte)
            }
        }
        return nil
    }
}

extension [UInt8] {
    /// Without the blanks and tabs around a field's value, which are no part of it (RFC 9110, section 5.5).
    fileprivate var trimmingBlanks: ArraySlice<UInt8> {
        let isBlank = { (byte: UInt8) in byte == 0x20 || byte == 0x09 }
        var rest = drop(while: isBlank)
        while let last = rest.last, isBlank(last) { rest.removeLast() }
        return rest
    }
}
