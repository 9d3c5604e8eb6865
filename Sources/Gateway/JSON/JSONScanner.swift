/// The one pass over a document that makes a ``JSONTape``. Iterative: nesting costs a stack of its own, bounded, and never the thread's.
struct JSONScanner {
    private typealias Failure = JSONTape.Failure

    private struct Frame {
        var token: Int
        var isObject: Bool
        /// Where this object's keys begin in `keyHashes`.
        var firstKey: Int
    }

    private let bytes: UnsafeRawBufferPointer
    private let limits: JSONTape.Limits
    private var position = 0
    private var tokens: [JSONTape.Token] = []
    private var frames: [Frame] = []
    private var keyHashes: [UInt64] = []

    init(_ bytes: UnsafeRawBufferPointer, limits: JSONTape.Limits) {
        self.bytes = bytes
        self.limits = limits
        tokens.reserveCapacity(24)
    }

    mutating func scan() -> Result<[JSONTape.Token], JSONTape.Failure> {
        guard bytes.count <= Int(Int32.max) else { return .failure(.invalid(atByte: 0)) }
        do throws(JSONTape.Failure) {
            skipSpace()
            var isComplete = try openValue()
            while !isComplete { isComplete = try step() }
            skipSpace()
            guard position == bytes.count else { throw .invalid(atByte: position) }
            return .success(tokens)
        } catch {
            return .failure(error)
        }
    }

    /// After a value or an opening bracket inside a container: the next member, element or closing bracket.
    /// - Returns: true when the outermost value is complete.
    private mutating func step() throws(JSONTape.Failure) -> Bool {
        guard let frame = frames.last else { return true }
        skipSpace()
        let isFirst = tokens.count == frame.token + 1
        guard let byte = peek() else { throw .invalid(atByte: position) }
        if byte == (frame.isObject ? UInt8(ascii: "}") : UInt8(ascii: "]")) {
            position += 1
            return close(frame)
        }
        if !isFirst {
            guard byte == UInt8(ascii: ",") else { throw .invalid(atByte: position) }
            position += 1
            skipSpace()
        }
        if frame.isObject { try key(of: frame) }
        _ = try openValue()
        return false
    }

    private mutating func close(_ frame: Frame) -> Bool {
        frames.removeLast()
        keyHashes.removeSubrange(frame.firstKey...)
        tokens[frame.token].end = Int32(position)
        tokens[frame.token].next = Int32(tokens.count)
        return frames.isEmpty
    }

    private mutating func key(of frame: Frame) throws(JSONTape.Failure) {
        guard peek() == UInt8(ascii: "\"") else { throw .invalid(atByte: position) }
        let hash = try string()
        guard keyHashes.count - frame.firstKey < limits.keysPerObject else { throw .tooManyKeys }
        // A 64-bit hash decides: two different keys of one hash are refused, which costs only whoever constructs them.
        guard !keyHashes[frame.firstKey...].contains(hash) else { throw .duplicateKey }
        keyHashes.append(hash)
        skipSpace()
        guard peek() == UInt8(ascii: ":") else { throw .invalid(atByte: position) }
        position += 1
        skipSpace()
    }

    /// Reads a scalar whole, or opens a container.
    /// - Returns: true if the value is complete and no container encloses it.
    private mutating func openValue() throws(JSONTape.Failure) -> Bool {
        guard let byte = peek() else { throw .invalid(atByte: position) }
        switch byte {
        case UInt8(ascii: "{"), UInt8(ascii: "["):
            guard frames.count < limits.depth else { throw .tooDeep }
            let isObject = byte == UInt8(ascii: "{")
            frames.append(Frame(token: tokens.count, isObject: isObject, firstKey: keyHashes.count))
            append(isObject ? .object : .array, from: position, to: position)
            position += 1
            return false
        case UInt8(ascii: "\""): _ = try string()
        case UInt8(ascii: "t"): try literal("true", .true)
        case UInt8(ascii: "f"): try literal("false", .false)
        case UInt8(ascii: "n"): try literal("null", .null)
        case UInt8(ascii: "-"), 0x30...0x39: try number()
        // Not JSON, but what floating-point code writes: named for what it is.
        case UInt8(ascii: "N"), UInt8(ascii: "I"): throw .invalidNumber
        default: throw .invalid(atByte: position)
        }
        return frames.isEmpty
    }

