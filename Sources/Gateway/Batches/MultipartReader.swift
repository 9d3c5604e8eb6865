internal import NIOCore

#if canImport(Darwin)
    internal import Darwin
#else
    internal import Glibc
#endif

/// Reads `multipart/form-data` (RFC 7578) as it comes: what has been told of is forgotten, so a part of any size costs the memory of one read.
struct MultipartReader {
    enum Event: Equatable {
        /// A part begins.
        case part(name: String, filename: String?)
        /// A piece of the part's content.
        case content(ByteBuffer)
        case endOfPart
        /// The last boundary was read; what follows counts for nothing.
        case end
    }

    struct Malformed: Error, Equatable {}

    private enum Stage {
        case preamble, headers, content, end
    }

    /// The head of a part, in bytes.
    private static let headLimit = 8_192
    private static let partLimit = 32

    private let delimiter: [UInt8]
    private var buffer = ByteBuffer()
    private var stage = Stage.preamble
    private var parts = 0

    var isComplete: Bool { stage == .end }

    /// - Returns: `nil` where the content type is not that of a form, or has no usable boundary.
    init?(contentType: String) {
        let fields = contentType.split(separator: ";", omittingEmptySubsequences: true)
        guard let type = fields.first, Self.trimmed(type).lowercased() == "multipart/form-data" else { return nil }
        var boundary: String?
        for field in fields.dropFirst() {
            let pair = field.split(separator: "=", maxSplits: 1)
            guard pair.count == 2, Self.trimmed(pair[0]).lowercased() == "boundary" else { continue }
            var value = Self.trimmed(pair[1])
            if value.count >= 2, value.hasPrefix("\""), value.hasSuffix("\"") {
                value = String(value.dropFirst().dropLast())
            }
            boundary = value
        }
        guard let boundary, (1...70).contains(boundary.utf8.count),
            boundary.utf8.allSatisfy({ (0x20...0x7E).contains($0) })
        else { return nil }
        delimiter = Array("\r\n--\(boundary)".utf8)
        // The first boundary may stand at the very beginning, where no line has ended yet.
        buffer.writeStaticString("\r\n")
    }

    /// Takes the next bytes and tells what they complete.
    mutating func read(_ bytes: inout ByteBuffer) throws(Malformed) -> [Event] {
        buffer.writeBuffer(&bytes)
        var events: [Event] = []
        while try step(&events) {}
        buffer.discardReadBytes()
        return events
    }

    /// - Returns: whether there may be more to tell.
    private mutating func step(_ events: inout [Event]) throws(Malformed) -> Bool {
        switch stage {
        case .preamble:
            guard let distance = find(delimiter) else {
                guard buffer.readableBytes <= Self.headLimit else { throw Malformed() }
                return false
            }
            return try boundary(after: distance, &events)
        case .headers:
            guard let length = find([0x0D, 0x0A, 0x0D, 0x0A]) else {
                guard buffer.readableBytes <= Self.headLimit else { throw Malformed() }
                return false
            }
            guard length <= Self.headLimit, let head = buffer.readString(length: length) else { throw Malformed() }
            buffer.moveReaderIndex(forwardBy: 4)
            events.append(try Self.part(head))
            stage = .content
            return true
        case .content:
            if let distance = find(delimiter) {
                if distance > 0, let content = buffer.readSlice(length: distance) { events.append(.content(content)) }
                // Told of once what follows is known to be a boundary's end.
                guard buffer.readableBytes >= delimiter.count + 2 else { return false }
                events.append(.endOfPart)
                return try boundary(after: 0, &events)
            }
            // The end of what is there may be the beginning of a boundary.
            let safe = buffer.readableBytes - delimiter.count
            if safe > 0, let content = buffer.readSlice(length: safe) { events.append(.content(content)) }
            return false
        case .end:
            buffer.clear()
            return false
        }
    }

    /// Behind a boundary comes the next part, or two hyphens and the end.
    private mutating func boundary(after distance: Int, _ events: inout [Event]) throws(Malformed) -> Bool {
        guard buffer.readableBytes >= distance + delimiter.count + 2 else { return false }
        buffer.moveReaderIndex(forwardBy: distance + delimiter.count)
        switch buffer.readBytes(length: 2) {
        case [0x2D, 0x2D]:
            stage = .end
            events.append(.end)
        case [0x0D, 0x0A]:
            parts += 1
            guard parts <= Self.partLimit else { throw Malformed() }
            stage = .headers
            // A part may have no head at all; then its line end is the empty line's.
            buffer = Self.prefixed(buffer)
        default: throw Malformed()
        }
        return true
    }

    /// The head with a line end in front, so that an empty one ends as every other.
    private static func prefixed(_ rest: ByteBuffer) -> ByteBuffer {
        var buffer = ByteBuffer()
        buffer.writeStaticString("\r\n")
        buffer.writeImmutableBuffer(rest)
        return buffer
    }

    /// Where the first of these bytes is that begin with a carriage return.
    private func find(_ needle: [UInt8]) -> Int? {
        buffer.withUnsafeReadableBytes { bytes in
            guard let base = bytes.baseAddress else { return nil }
            var start = 0
            while bytes.count - start >= needle.count {
                guard let found = memchr(base + start, 0x0D, bytes.count - start) else { return nil }
                let place = UnsafeRawPointer(found) - base
                guard bytes.count - place >= needle.count else { return nil }
                if memcmp(base + place, needle, needle.count) == 0 { return place }
                start = place + 1
            }
            return nil
        }
    }

    private static func part(_ head: String) throws(Malformed) -> Event {
        for line in head.split(separator: "\r\n", omittingEmptySubsequences: true) {
            let pair = line.split(separator: ":", maxSplits: 1)
            guard pair.count == 2, trimmed(pair[0]).lowercased() == "content-disposition" else { continue }
            let name = parameter("name", of: pair[1])
            guard let name, trimmed(pair[1]).lowercased().hasPrefix("form-data") else { throw Malformed() }
            return .part(name: name, filename: parameter("filename", of: pair[1]))
        }
        throw Malformed()
    }

    /// A parameter in quotes, or without them.
    private static func parameter(_ name: String, of text: Substring) -> String? {
        for field in text.split(separator: ";").dropFirst() {
            let pair = field.split(separator: "=", maxSplits: 1)
            guard pair.count == 2, trimmed(pair[0]).lowercased() == name else { continue }
            let value = trimmed(pair[1])
            return value.count >= 2 && value.hasPrefix("\"") && value.hasSuffix("\"")
                ? String(value.dropFirst().dropLast()) : value
        }
        return nil
    }

    private static func trimmed(_ text: Substring) -> String {
        String(text.drop { $0 == " " || $0 == "\t" }.reversed().drop { $0 == " " || $0 == "\t" }.reversed())
    }
}
