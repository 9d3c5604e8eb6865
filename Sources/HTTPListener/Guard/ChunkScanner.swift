/// Follows a chunked body (RFC 9112, section 7.1) through its bytes and bounds what a parser hides from us: the digits of a chunk's size and
/// the extensions behind it. A value; bytes may arrive in pieces of any size.
///
/// Stricter than parsers are: whatever is not exactly a chunk is refused, so that no two readers can disagree about where the body ends.
struct ChunkScanner: Sendable {
    /// A size of more digits cannot be one of 64 bits.
    static let sizeDigitLimit = 16
    /// Extensions are not used by anybody we know; the room is for those that some proxies add.
    static let extensionByteLimit = 256

    enum Progress: Equatable, Sendable {
        /// All bytes belong to the body, which goes on.
        case open
        /// The body has ended behind this many bytes.
        case complete(byteCount: Int)
        /// A chunk is malformed, or carries more than is accepted.
        case refused
    }

    private enum State {
        case size(digits: Int)
        case extensions(count: Int)
        case lineEnd
        case data
        case dataReturn
        case dataLineEnd
        /// In the fields behind the last chunk, with the bytes of the present line. The parser bounds and checks them.
        case trailer(lineLength: Int)
        case trailerLineEnd(lineLength: Int)
    }

    private var state = State.size(digits: 0)
    private var size: UInt64 = 0

    mutating func scan(_ bytes: UnsafeRawBufferPointer) -> Progress {
        var position = 0
        while position < bytes.count {
            if case .data = state {
                let taken = Int(clamping: min(size, UInt64(bytes.count - position)))
                size -= UInt64(taken)
                position += taken
                if size == 0 { state = .dataReturn }
                continue
            }
            let byte = bytes[position]
            position += 1
            switch step(byte) {
            case .goesOn: break
            case .ends: return .complete(byteCount: position)
            case .isRefused: return .refused
            }
        }
        return .open
    }

    private enum Step { case goesOn, ends, isRefused }

    private mutating func step(_ byte: UInt8) -> Step {
        switch (state, byte) {
        case (.size(let digits), _): return stepSize(byte, digits: digits)
        case (.extensions, 0x0D): state = .lineEnd
        case (.extensions(let count), 0x20...0x7E), (.extensions(let count), 0x09), (.extensions(let count), 0x80...):
            guard count < Self.extensionByteLimit else { return .isRefused }
            state = .extensions(count: count + 1)
        case (.lineEnd, 0x0A): state = size == 0 ? .trailer(lineLength: 0) : .data
        case (.dataReturn, 0x0D): state = .dataLineEnd
        case (.dataLineEnd, 0x0A): state = .size(digits: 0)
        case (.trailer(let length), 0x0D): state = .trailerLineEnd(lineLength: length)
        case (.trailer(let length), _): state = .trailer(lineLength: length + 1)
        case (.trailerLineEnd(let length), 0x0A):
            if length == 0 { return .ends }
            state = .trailer(lineLength: 0)
        default: return .isRefused
        }
        return .goesOn
    }

    private mutating func stepSize(_ byte: UInt8, digits: Int) -> Step {
        let digit: UInt8
        switch byte {
        case 0x30...0x39: digit = byte - 0x30
        case 0x41...0x46: digit = byte - 0x41 + 10
        case 0x61...0x66: digit = byte - 0x61 + 10
        case 0x0D where digits > 0:
            state = .lineEnd
            return .goesOn
        case UInt8(ascii: ";") where digits > 0:
            state = .extensions(count: 1)
            return .goesOn
        default: return .isRefused
        }
        guard digits < Self.sizeDigitLimit else { return .isRefused }
        size = (digits == 0 ? 0 : size << 4) | UInt64(digit)
        state = .size(digits: digits + 1)
        return .goesOn
    }
}
