internal import NIOCore

/// Reads HTTP/1.1 responses: bytes in, at most one reply out. A pure value that owns no socket and reads no clock.
///
/// It is written for one kind of peer, a worker, and so is stricter than a browser: what RFC 9112 calls ambiguous (two
/// lengths, a length beside a transfer coding, a bare line feed, a folded line) is malformed, because a guess about
/// where a response ends is what request smuggling is made of. It keeps only what the gateway passes on, so that a
/// response costs no string and no dictionary.
struct ResponseParser {
    struct Limits: Sendable {
        var bodyBytes: Int
        /// Status line, fields and trailers of one response. 32 KB and 100 fields are more than twice of what real
        /// workers send.
        var headBytes = 32 * 1024
        var fieldCount = 100
        /// Interim (1xx) responses before the final one.
        var interimCount = 8
    }

    enum Progress: Equatable {
        case incomplete
        case complete
        case failed(WorkerFailure)
    }

    private enum Stage {
        case statusLine, fields
        case body(remaining: Int)
        case bodyUntilClose
        case chunkSize
        case chunk(remaining: Int)
        case chunkEnd, trailers
        case complete
    }

    /// Upper case only: the version is case-sensitive (RFC 9112 section 2.3).
    private static let versionPrefix: StaticString = "HTTP/1."

    private let limits: Limits
    private var stage = Stage.statusLine
    private var headByteCount = 0
    private var fieldCount = 0
    private var interimCount = 0
    private var fields = ResponseFields()
    private(set) var status = 0
    /// Whether the head of the final response has been read.
    private(set) var hasHead = false
    private var body = ByteBuffer()
    /// Bytes that end in the middle of a line, and how many of them are known to hold no line end.
    private var partial = ByteBuffer()
    private var searchedByteCount = 0
    /// The last content type seen: workers repeat themselves, and a string of more than 15 bytes is an allocation.
    private var lastContentType: String?

    init(limits: Limits) {
        self.limits = limits
    }

    /// Whether another request may follow on the connection, as far as the response says so.
    var allowsReuse: Bool { fields.isPersistent && !fields.wantsClose }

    /// Makes ready for the next response on the same connection.
    mutating func reset() {
        stage = .statusLine
        headByteCount = 0
        fieldCount = 0
        interimCount = 0
        fields = ResponseFields()
        status = 0
        hasHead = false
        body = ByteBuffer()
        partial = ByteBuffer()
        searchedByteCount = 0
    }

    /// Takes bytes. After `.complete` what is left in `input` did not belong to the response.
    mutating func consume(_ input: inout ByteBuffer) -> Progress {
        if partial.readableBytes > 0 {
            partial.writeBuffer(&input)
            swap(&partial, &input)
            partial = ByteBuffer()
        }
        while true {
            switch stage {
            case .statusLine, .fields, .chunkSize, .chunkEnd, .trailers:
                switch consumeLine(&input) {
                case .success(true): continue
                case .success(false):
                    keepPartial(&input)
                    return .incomplete
                case .failure(let failure): return .failed(failure)
                }
            case .body(let remaining):
                guard let left = takeBody(&input, remaining: remaining) else { return .incomplete }
                stage = left == 0 ? .complete : .body(remaining: left)
            case .chunk(let remaining):
                guard let left = takeBody(&input, remaining: remaining) else { return .incomplete }
                stage = left == 0 ? .chunkEnd : .chunk(remaining: left)
            case .bodyUntilClose:
                guard body.readableBytes + input.readableBytes <= limits.bodyBytes else {
                    return .failed(.responseTooLarge)
                }
                body.writeBuffer(&input)
                return .incomplete
            case .complete:
                return .complete
            }
        }
    }

    /// The peer has closed its side in order: complete only for a body that ends so.
    mutating func finishAtEnd() -> Bool {
        guard case .bodyUntilClose = stage else { return false }
        stage = .complete
        return true
    }

    /// What has come of the body since this was last asked, for a response that is not gathered whole.
    mutating func takePiece() -> ByteBuffer {
        defer { body = ByteBuffer() }
        return body
    }

    /// As the response names it.
    var contentType: String? { fields.hasContentType ? lastContentType : nil }

