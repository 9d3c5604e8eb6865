import Domain
import Foundation
import Logging
import Synchronization
import Testing

@testable import weir

@Suite("JSON log")
struct JSONLogTests {
    private final class Collected: Sendable {
        private let bytes = Mutex<[UInt8]>([])
        func append(_ chunk: [UInt8]) { bytes.withLock { $0 += chunk } }
        var text: String { String(decoding: bytes.withLock { $0 }, as: UTF8.self) }
    }

    /// What a logger with the handler under test writes.
    private func written(level: Logger.Level = .info, _ body: (inout Logger) -> Void) -> String {
        let collected = Collected()
        let sink = LogSink { collected.append($0) }
        var logger = Logger(label: "weir.test") { label in
            JSONLogHandler(label: label, level: level, sink: sink) {
                Timestamp(microsecondsSince1970: 1_772_366_400_000_250)
            }
        }
        body(&logger)
        sink.flush()
        return collected.text
    }

    @Test("a line has time, level, label, message and the metadata by name")
    func golden() {
        let text = written { logger in
            logger[metadataKey: "b"] = "2"
            logger.warning("Something happened", metadata: ["a": "1"])
        }
        #expect(
            text == """
                {"time":"2026-03-01T12:00:00.000250Z","level":"warning","label":"weir.test","message":"Something happened","a":"1","b":"2"}

                """)
    }

    @Test("hostile text stays inside its string, on one line")
    func escaping() throws {
        let hostile = "quote\" back\\slash\nnew\r\t\u{0}\u{1B}[31m\u{7F}\u{9B}\u{2028}é😀"
        let text = written { $0.info("m", metadata: ["k\"\n": "\(hostile)"]) }
        #expect(text.filter { $0 == "\n" }.count == 1)
        #expect(!text.unicodeScalars.contains { $0.value < 0x20 && $0 != "\n" || (0x7F..<0xA0).contains($0.value) })
        let object = try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: String]
        #expect(object?["k\"\n"] == hostile)
    }

    @Test("nested metadata is flattened")
    func nested() {
        let text = written { $0.info("m", metadata: ["o": ["i": "1", "l": ["x", ["y": "z"]]]]) }
        #expect(text.contains(#""o.i":"1","o.l.0":"x","o.l.1.y":"z""#))
    }

    @Test("metadata cannot pose as level, message or time")
    func impersonation() throws {
        let text = written { $0.info("real", metadata: ["message": "fake", "level": "critical", "time": "0"]) }
        let object = try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: String]
        #expect(object?["message"] == "real" && object?["level"] == "info")
        #expect(
            object?["metadata.message"] == "fake" && object?["metadata.level"] == "critical"
                && object?["metadata.time"] == "0")
    }

    @Test("a huge event gives a bounded line that is still JSON and says so")
    func bounded() throws {
        let text = written { logger in
            var metadata: Logger.Metadata = [:]
            for index in 0..<1_000 { metadata["key\(index)"] = "\(String(repeating: "\u{1}", count: 10_000))" }
            logger.error("m", metadata: metadata)
        }
        #expect(text.utf8.count < 24_000)
        let object = try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: String]
        #expect(object?["truncated"] == "true")
    }

    @Test("a text is kept up to its limit in bytes, and so is a key")
    func limits() throws {
        let key = String(repeating: "k", count: 128)
        for (text, isWhole) in [
            (String(repeating: "a", count: JSONLine.textLimit), true),
            (String(repeating: "a", count: JSONLine.textLimit + 1), false),
            (String(repeating: "é", count: JSONLine.textLimit / 2), true),
        ] {
            let line = written { $0.info("m", metadata: ["\(key)": "\(text)"]) }
            let object = try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: String]
            #expect((object?[key] == text) == isWhole)
            #expect((object?["truncated"] == nil) == isWhole)
        }
    }

    @Test("an event below the level is not written")
    func level() {
        #expect(written(level: .error) { $0.warning("m") }.isEmpty)
        #expect(!written(level: .trace) { $0.trace("m") }.isEmpty)
    }

    @Test("what does not fit into the sink is dropped and counted")
    func dropped() {
        let collected = Collected()
        let gate = DispatchSemaphore(value: 0)
        let sink = LogSink { chunk in
            gate.wait()
            collected.append(chunk)
        }
        let line = [UInt8](repeating: UInt8(ascii: "x"), count: 65_535) + [0x0A]
        for _ in 0..<64 { sink.append(line) }
        for _ in 0..<64 { gate.signal() }
        sink.flush()
        let lines = collected.text.split(separator: "\n")
        let kept = lines.filter { $0.hasPrefix("x") }.count
        #expect(kept >= 16 && kept < 64)
        let reported = lines.compactMap { line -> Int? in
            guard line.hasPrefix("{") else { return nil }
            return (try? JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any])?["lines"] as? Int
        }
        #expect(kept + reported.reduce(0, +) == 64)
    }
}