    private mutating func literal(_ text: StaticString, _ kind: JSONTape.Kind) throws(JSONTape.Failure) {
        let count = text.utf8CodeUnitCount
        guard position + count <= bytes.count,
            bytes[position..<position + count].elementsEqual(UnsafeBufferPointer(start: text.utf8Start, count: count))
        else { throw .invalid(atByte: position) }
        append(kind, from: position, to: position + count)
        position += count
    }

    private mutating func number() throws(JSONTape.Failure) {
        let start = position
        if peek() == UInt8(ascii: "-") { position += 1 }
        if peek() == UInt8(ascii: "I") { throw .invalidNumber }
        let integerStart = position
        let integerDigits = digits()
        guard integerDigits > 0, integerDigits == 1 || bytes[integerStart] != UInt8(ascii: "0") else {
            throw .invalid(atByte: position)
        }
        if peek() == UInt8(ascii: ".") {
            position += 1
            guard digits() > 0 else { throw .invalid(atByte: position) }
        }
        var exponent = 0
        if peek() == UInt8(ascii: "e") || peek() == UInt8(ascii: "E") {
            position += 1
            let isNegative = peek() == UInt8(ascii: "-")
            if isNegative || peek() == UInt8(ascii: "+") { position += 1 }
            let exponentStart = position
            let count = digits()
            guard count > 0 else { throw .invalid(atByte: position) }
            exponent =
                bytes[exponentStart..<position].reduce(0) { min($0 * 10 + Int($1 - 0x30), 1_000_000) }
                * (isNegative ? -1 : 1)
        }
        // The largest 64-bit float is about 1.8 x 10^308: below 10^308 nothing can overflow, and only what may be above is converted.
        guard integerDigits + exponent <= 308 || isFinite(bytes[start..<position]) else { throw .invalidNumber }
        append(.number, from: start, to: position)
    }

    /// Whether a well-formed number fits into a 64-bit float. One of more than a thousand digits that might not is taken not to.
    private func isFinite(_ text: Slice<UnsafeRawBufferPointer>) -> Bool {
        text.count <= 1_024 && (Double(String(decoding: text, as: UTF8.self)) ?? .infinity).isFinite
    }

    private mutating func digits() -> Int {
        let start = position
        while let byte = peek(), (0x30...0x39).contains(byte) { position += 1 }
        return position - start
    }

    /// Reads a string and appends its token.
    /// - Returns: FNV-1a of the unescaped bytes.
    private mutating func string() throws(JSONTape.Failure) -> UInt64 {
        position += 1
        let start = position
        var hasEscape = false
        var hash: UInt64 = 0xcbf2_9ce4_8422_2325
        while let byte = peek() {
            if byte == UInt8(ascii: "\"") {
                if hasEscape {
                    hash = 0xcbf2_9ce4_8422_2325
                    let raw = UnsafeRawBufferPointer(rebasing: bytes[start..<position])
                    for byte in Self.unescaped(raw) { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01b3 }
                }
                append(.string, from: start, to: position, hasEscape: hasEscape)
                position += 1
                return hash
            }
            if byte == UInt8(ascii: "\\") {
                hasEscape = true
                try escape()
            } else if byte < 0x80 {
                guard byte >= 0x20 else { throw .invalid(atByte: position) }
                hash = (hash ^ UInt64(byte)) &* 0x100_0000_01b3
                position += 1
            } else {
                let length = try utf8Length()
                for byte in bytes[position..<position + length] { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01b3 }
                position += length
            }
        }
        throw .invalid(atByte: position)
    }

