internal import Domain
internal import HTTPListener
internal import NIOCore

/// A prediction in the form in which nearly every client sends it: one whole request in one read, no field in it that changes how it is
/// read. Read straight from the bytes, which costs a small part of what parser, header list and three hand-overs cost.
///
/// This is a short cut and no second opinion: it knows a few fields that are safe to read here and gives up at anything else, an unknown
/// field included, so that the parser decides. Whatever it accepts, parser and ``RequestRules`` accept with the same meaning; a test compares
/// the two on random requests.
struct PlainRequest {
    let credentials: Credentials
    let trace: TraceContext?
    let clientID: ClientRequestID?
    let cacheFields: [CacheField]
    let tagFields: [String]
    let receipt: ReceiptWish
    let body: ByteBuffer

    /// Larger ones gain nothing.
    static let byteLimit = 16_384

    /// - Returns: `nil` where the bytes are not exactly one such request, or are for the parser to judge.
    init?(_ bytes: ByteBuffer, maximumBodyBytes: Int) {
        guard bytes.readableBytes <= Self.byteLimit else { return nil }
        var reader = Reader()
        let head = bytes.withUnsafeReadableBytes { reader.readHead($0) }
        guard let head, head.bodyLength <= maximumBodyBytes,
            let body = bytes.getSlice(at: bytes.readerIndex + head.length, length: head.bodyLength)
        else { return nil }
        credentials = reader.key.map { .one($0) } ?? .none
        trace = reader.traceParent.flatMap { TraceContext(parent: $0, state: reader.traceState) }
        clientID = reader.requestID.flatMap { ClientRequestID($0) }
        cacheFields = reader.cacheFields
        tagFields = reader.tagFields
        receipt = reader.receipt
        self.body = body
    }

    private struct Reader {
        var key: [UInt8]?
        var traceParent: String?
        var traceState: String?
        var requestID: String?
        var cacheFields: [CacheField] = []
        var tagFields: [String] = []
        var receipt = ReceiptWish.unsaid
        private var hasHost = false
        private var hasType = false
        private var bodyLength: Int?
        private var fieldCount = 0

        private static let firstLines: [StaticString] = ["POST /predict HTTP/1.1\r\n", "POST /predict/ HTTP/1.1\r\n"]

        mutating func readHead(_ bytes: UnsafeRawBufferPointer) -> (length: Int, bodyLength: Int)? {
            guard let line = Self.firstLines.first(where: { Bytes.begin(bytes[...], with: $0) }) else { return nil }
            var position = line.utf8CodeUnitCount
            while position + 1 < bytes.count {
                if bytes[position] == 0x0D {
                    guard bytes[position + 1] == 0x0A, hasHost, hasType, let bodyLength,
                        position + 2 + bodyLength == bytes.count
                    else { return nil }
                    return (position + 2, bodyLength)
                }
                guard let next = readField(bytes, at: position) else { return nil }
                position = next
            }
            return nil
        }

        /// - Returns: where the next line begins.
        private mutating func readField(_ bytes: UnsafeRawBufferPointer, at start: Int) -> Int? {
            fieldCount += 1
            // As many as the parser takes.
            guard fieldCount <= 100, let colon = Self.endOfName(bytes, from: start) else { return nil }
            var valueStart = colon + 1
            if valueStart < bytes.count, bytes[valueStart] == 0x20 { valueStart += 1 }
            var end = valueStart
            while end < bytes.count, (0x20...0x7E).contains(bytes[end]) { end += 1 }
            // Spaces around a value are allowed and rare.
            guard end + 1 < bytes.count, bytes[end] == 0x0D, bytes[end + 1] == 0x0A, end > valueStart,
                bytes[valueStart] != 0x20, bytes[end - 1] != 0x20,
                take(bytes[start..<colon], bytes[valueStart..<end])
            else { return nil }
            return end + 2
        }