    mutating func takeReply() -> WorkerReply {
        defer { body = ByteBuffer() }
        return WorkerReply(status: status, contentType: contentType, body: body, usage: fields.usage)
    }

    // MARK: - Bodies

    /// - Returns: how much of `remaining` is still to come, or `nil` if there was nothing to take.
    private mutating func takeBody(_ input: inout ByteBuffer, remaining: Int) -> Int? {
        let count = min(remaining, input.readableBytes)
        guard count > 0 else { return nil }
        if body.readableBytes == 0, count == remaining, count * 2 >= input.storageCapacity,
            let slice = input.readSlice(length: count)
        {
            // A whole body that fills its buffer is passed on as it is. A small one is copied: a cached answer of 200
            // bytes must not keep a read buffer of 64 KB alive, and the channel may then use the buffer again.
            body = slice
            return 0
        }
        // A length is a promise of the peer; memory is reserved for at most 256 KB of it in advance.
        if body.readableBytes == 0 { body.reserveCapacity(min(remaining, 256 * 1024)) }
        if var slice = input.readSlice(length: count) { body.writeBuffer(&slice) }
        return remaining - count
    }

    private mutating func keepPartial(_ input: inout ByteBuffer) {
        // Taken over, not copied: a head that trickles in by single bytes is then appended to, which stays linear.
        partial = input
        input = ByteBuffer()
    }

    // MARK: - Lines

    private mutating func consumeLine(_ input: inout ByteBuffer) -> Result<Bool, WorkerFailure> {
        var consumed = 0
        let outcome: Result<Bool, WorkerFailure> = input.withUnsafeReadableBytes { bytes in
            // Several lines for one crossing of the closure: a head usually arrives whole.
            while true {
                guard let lineFeed = Self.lineFeed(in: bytes, from: consumed + searchedByteCount) else {
                    searchedByteCount = bytes.count - consumed
                    return isOverlong(pending: searchedByteCount) ? .failure(.malformedResponse) : .success(false)
                }
                searchedByteCount = 0
                let line = UnsafeRawBufferPointer(rebasing: bytes[consumed..<lineFeed])
                consumed = lineFeed + 1
                guard line.last == UInt8(ascii: "\r"), !isOverlong(pending: line.count + 1) else {
                    return .failure(.malformedResponse)
                }
                if let failure = take(line: UnsafeRawBufferPointer(rebasing: line.dropLast())) {
                    return .failure(failure)
                }
                switch stage {
                case .statusLine, .fields, .trailers: continue
                default: return .success(true)
                }
            }
        }
        input.moveReaderIndex(forwardBy: consumed)
        return outcome
    }

    /// Chunk lines have a small bound of their own; all other lines share that of the head.
    private func isOverlong(pending: Int) -> Bool {
        switch stage {
        case .chunkSize, .chunkEnd: pending > 256
        default: headByteCount + pending > limits.headBytes
        }
    }

    private static func lineFeed(in bytes: UnsafeRawBufferPointer, from start: Int) -> Int? {
        var index = start
        while index < bytes.count {
            if bytes[index] == UInt8(ascii: "\n") { return index }
            index += 1
        }
        return nil
    }

    private mutating func take(line: UnsafeRawBufferPointer) -> WorkerFailure? {
        switch stage {
        case .statusLine:
            headByteCount += line.count + 2
            return takeStatusLine(line)
        case .fields:
            headByteCount += line.count + 2
            if line.isEmpty { return finishHead() }
            return takeField(line)
        case .trailers:
            headByteCount += line.count + 2
            if line.isEmpty {
                stage = .complete
                return nil
            }
            fieldCount += 1
            return fieldCount <= limits.fieldCount && ResponseFields.nameLength(in: line) != nil
                ? nil : .malformedResponse
        case .chunkSize:
            return takeChunkSize(line)
        case .chunkEnd:
            guard line.isEmpty else { return .malformedResponse }
            stage = .chunkSize
            return nil
        case .body, .bodyUntilClose, .chunk, .complete:
            return .malformedResponse
        }
    }

