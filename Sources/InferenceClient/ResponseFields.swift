/// The header fields of a response that decide where it ends and whether its connection lives on.
struct ResponseFields {
    enum Effect {
        case ignored, contentType, malformed
    }

    /// Whether the version keeps connections open unless told otherwise: HTTP/1.1 does.
    var isPersistent = true
    var wantsClose = false
    private(set) var contentLength: Int?
    private(set) var isChunked = false
    private(set) var hasContentType = false
    /// What a worker says in its head of the tokens that it used.
    private(set) var usage = ReportedUsage()

    /// A field is looked at only if its name has the length of one that matters.
    mutating func take(name: Slice<UnsafeRawBufferPointer>, value: Slice<UnsafeRawBufferPointer>) -> Effect {
        switch name.count {
        case 14 where Self.isEqual(name, "content-length"):
            guard contentLength == nil, let length = Self.decimal(value) else { return .malformed }
            contentLength = length
        case 17 where Self.isEqual(name, "transfer-encoding"):
            guard !isChunked, Self.isEqual(value, "chunked") else { return .malformed }
            isChunked = true
        case 10 where Self.isEqual(name, "connection"):
            if Self.holdsClose(value) { wantsClose = true }
        case 12 where Self.isEqual(name, "content-type"):
            guard !hasContentType, value.count <= 256 else { return .malformed }
            hasContentType = true
            return .contentType
        case 20 where Self.isEqual(name, "x-usage-input-tokens"): usage.take(Self.decimal(value), as: \.inputTokens)
        case 21 where Self.isEqual(name, "x-usage-output-tokens"): usage.take(Self.decimal(value), as: \.outputTokens)
        case 27 where Self.isEqual(name, "x-usage-cached-input-tokens"):
            usage.take(Self.decimal(value), as: \.cachedInputTokens)
        default: break
        }
        return .ignored
    }

    /// Length of the field name in front of the colon; `nil` if the line is not a field. A space before the colon and a
    /// folded line are not a name.
    static func nameLength(in line: UnsafeRawBufferPointer) -> Int? {
        var index = 0
        while index < line.count {
            let byte = line[index]
            if byte == UInt8(ascii: ":") { return index > 0 ? index : nil }
            guard isTokenByte(byte) else { return nil }
            index += 1
        }
        return nil
    }

    static func trimmed(_ value: Slice<UnsafeRawBufferPointer>) -> Slice<UnsafeRawBufferPointer> {
        var start = value.startIndex
        var end = value.endIndex
        while start < end, value[start] == 0x20 || value[start] == 0x09 { start += 1 }
        while start < end, value[end - 1] == 0x20 || value[end - 1] == 0x09 { end -= 1 }
        return value[start..<end]
    }

    /// Visible bytes, space, tab and what is beyond ASCII; no control byte.
    static func isValueByte(_ byte: UInt8) -> Bool {
        byte >= 0x20 && byte != 0x7F || byte == 0x09
    }

    /// Compares without regard to case; `expected` is in lower case.
    static func isEqual(_ bytes: Slice<UnsafeRawBufferPointer>, _ expected: StaticString) -> Bool {
        guard bytes.count == expected.utf8CodeUnitCount else { return false }
        var pointer = expected.utf8Start
        for byte in bytes {
            let lowered = (0x41...0x5A).contains(byte) ? byte | 0x20 : byte
            guard lowered == pointer.pointee else { return false }
            pointer += 1
        }
        return true
    }

    /// RFC 9110 `token`.
    private static func isTokenByte(_ byte: UInt8) -> Bool {
        switch byte {
        case 0x61...0x7A, 0x41...0x5A, 0x30...0x39, UInt8(ascii: "-"), UInt8(ascii: "_"): true
        case UInt8(ascii: "!"), UInt8(ascii: "#"), UInt8(ascii: "$"), UInt8(ascii: "%"), UInt8(ascii: "&"),
            UInt8(ascii: "'"),
            UInt8(ascii: "*"), UInt8(ascii: "+"), UInt8(ascii: "."), UInt8(ascii: "^"), UInt8(ascii: "`"),
            UInt8(ascii: "|"),
            UInt8(ascii: "~"):
            true
        default: false
        }
    }

    /// Digits only, at most 18: no sign, no list, no overflow.
    private static func decimal(_ value: Slice<UnsafeRawBufferPointer>) -> Int? {
        guard (1...18).contains(value.count) else { return nil }
        var result = 0
        for byte in value {
            guard (0x30...0x39).contains(byte) else { return nil }
            result = result * 10 + Int(byte - 0x30)
        }
        return result
    }

    /// Whether `close` is one of the comma-separated options.
    private static func holdsClose(_ value: Slice<UnsafeRawBufferPointer>) -> Bool {
        var start = value.startIndex
        while start < value.endIndex {
            let end = value[start...].firstIndex(of: UInt8(ascii: ",")) ?? value.endIndex
            if isEqual(trimmed(value[start..<end]), "close") { return true }
            start = end + 1
        }
        return false
    }
}
