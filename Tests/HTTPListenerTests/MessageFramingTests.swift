import NIOCore
import TestSupport
import Testing

@testable import HTTPListener

@Suite("Where messages end") struct MessageFramingTests {
    /// Feeds the text cut into pieces of `pieceLength` and gives the last progress with the count of all bytes taken.
    private func scan(_ text: String, pieceLength: Int) -> (progress: ChunkScanner.Progress, taken: Int) {
        var scanner = ChunkScanner()
        let bytes = Array(text.utf8)
        var start = 0
        while start < bytes.count {
            let piece = Array(bytes[start..<min(start + pieceLength, bytes.count)])
            let progress = piece.withUnsafeBytes { scanner.scan($0) }
            switch progress {
            case .open: start += piece.count
            case .complete(let count): return (progress, start + count)
            case .refused: return (progress, start)
            }
        }
        return (.open, start)
    }

    @Test(
        "a chunked body ends where its last line does, however it is cut",
        arguments: [
            "0\r\n\r\n", "5\r\nhello\r\n0\r\n\r\n", "5;a=b\r\nhello\r\n0;c\r\n\r\n", "00005\r\nhello\r\n000\r\n\r\n",
            "a\r\n0\r\n\r\n01234\r\n0\r\n\r\n", "1\r\nx\r\n0\r\nx-sum: 1\r\ny: 2\r\n\r\n",
            "5; \u{e9}\r\nhello\r\n0\r\n\r\n",
            "1;" + String(repeating: "e", count: ChunkScanner.extensionByteLimit - 1) + "\r\nx\r\n0\r\n\r\n",
        ])
    func complete(body: String) {
        let following = "POST /predict HTTP/1.1\r\n"
        for pieceLength in 1...(body.utf8.count + following.utf8.count) {
            let (progress, taken) = scan(body + following, pieceLength: pieceLength)
            guard case .complete = progress else {
                Issue.record("\(progress) in pieces of \(pieceLength)")
                return
            }
            #expect(taken == body.utf8.count)
        }
    }