    /// `HTTP/1.1 200 OK`; the reason may be missing, and its space with it.
    private mutating func takeStatusLine(_ line: UnsafeRawBufferPointer) -> WorkerFailure? {
        guard line.count >= 12, Self.startsWithVersion(line), line[8] == 0x20,
            line.count == 12 || line[12] == 0x20, line[12...].allSatisfy(ResponseFields.isValueByte)
        else { return .malformedResponse }
        switch line[7] {
        case UInt8(ascii: "1"): fields.isPersistent = true
        case UInt8(ascii: "0"): fields.isPersistent = false
        default: return .malformedResponse
        }
        var value = 0
        for byte in line[9..<12] {
            guard (0x30...0x39).contains(byte) else { return .malformedResponse }
            value = value * 10 + Int(byte - 0x30)
        }
        guard (100...599).contains(value) else { return .malformedResponse }
        status = value
        stage = .fields
        return nil
    }

    private static func startsWithVersion(_ line: UnsafeRawBufferPointer) -> Bool {
        for index in 0..<versionPrefix.utf8CodeUnitCount where line[index] != versionPrefix.utf8Start[index] {
            return false
        }
        return true
    }

    private mutating func takeField(_ line: UnsafeRawBufferPointer) -> WorkerFailure? {
        fieldCount += 1
        guard fieldCount <= limits.fieldCount, let nameLength = ResponseFields.nameLength(in: line) else {
            return .malformedResponse
        }
        let value = ResponseFields.trimmed(line[(nameLength + 1)...])
        guard value.allSatisfy(ResponseFields.isValueByte) else { return .malformedResponse }
        switch fields.take(name: line[..<nameLength], value: value) {
        case .ignored: return nil
        case .malformed: return .malformedResponse
        case .contentType:
            if let last = lastContentType, last.utf8.elementsEqual(value) { return nil }
            lastContentType = String(decoding: value, as: UTF8.self)
            return nil
        }
    }

    /// Where the body ends: RFC 9112 section 6.3, without its allowances.
    private mutating func finishHead() -> WorkerFailure? {
        if status < 200 {
            // Nothing was asked to be upgraded, and an interim response has no body.
            interimCount += 1
            guard status != 101, fields.contentLength == nil, !fields.isChunked, interimCount <= limits.interimCount
            else {
                return .malformedResponse
            }
            fields = ResponseFields()
            headByteCount = 0
            fieldCount = 0
            stage = .statusLine
            return nil
        }
        hasHead = true
        if fields.contentLength != nil, fields.isChunked { return .malformedResponse }
        if fields.isChunked, !fields.isPersistent { return .malformedResponse }
        if (300...399).contains(status) { return .redirect }
        if status == 204 {
            stage = .complete
            // A body would be the next response's beginning. What comes with the head is seen as left over; what is only
            // announced could still come, and would be read as the answer to another request.
            if fields.isChunked || (fields.contentLength ?? 0) > 0 { fields.wantsClose = true }
        } else if fields.isChunked {
            stage = .chunkSize
        } else if let length = fields.contentLength {
            guard length <= limits.bodyBytes else { return .responseTooLarge }
            stage = length == 0 ? .complete : .body(remaining: length)
        } else {
            fields.wantsClose = true
            stage = .bodyUntilClose
        }
        return nil
    }

    /// `1F4` or `1F4;name=value`: extensions are skipped.
    private mutating func takeChunkSize(_ line: UnsafeRawBufferPointer) -> WorkerFailure? {
        var size = 0
        var digits = 0
        for byte in line {
            guard let digit = Self.hexadecimal(byte) else {
                guard byte == UInt8(ascii: ";") || byte == 0x20 || byte == 0x09 else { return .malformedResponse }
                break
            }
            digits += 1
            guard digits <= 15 else { return .malformedResponse }
            size = size << 4 | digit
        }
        guard digits > 0, line[digits...].allSatisfy(ResponseFields.isValueByte) else { return .malformedResponse }
        guard size <= limits.bodyBytes - body.readableBytes else { return .responseTooLarge }
        stage = size == 0 ? .trailers : .chunk(remaining: size)
        return nil
    }

    private static func hexadecimal(_ byte: UInt8) -> Int? {
        switch byte {
        case 0x30...0x39: Int(byte - 0x30)
        case 0x41...0x46: Int(byte - 0x41) + 10
        case 0x61...0x66: Int(byte - 0x61) + 10
        default: nil
        }
    }
}
