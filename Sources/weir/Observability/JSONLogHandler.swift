import Domain
import Glibc
import Logging

/// Writes each log event as one line of JSON: `time` (RFC 3339, UTC), `level`, `label`, `message`, then the metadata,
/// flattened.
///
/// Nested metadata becomes `outer.inner`, list elements `outer.0`. A key of ours in the metadata gets the prefix
/// `metadata.`, so that nothing can pose as another level or message. Everything is bounded: a line has at most about
/// 16 KiB.
struct JSONLogHandler: LogHandler {
    var metadata: Logger.Metadata = [:]
    var metadataProvider: Logger.MetadataProvider?
    var logLevel: Logger.Level

    private let label: String
    private let sink: LogSink
    private let now: @Sendable () -> Timestamp

    init(
        label: String, level: Logger.Level, sink: LogSink = .standardError,
        metadataProvider: Logger.MetadataProvider? = nil,
        now: @escaping @Sendable () -> Timestamp = Self.wallClock
    ) {
        self.label = label
        self.logLevel = level
        self.sink = sink
        self.metadataProvider = metadataProvider
        self.now = now
    }

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    func log(event: LogEvent) {
        var fields = metadata
        if let provided = metadataProvider?.get(), !provided.isEmpty { fields.merge(provided) { _, new in new } }
        if let given = event.metadata { fields.merge(given) { _, new in new } }
        if let error = event.error { fields["error"] = "\(error)" }
        var line = JSONLine()
        line.add("time", now().description)
        line.add("level", event.level.rawValue)
        line.add("label", label)
        line.add("message", event.message.description)
        for (key, value) in fields.sorted(by: { $0.key < $1.key }) {
            line.add(metadata: JSONLine.ownKeys.contains(key) ? "metadata.\(key)" : key, value, depth: 0)
        }
        sink.append(line.finished())
    }

    /// Microseconds since 1970 from the system's clock.
    @Sendable static func wallClock() -> Timestamp {
        var time = timespec()
        clock_gettime(CLOCK_REALTIME, &time)
        return Timestamp(microsecondsSince1970: Int64(time.tv_sec) * 1_000_000 + Int64(time.tv_nsec) / 1_000)
    }
}

/// One JSON object of strings, written as bytes (RFC 8259).
struct JSONLine {
    static let ownKeys: Set<String> = ["time", "level", "label", "message", "truncated"]
    /// Bytes after which no further field is added.
    static let lineLimit = 16_384
    /// Bytes of one text that are kept.
    static let textLimit = 4_096
    private static let depthLimit = 8
    private static let hexadecimal = Array("0123456789abcdef".utf8)

    private var bytes: [UInt8] = [UInt8(ascii: "{")]
    private var isTruncated = false

    init() { bytes.reserveCapacity(512) }

    mutating func add(_ key: String, _ text: String) {
        guard bytes.count < Self.lineLimit else {
            isTruncated = true
            return
        }
        if bytes.count > 1 { bytes.append(UInt8(ascii: ",")) }
        append(key, limit: 128)
        bytes.append(UInt8(ascii: ":"))
        append(text, limit: Self.textLimit)
    }

    mutating func add(metadata key: String, _ value: Logger.MetadataValue, depth: Int) {
        switch value {
        case .dictionary(let dictionary) where depth < Self.depthLimit:
            for (inner, value) in dictionary.sorted(by: { $0.key < $1.key }) {
                add(metadata: "\(key).\(inner)", value, depth: depth + 1)
            }
        case .array(let array) where depth < Self.depthLimit:
            for (index, value) in array.enumerated() { add(metadata: "\(key).\(index)", value, depth: depth + 1) }
        default: add(key, value.description)
        }
    }

    /// The line with its line feed.
    consuming func finished() -> [UInt8] {
        if isTruncated { bytes += Array(#","truncated":"true""#.utf8) }
        bytes.append(UInt8(ascii: "}"))
        bytes.append(0x0A)
        return bytes
    }

    private mutating func append(_ text: String, limit: Int) {
        bytes.append(UInt8(ascii: "\""))
        var written = 0
        for scalar in text.unicodeScalars {
            guard written < limit else {
                isTruncated = true
                break
            }
            written += appendEscaped(scalar)
        }
        bytes.append(UInt8(ascii: "\""))
    }

    private mutating func appendEscaped(_ scalar: Unicode.Scalar) -> Int {
        switch scalar.value {
        case 0x22, 0x5C:
            bytes.append(UInt8(ascii: "\\"))
            bytes.append(UInt8(truncatingIfNeeded: scalar.value))
            return 2
        case 0x0A:
            bytes += [UInt8(ascii: "\\"), UInt8(ascii: "n")]
            return 2
        // DEL and the C1 controls are legal in JSON, and an escape sequence in a terminal.
        case 0x00..<0x20, 0x7F..<0xA0:
            bytes += Array("\\u00".utf8)
            bytes.append(Self.hexadecimal[Int(scalar.value >> 4)])
            bytes.append(Self.hexadecimal[Int(scalar.value & 15)])
            return 6
        default:
            let encoded = UTF8.encode(scalar) ?? UTF8.encodedReplacementCharacter
            for byte in encoded { bytes.append(byte) }
            return encoded.count
        }
    }
}