    @Test(
        "what is not exactly a chunk is refused, however it is cut",
        arguments: [
            "\r\n", "x\r\n", "0x5\r\nhello\r\n", "+5\r\nhello\r\n", " 5\r\nhello\r\n", "5 \r\nhello\r\n",
            "5\nhello\r\n", "5\r\nhelloX\r\n", "5\r\nhello\n0\r\n\r\n", ";a\r\n", "00000000000000005\r\n",
            "5;a\u{0}b\r\nhello\r\n", "5;a\rb\r\nhello\r\n", "5;a\nb\r\nhello\r\n", "1\r\nx\r\n0\r\na: b\r\r\n",
            "1;" + String(repeating: "e", count: ChunkScanner.extensionByteLimit) + "\r\nx\r\n0\r\n\r\n",
        ])
    func refused(body: String) {
        for pieceLength in 1...body.utf8.count { #expect(scan(body, pieceLength: pieceLength).progress == .refused) }
    }

    @Test("a chunk of the largest size does not overflow") func largestSize() {
        #expect(scan("ffffffffffffffff\r\nabc", pieceLength: 7).progress == .open)
    }

    @Test(
        "a head ends at its empty line, however it is cut",
        arguments: [
            ("GET / HTTP/1.1\r\nhost: a\r\n\r\n", true), ("BREW / HTTP/1.1\r\n\r\n", true),
            ("get / HTTP/1.1\r\n\r\n", false), ("GET\r\n\r\n", false), ("X\r\r\n\r\n", false),
            ("GET / HTTP/1.1\r\na: \r\r\n\r\n", true), (String(repeating: "A", count: 33) + " /\r\n\r\n", false),
        ])
    func headEnd(head: String, hasMethod: Bool) {
        let bytes = Array((head + "GET").utf8)
        for pieceLength in 1...bytes.count {
            var scanner = HeadScanner()
            #expect(scanner.isFresh && scanner.isInFirstLine)
            var start = 0
            var end: Int?
            while end == nil, start < bytes.count {
                let piece = Array(bytes[start..<min(start + pieceLength, bytes.count)])
                end = piece.withUnsafeBytes { scanner.scan($0) }.map { start + $0 }
                start += piece.count
            }
            #expect(end == head.utf8.count)
            #expect(scanner.hasMethod == hasMethod)
            #expect(!scanner.isFresh && !scanner.isInFirstLine)
        }
    }

    @Test(
        "a version is known by its form, whichever it is and however it is cut",
        arguments: [
            ("GET / HTTP/1.1\r\n", true), ("GET / HTTP/3.0\r\nx: y\r\n\r\n", true), ("GET / HTTP/2.0\n", true),
            ("GET / HTTP/9.9", true), ("GET / HTTP/1.10\r\n", false), ("GET / HTTP/11.1\r\n", false),
            ("GET / HTTP/1,1\r\n", false), ("GET / HTTP/a.1\r\n", false), ("GET / HTTP/1.1 \r\n", false),
            ("GET / http/1.1\r\n", false), ("GET / HTTP/1\r\n", false), ("GET /\r\nx: HTTP/1.1\r\n\r\n", false),
            ("", false),
        ])
    func version(text: String, hasVersion: Bool) {
        let bytes = Array(text.utf8)
        for pieceLength in 1...max(1, bytes.count) {
            var scanner = HeadScanner()
            for start in stride(from: 0, to: bytes.count, by: pieceLength) {
                let piece = Array(bytes[start..<min(start + pieceLength, bytes.count)])
                _ = piece.withUnsafeBytes { scanner.scan($0) }
            }
            #expect(scanner.hasVersion == hasVersion)
        }
    }

    @Test(
        "one whole request is known at sight, and nothing else is taken for one",
        arguments: [
            ("GET / HTTP/1.1\r\nhost: a\r\n\r\n", true), ("POST / HTTP/1.1\r\ncontent-length: 3\r\n\r\nabc", true),
            ("POST / HTTP/1.1\r\nContent-Length:   3\r\ntraceparent: x\r\ncookie: y\r\n\r\nabc", true),
            ("POST / HTTP/1.1\r\ncontent-length: 4\r\n\r\nabc", false),
            ("POST / HTTP/1.1\r\ncontent-length: 2\r\n\r\nabc", false),
            ("POST / HTTP/1.1\r\ncontent-length: 3x\r\n\r\nabc", false),
            ("POST / HTTP/1.1\r\ncontent-length: 3\r\ncontent-length: 3\r\n\r\nabc", false),
            ("POST / HTTP/1.1\r\ncontent-length: 3\r\nTransfer-Encoding: chunked\r\n\r\nabc", false),
            ("POST / HTTP/1.1\r\nTRANSFER-ENCODING: chunked\r\n\r\n", false),
            ("POST / HTTP/1.1\r\ncontent-length: 99999999999\r\n\r\n", false),
            ("GET / HTTP/1.1\nhost: a\n\n", false), ("GET / HTTP/1.1\r\nhost: a\r\n", false), ("", false),
            ("GET / HTTP/1.1\r\nhost: a\r\n\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n", false), ("\r\n\r\n", false),
            ("GET / HTTP/1.1\r\n-: \n\r\n", false), ("\n\r\n", false), ("GET / HTTP/1.1\r\nhost: a\r\n\r", false),
        ])
    func oneRequest(text: String, expected: Bool) {
        #expect(Array(text.utf8).withUnsafeBytes { HeadScanner.isOneRequest($0) } == expected)
    }

    @Test("random bytes are scanned without a trap", arguments: 0..<64 as Range<UInt64>)
    func random(seed: UInt64) {
        var random = SeededRandom(seed: seed)
        let alphabet = Array("0123456789abcdefABCDEF;\r\n GETPOSTcontent-length: transfer-encoding".utf8) + [0, 255]
        let bytes = (0..<400).map { _ in alphabet[Int.random(in: 0..<alphabet.count, using: &random)] }
        var whole = ChunkScanner()
        let expected = bytes.withUnsafeBytes { whole.scan($0) }
        var cut = ChunkScanner()
        var progress = ChunkScanner.Progress.open
        for byte in bytes where progress == .open { progress = [byte].withUnsafeBytes { cut.scan($0) } }
        #expect((progress == .refused) == (expected == .refused))
        var head = HeadScanner()
        _ = bytes.withUnsafeBytes { head.scan($0) }
        _ = bytes.withUnsafeBytes { HeadScanner.isOneRequest($0) }
    }
}
