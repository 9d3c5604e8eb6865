public import NIOCore

/// A JSON document as a flat list of tokens over its own bytes: validated whole in one pass, then read without copying or decoding what
/// nobody asks for.
///
/// Strict on purpose (RFC 8259 and more), because we and the worker must not read one body differently: no duplicate keys in any object,
/// no trailing data, no invalid UTF-8, no lone surrogates, no NUL, no number beyond a 64-bit float, a bounded depth and object size.
public struct JSONTape: Sendable {
    public enum Kind: UInt8, Sendable { case object, array, string, number, `true`, `false`, null }

    /// A value, or an object's key; a key is a string token directly before its value.
    struct Token: Sendable {
        var kind: Kind
        var hasEscape: Bool
        /// Byte range; for strings without the quotes.
        var start: Int32
        var end: Int32
        /// Index of the token after this value and everything in it.
        var next: Int32
    }

    public enum Failure: Error, Equatable, Sendable {
        case invalid(atByte: Int)
        case tooDeep
        case duplicateKey
        case invalidNumber
        case tooManyKeys
        /// JSON can say it, and neither databases nor most programs can hold it in a text.
        case nul(atByte: Int)
    }

    public struct Limits: Sendable {
        public var depth = 32
        public var keysPerObject = 4_096
        public init() {}
    }

    let tokens: [Token]
    /// The document; token ranges count from its reader index.
    public let bytes: ByteBuffer

    public init(_ bytes: ByteBuffer, limits: Limits = Limits()) throws(Failure) {
        self.bytes = bytes
        let result = bytes.withUnsafeReadableBytes { pointer -> Result<[Token], Failure> in
            var scanner = JSONScanner(pointer, limits: limits)
            return scanner.scan()
        }
        self.tokens = try result.get()
    }

    /// A position in the tape.
    public struct Value: Hashable, Sendable {
        let index: Int
    }

    public var root: Value { Value(index: 0) }

    public func kind(_ value: Value) -> Kind { tokens[value.index].kind }

    /// The member of an object; `nil` if there is none or `value` is no object.
    public func member(_ name: StaticString, of value: Value) -> Value? {
        var found: Value?
        forEachMember(of: value) { key, member in
            if found == nil, matches(key, name) { found = member }
        }
        return found
    }

    /// Calls `body` with key and value of each member, in their order. Does nothing for other kinds.
    public func forEachMember(of value: Value, _ body: (_ key: Value, _ value: Value) -> Void) {
        guard tokens[value.index].kind == .object else { return }
        var index = value.index + 1
        let end = Int(tokens[value.index].next)
        while index < end {
            body(Value(index: index), Value(index: index + 1))
            index = Int(tokens[index + 1].next)
        }
    }

    /// The elements of an array; empty for other kinds.
    public func elements(of value: Value) -> [Value] {
        guard tokens[value.index].kind == .array else { return [] }
        var elements: [Value] = []
        forEachElement(of: value) { elements.append($0) }
        return elements
    }

    public func forEachElement(of value: Value, _ body: (Value) -> Void) {
        guard tokens[value.index].kind == .array else { return }
        var index = value.index + 1
        let end = Int(tokens[value.index].next)
        while index < end {
            body(Value(index: index))
            index = Int(tokens[index].next)
        }
    }

    /// The bytes of a value as they stand in the document, quotes included.
    public func slice(_ value: Value) -> ByteBuffer {
        let token = tokens[value.index]
        let quote = token.kind == .string ? 1 : 0
        let start = bytes.readerIndex + Int(token.start) - quote
        return bytes.getSlice(at: start, length: Int(token.end - token.start) + 2 * quote) ?? ByteBuffer()
    }

    /// A string's text with its escapes resolved; `nil` for other kinds.
    public func string(_ value: Value) -> String? {
        let token = tokens[value.index]
        guard token.kind == .string else { return nil }
        return bytes.withUnsafeReadableBytes { pointer in
            let raw = UnsafeRawBufferPointer(rebasing: pointer[Int(token.start)..<Int(token.end)])
            return String(decoding: token.hasEscape ? JSONScanner.unescaped(raw) : Array(raw), as: UTF8.self)
        }
    }

    /// An integer that fits into 64 bits; `nil` for fractions, exponents, larger numbers and other kinds.
    public func int64(_ value: Value) -> Int64? {
        let token = tokens[value.index]
        guard token.kind == .number else { return nil }
        return bytes.withUnsafeReadableBytes { pointer in
            let raw = pointer[Int(token.start)..<Int(token.end)]
            var digits = raw[...]
            let isNegative = digits.first == UInt8(ascii: "-")
            if isNegative { digits = digits.dropFirst() }
            var number: Int64 = 0
            for byte in digits {
                guard (0x30...0x39).contains(byte) else { return nil }
                let (product, overflow) = number.multipliedReportingOverflow(by: 10)
                let digit = Int64(byte - 0x30)
                let (sum, sumOverflow) =
                    isNegative
                    ? product.subtractingReportingOverflow(digit) : product.addingReportingOverflow(digit)
                guard !overflow, !sumOverflow else { return nil }
                number = sum
            }
            return number
        }
    }

    /// Whether a key or string is exactly `text`.
    func matches(_ value: Value, text: String) -> Bool {
        let token = tokens[value.index]
        if token.hasEscape { return string(value) == text }
        return withBytes(of: value) { $0.elementsEqual(text.utf8) }
    }

    /// Lends the bytes of a value as they stand in the document; for strings without the quotes, escapes as they are.
    func withBytes<Result>(of value: Value, _ body: (UnsafeRawBufferPointer) -> Result) -> Result {
        let token = tokens[value.index]
        return bytes.withUnsafeReadableBytes { pointer in
            body(UnsafeRawBufferPointer(rebasing: pointer[Int(token.start)..<Int(token.end)]))
        }
    }

    /// Calls `body` with the length of each string in a value, keys left out. A number in a list stands for a token, which is four bytes as
    /// texts go.
    func forEachText(in value: Value, _ body: (_ byteCount: Int) -> Void) {
        switch kind(value) {
        case .string: withBytes(of: value) { body($0.count) }
        case .array:
            forEachElement(of: value) { element in
                if kind(element) == .number { body(4) } else { forEachText(in: element, body) }
            }
        case .object: forEachMember(of: value) { _, member in forEachText(in: member, body) }
        case .number, .true, .false, .null: break
        }
    }

    /// Whether a string is written with escapes.
    func hasEscape(_ value: Value) -> Bool { tokens[value.index].hasEscape }

    /// Whether a key or string is exactly `text`.
    func matches(_ value: Value, _ text: StaticString) -> Bool {
        let token = tokens[value.index]
        if token.hasEscape { return string(value) == text.description }
        guard Int(token.end - token.start) == text.utf8CodeUnitCount else { return false }
        return bytes.withUnsafeReadableBytes { pointer in
            pointer[Int(token.start)..<Int(token.end)]
                .elementsEqual(UnsafeBufferPointer(start: text.utf8Start, count: text.utf8CodeUnitCount))
        }
    }
}