        private static func endOfName(_ bytes: UnsafeRawBufferPointer, from start: Int) -> Int? {
            var index = start
            while index < bytes.count {
                switch bytes[index] {
                case 0x61...0x7A, 0x41...0x5A, UInt8(ascii: "-"): index += 1
                case UInt8(ascii: ":"): return index > start ? index : nil
                default: return nil
                }
            }
            return nil
        }

        /// - Returns: false for a field that is not for here.
        private mutating func take(_ name: Slice<UnsafeRawBufferPointer>, _ value: Slice<UnsafeRawBufferPointer>)
            -> Bool
        {
            switch name.count {
            case 4 where Bytes.equal(name, "host"):
                guard !hasHost, RequestRules.isHost(value) else { return false }
                hasHost = true
            case 6 where Bytes.equal(name, "accept"), 10 where Bytes.equal(name, "user-agent"),
                15 where Bytes.equal(name, "accept-encoding"), 15 where Bytes.equal(name, "accept-language"):
                break
            case 10 where Bytes.equal(name, "connection"): return Bytes.equal(value, "keep-alive")
            case 10 where Bytes.equal(name, "tracestate") && traceState == nil: traceState = Self.text(value)
            case 11 where Bytes.equal(name, "traceparent") && traceParent == nil: traceParent = Self.text(value)
            case 11 where Bytes.equal(name, "x-weir-tags"): tagFields.append(Self.text(value))
            case 12 where Bytes.equal(name, "x-request-id") && requestID == nil: requestID = Self.text(value)
            case 12 where Bytes.equal(name, "x-weir-cache"): cacheFields.append(.use(Self.text(value)))
            case 13 where Bytes.equal(name, "cache-control"): cacheFields.append(.control(Self.text(value)))
            case 16 where Bytes.equal(name, "x-weir-cache-ttl"): cacheFields.append(.ttl(Self.text(value)))
            case 16 where Bytes.equal(name, "x-weir-cache-key"): cacheFields.append(.label(Self.text(value)))
            case 12 where Bytes.equal(name, "content-type"):
                guard !hasType, Bytes.equal(value, "application/json") else { return false }
                hasType = true
            case 13 where Bytes.equal(name, "authorization"):
                guard key == nil, Bytes.begin(value, with: "Bearer "), value.count > 7,
                    value[value.startIndex + 7] != 0x20
                else { return false }
                key = Array(value.dropFirst(7))
            case 14 where Bytes.equal(name, "x-weir-receipt"):
                receipt = receipt == .unsaid ? ReceiptWish(Self.text(value)) : .unreadable
            case 14 where Bytes.equal(name, "content-length"):
                guard bodyLength == nil, let length = Self.number(value) else { return false }
                bodyLength = length
            default: return false
            }
            return true
        }

        private static func text(_ value: Slice<UnsafeRawBufferPointer>) -> String {
            String(decoding: UnsafeRawBufferPointer(rebasing: value), as: UTF8.self)
        }

        private static func number(_ value: Slice<UnsafeRawBufferPointer>) -> Int? {
            guard value.count <= 6 else { return nil }
            var number = 0
            for byte in value {
                guard (0x30...0x39).contains(byte) else { return nil }
                number = number * 10 + Int(byte - 0x30)
            }
            return number
        }
    }
}

/// Comparisons of raw bytes with ASCII text.
enum Bytes {
    static func begin(_ bytes: Slice<UnsafeRawBufferPointer>, with text: StaticString) -> Bool {
        let count = text.utf8CodeUnitCount
        guard bytes.count >= count else { return false }
        for index in 0..<count where bytes[bytes.startIndex + index] != text.utf8Start[index] { return false }
        return true
    }

    /// Without regard to case; `lower` is in lower case.
    static func equal(_ bytes: Slice<UnsafeRawBufferPointer>, _ lower: StaticString) -> Bool {
        guard bytes.count == lower.utf8CodeUnitCount else { return false }
        for index in 0..<bytes.count {
            let byte = bytes[bytes.startIndex + index]
            let folded = (0x41...0x5A).contains(byte) ? byte | 0x20 : byte
            if folded != lower.utf8Start[index] { return false }
        }
        return true
    }
}