    /// The length of the well-formed sequence at `position` (Unicode 15, table 3-7).
    private func utf8Length() throws(JSONTape.Failure) -> Int {
        let first = bytes[position]
        let length: Int
        let second: ClosedRange<UInt8>
        switch first {
        case 0xC2...0xDF: (length, second) = (2, 0x80...0xBF)
        case 0xE0: (length, second) = (3, 0xA0...0xBF)
        case 0xED: (length, second) = (3, 0x80...0x9F)
        case 0xE1...0xEF: (length, second) = (3, 0x80...0xBF)
        case 0xF0: (length, second) = (4, 0x90...0xBF)
        case 0xF1...0xF3: (length, second) = (4, 0x80...0xBF)
        case 0xF4: (length, second) = (4, 0x80...0x8F)
        default: throw .invalid(atByte: position)
        }
        guard position + length <= bytes.count, second.contains(bytes[position + 1]),
            bytes[(position + 2)..<max(position + 2, position + length)].allSatisfy({ (0x80...0xBF).contains($0) })
        else { throw .invalid(atByte: position) }
        return length
    }

    private mutating func escape() throws(JSONTape.Failure) {
        guard position + 1 < bytes.count else { throw .invalid(atByte: position) }
        let kind = bytes[position + 1]
        guard kind == UInt8(ascii: "u") else {
            guard Self.simpleEscape(kind) != nil else { throw .invalid(atByte: position) }
            position += 2
            return
        }
        guard let unit = Self.codeUnit(bytes, at: position) else { throw .invalid(atByte: position) }
        switch unit {
        case 0: throw .nul(atByte: position)
        case 0xDC00...0xDFFF: throw .invalid(atByte: position)
        case 0xD800...0xDBFF:
            guard let low = Self.codeUnit(bytes, at: position + 6), (0xDC00...0xDFFF).contains(low) else {
                throw .invalid(atByte: position)
            }
            position += 12
        default: position += 6
        }
    }

    private static func codeUnit(_ bytes: UnsafeRawBufferPointer, at start: Int) -> UInt32? {
        guard start + 6 <= bytes.count, bytes[start] == UInt8(ascii: "\\"), bytes[start + 1] == UInt8(ascii: "u") else {
            return nil
        }
        return bytes[(start + 2)..<(start + 6)].reduce(UInt32?(0)) { value, byte in
            guard let value, let digit = Character(Unicode.Scalar(byte)).hexDigitValue else { return nil }
            return value << 4 | UInt32(digit)
        }
    }

    private static func simpleEscape(_ byte: UInt8) -> UInt8? {
        switch byte {
        case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): byte
        case UInt8(ascii: "b"): 0x08
        case UInt8(ascii: "f"): 0x0C
        case UInt8(ascii: "n"): 0x0A
        case UInt8(ascii: "r"): 0x0D
        case UInt8(ascii: "t"): 0x09
        default: nil
        }
    }

    /// Resolves the escapes of a string that has been validated.
    static func unescaped(_ raw: UnsafeRawBufferPointer) -> [UInt8] {
        var output: [UInt8] = []
        output.reserveCapacity(raw.count)
        var index = 0
        while index < raw.count {
            guard raw[index] == UInt8(ascii: "\\"), index + 1 < raw.count else {
                output.append(raw[index])
                index += 1
                continue
            }
            if let byte = simpleEscape(raw[index + 1]) {
                output.append(byte)
                index += 2
                continue
            }
            var scalar = codeUnit(raw, at: index) ?? 0xFFFD
            index += 6
            if (0xD800...0xDBFF).contains(scalar), let low = codeUnit(raw, at: index) {
                scalar = 0x1_0000 + (scalar - 0xD800) << 10 + (low - 0xDC00)
                index += 6
            }
            output.append(contentsOf: String(Unicode.Scalar(scalar) ?? "\u{FFFD}").utf8)
        }
        return output
    }

    private mutating func append(_ kind: JSONTape.Kind, from start: Int, to end: Int, hasEscape: Bool = false) {
        tokens.append(
            JSONTape.Token(
                kind: kind, hasEscape: hasEscape, start: Int32(start), end: Int32(end), next: Int32(tokens.count + 1)))
    }

    private func peek() -> UInt8? { position < bytes.count ? bytes[position] : nil }

    private mutating func skipSpace() {
        while let byte = peek(), byte == 0x20 || byte == 0x0A || byte == 0x0D || byte == 0x09 { position += 1 }
    }
}
