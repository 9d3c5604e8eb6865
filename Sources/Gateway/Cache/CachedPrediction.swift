internal import Domain
internal import NIOCore
internal import Synchronization

/// An answer that a worker gave, ready to be given again. Immutable and shared by all who are answered with it.
final class CachedPrediction: Sendable {
    let reading: WorkerReading
    /// The version whose answer it is; also part of its key.
    let version: String
    /// What the worker's work was counted as.
    let usage: Usage
    let label: String?
    let storedAt: Timestamp
    let expiresAt: Timestamp
    /// It is younger than every clearing up to this one.
    let clearing: Int64
    /// As ``clearing``, moved on by those who looked.
    private let checked: Atomic<Int64>

    init(
        reading: WorkerReading, version: String, usage: Usage, label: String?, storedAt: Timestamp,
        expiresAt: Timestamp, clearing: Int64
    ) {
        self.reading = reading
        self.version = version
        self.usage = usage
        self.label = label
        self.storedAt = storedAt
        self.expiresAt = expiresAt
        self.clearing = clearing
        checked = Atomic(clearing)
    }

    /// It was cleared by none up to this one.
    var checkedClearing: Int64 { checked.load(ordering: .relaxed) }

    /// Spares those who look next the clearings up to this one. One who is late may move it back, and somebody looks once more.
    func check(upTo clearing: Int64) { checked.store(clearing, ordering: .relaxed) }

    /// What it takes in memory, with what is kept beside it.
    var byteCount: Int {
        reading.prediction.readableBytes + (reading.probabilities?.readableBytes ?? 0) + version.utf8.count
            + (label?.utf8.count ?? 0) + 400
    }

    /// Rounded down, and never below zero: the clocks of two gateways differ.
    func ageSeconds(at now: Timestamp) -> Int64 {
        max(0, (now.microsecondsSince1970 - storedAt.microsecondsSince1970) / 1_000_000)
    }

    func ttlSeconds(at now: Timestamp) -> Int64 {
        max(0, (expiresAt.microsecondsSince1970 - now.microsecondsSince1970) / 1_000_000)
    }
}

/// An answer as it lies outside of the process: a version, numbers, texts, and a code over all of it.
///
/// `1`, stored and end in microseconds since 1970, clearing, three counts and their source, version, label, prediction, probabilities;
/// numbers in network order, each text behind its length in four bytes, of which all ones say that there is none.
struct CacheFrame {
    private static let format: UInt8 = 1
    private static let absent = UInt32.max

    static func encode(_ entry: CachedPrediction, key: CacheKey, secret: CacheSecret) -> [UInt8] {
        var frame = ByteBuffer()
        frame.reserveCapacity(entry.byteCount)
        frame.writeInteger(format)
        for number in [
            entry.storedAt.microsecondsSince1970, entry.expiresAt.microsecondsSince1970, entry.clearing,
            entry.usage.inputTokens, entry.usage.cachedInputTokens, entry.usage.outputTokens,
        ] { frame.writeInteger(number) }
        write(ByteBuffer(string: entry.usage.source.rawValue), to: &frame)
        write(ByteBuffer(string: entry.version), to: &frame)
        write(entry.label.map { ByteBuffer(string: $0) }, to: &frame)
        write(entry.reading.prediction, to: &frame)
        write(entry.reading.probabilities, to: &frame)
        let bytes = Array(frame.readableBytesView)
        return bytes + secret.code(of: bytes, under: key)
    }

    /// - Returns: `nil` for anything that this build did not write under this key and secret, whole and unchanged.
    static func decode(_ bytes: [UInt8], key: CacheKey, secret: CacheSecret) -> CachedPrediction? {
        guard bytes.count > 33, bytes[0] == format else { return nil }
        let content = Array(bytes.dropLast(32))
        guard secret.isCode(Array(bytes.suffix(32)), of: content, under: key) else { return nil }
        var frame = ByteBuffer(bytes: content.dropFirst())
        guard let storedAt: Int64 = frame.readInteger(), let expiresAt: Int64 = frame.readInteger(),
            let clearing: Int64 = frame.readInteger(), let input: Int64 = frame.readInteger(),
            let cached: Int64 = frame.readInteger(), let output: Int64 = frame.readInteger(),
            let sourceText = read(&frame),
            let source = Usage.Source(rawValue: String(buffer: sourceText.value ?? .init())),
            let version = read(&frame)?.value, let label = read(&frame),
            let prediction = read(&frame)?.value, let probabilities = read(&frame), frame.readableBytes == 0
        else { return nil }
        let usage = Usage(inputTokens: input, cachedInputTokens: cached, outputTokens: output, source: source)
        return CachedPrediction(
            reading: WorkerReading(
                prediction: prediction, probabilities: probabilities.value, version: String(buffer: version),
                inputTokens: input, cachedInputTokens: cached, outputTokens: output),
            version: String(buffer: version), usage: usage, label: label.value.map { String(buffer: $0) },
            storedAt: Timestamp(microsecondsSince1970: storedAt),
            expiresAt: Timestamp(microsecondsSince1970: expiresAt), clearing: clearing)
    }

    private static func write(_ text: ByteBuffer?, to frame: inout ByteBuffer) {
        frame.writeInteger(text.map { UInt32(clamping: $0.readableBytes) } ?? absent)
        if let text { frame.writeImmutableBuffer(text) }
    }

    private struct Part { let value: ByteBuffer? }

    private static func read(_ frame: inout ByteBuffer) -> Part? {
        guard let length: UInt32 = frame.readInteger() else { return nil }
        guard length != absent else { return Part(value: nil) }
        return frame.readSlice(length: Int(length)).map { Part(value: $0) }
    }
}
