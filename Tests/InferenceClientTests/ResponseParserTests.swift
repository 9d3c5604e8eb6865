import NIOCore
import Testing

@testable import InferenceClient

@Suite("Reading a response")
struct ResponseParserTests {
    /// What came of a stream of bytes that was delivered in pieces.
    struct Outcome: Equatable, CustomStringConvertible {
        var failure: WorkerFailure?
        var status: Int?
        var contentType: String?
        var body: String?
        var isReusable = false
        var leftOver = ""

        var description: String { "\(status ?? 0) \(body ?? "-") \(failure.map { "\($0)" } ?? "")" }
    }

    static func parse(
        _ pieces: [[UInt8]], limits: ResponseParser.Limits = .init(bodyBytes: 1024), endsAtClose: Bool = false
    ) -> Outcome {
        var parser = ResponseParser(limits: limits)
        for (index, piece) in pieces.enumerated() {
            var buffer = ByteBuffer(bytes: piece)
            switch parser.consume(&buffer) {
            case .incomplete: continue
            case .failed(let failure): return Outcome(failure: failure)
            case .complete:
                let rest = pieces[(index + 1)...].joined()
                return outcome(&parser, leftOver: String(buffer: buffer) + String(decoding: rest, as: UTF8.self))
            }
        }
        return endsAtClose && parser.finishAtEnd() ? outcome(&parser, leftOver: "") : Outcome()
    }

    static func outcome(_ parser: inout ResponseParser, leftOver: String) -> Outcome {
        let isReusable = parser.allowsReuse
        let reply = parser.takeReply()
        return Outcome(
            status: reply.status, contentType: reply.contentType, body: String(buffer: reply.body),
            isReusable: isReusable,
            leftOver: leftOver)
    }

    static func parse(_ text: String, endsAtClose: Bool = false) -> Outcome {
        parse([Array(text.utf8)], endsAtClose: endsAtClose)
    }

    static let wholeResponses: [String] = [
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 11\r\n\r\n{\"a\": true}",
        "HTTP/1.1 503 Service Unavailable\r\nContent-Length:0\r\nRetry-After: 1\r\n\r\n",
        "HTTP/1.1 204 No Content\r\n\r\n",
        "HTTP/1.1 200\r\nTransfer-Encoding: chunked\r\nContent-Type: text/plain\r\n\r\n"
            + "5;a=b\r\nhello\r\n1\r\n \r\n00005\r\nworld\r\n0\r\nx-sum: 1\r\n\r\n",
        "HTTP/1.1 102 Wait\r\n\r\nHTTP/1.1 100 Continue\r\nx: y\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n!",
    ]

    @Test("a response cut at any byte reads like the whole one", arguments: wholeResponses)
    func cut(text: String) throws {
        let bytes = Array(text.utf8)
        let expected = Self.parse([bytes])
        try #require(expected.status != nil && expected.leftOver.isEmpty && expected.isReusable)
        for index in 1..<bytes.count {
            #expect(Self.parse([Array(bytes[..<index]), Array(bytes[index...])]) == expected, "cut at \(index)")
        }
        #expect(Self.parse(bytes.map { [$0] }) == expected)
        for index in 1..<bytes.count {
            #expect(Self.parse([Array(bytes[..<index])]) == Outcome(), "only \(index) bytes")
        }
    }

    @Test("chunks are joined, their extensions and trailers are dropped")
    func chunks() {
        let outcome = Self.parse(Self.wholeResponses[3])
        #expect(outcome.body == "hello world")
        #expect(outcome.contentType == "text/plain")
        #expect(outcome.isReusable)
    }

    static let malformedResponses: [String] = [
        "HTTP/2 200 OK\r\n\r\n",
        "HTTP/1.2 200 OK\r\n\r\n",
        "http/1.1 200 OK\r\n\r\n",
        "HTTP/1.1 20 OK\r\n\r\n",
        "HTTP/1.1 2000 OK\r\n\r\n",
        "HTTP/1.1 099 No\r\n\r\n",
        "HTTP/1.1 600 No\r\n\r\n",
        "HTTP/1.1  200 OK\r\n\r\n",
        "HTTP/1.1 +20 OK\r\n\r\n",
        "\r\nHTTP/1.1 200 OK\r\n\r\n",
        "HTTP/1.1 200 OK\ncontent-length: 0\n\n",
        "HTTP/1.1 200 O\u{0}K\r\n\r\n",
        "SSH-2.0-OpenSSH_9.2\r\n",
        "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        "HTTP/1.1 200 OK\r\n: empty\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length : 2\r\n\r\n{}",
        "HTTP/1.1 200 OK\r\nx: a\r\n folded\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nx: a\rb\r\n\r\n",
        "HTTP/1.1 200 OK\r\nx: a\u{0}b\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: +1\r\n\r\nx",
        "HTTP/1.1 200 OK\r\ncontent-length: 1e3\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 0x10\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length:\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 1, 1\r\n\r\nx",
        "HTTP/1.1 200 OK\r\ncontent-length: 9999999999999999999999\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 1\r\n\r\nx",
        "HTTP/1.1 200 OK\r\ncontent-length: 1\r\nContent-Length: 2\r\n\r\nx",
        "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-length: 1\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: identity\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: xchunked\r\n\r\n",
        "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-type: a/b\r\ncontent-type: c/d\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n-1\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0x1\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0000000000000001\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nab\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\nab\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\nno trailer\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n",
        "HTTP/1.1 100 Continue\r\ncontent-length: 5\r\n\r\n",
        "HTTP/1.1 103 Hints\r\ntransfer-encoding: chunked\r\n\r\n",
    ]

    @Test("an ambiguous or broken response is malformed, however it is cut", arguments: malformedResponses)
    func malformed(text: String) {
        #expect(Self.parse(text).failure == .malformedResponse)
        #expect(Self.parse(Array(text.utf8).map { [$0] }).failure == .malformedResponse)
    }

    @Test(
        "a connection is used again only after an answer of HTTP/1.1 with an end and without close",
        arguments: [
            ("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", true),
            ("HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: keep-alive\r\n\r\n", true),
            ("HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n", false),
            ("HTTP/1.1 200 OK\r\ncontent-length: 0\r\nConnection:  x , Close\t\r\n\r\n", false),
            ("HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: closed\r\n\r\n", true),
            ("HTTP/1.1 200 OK\r\nconnection: close\r\nconnection: keep-alive\r\ncontent-length: 0\r\n\r\n", false),
            ("HTTP/1.0 200 OK\r\ncontent-length: 0\r\nconnection: keep-alive\r\n\r\n", false),
            ("HTTP/1.1 204 No Content\r\ntransfer-encoding: chunked\r\n\r\n", false),
            ("HTTP/1.1 204 No Content\r\ncontent-length: 1\r\n\r\n", false),
            ("HTTP/1.1 204 No Content\r\ncontent-length: 0\r\n\r\n", true),
            ("HTTP/1.1 200 OK\r\n\r\nto the end", false),
        ])
    func reuse(text: String, isReusable: Bool) {
        let outcome = Self.parse(text, endsAtClose: true)
        #expect(outcome.status != nil)
        #expect(outcome.isReusable == isReusable)
    }

    @Test("a body without a length ends with the connection, any other does not")
    func closeDelimited() {
        #expect(Self.parse("HTTP/1.1 200 OK\r\n\r\nto the end", endsAtClose: true).body == "to the end")
        #expect(Self.parse("HTTP/1.1 200 OK\r\n\r\n", endsAtClose: true).body == "")
        #expect(Self.parse("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nab", endsAtClose: true) == Outcome())
        #expect(
            Self.parse("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n", endsAtClose: true)
                == Outcome())
        #expect(Self.parse("HTTP/1.1 200 OK\r\n", endsAtClose: true) == Outcome())
    }

    @Test("what follows a response is left over")
    func leftOver() {
        #expect(Self.parse("HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nabc").leftOver == "bc")
        #expect(Self.parse("HTTP/1.1 204 No\r\ncontent-length: 1\r\n\r\na").leftOver == "a")
        #expect(Self.parse(Self.wholeResponses[3] + "HTTP").leftOver == "HTTP")
    }

    @Test("eight interim responses are skipped, the ninth is too many")
    func interim() {
        let one = "HTTP/1.1 100 Continue\r\n\r\n"
        let last = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
        #expect(Self.parse(String(repeating: one, count: 8) + last).status == 200)
        #expect(Self.parse(String(repeating: one, count: 9) + last).failure == .malformedResponse)
    }

    @Test("every redirect is refused", arguments: [300, 301, 302, 303, 304, 307, 308, 399])
    func redirect(status: Int) {
        #expect(Self.parse("HTTP/1.1 \(status) Found\r\nlocation: http://10.0.0.1/\r\n\r\n").failure == .redirect)
    }

    @Test("a body of the permitted length is read and one more byte is too large, in each of the three framings")
    func bodyLimit() {
        let (fits, over) = (String(repeating: "x", count: 1024), String(repeating: "x", count: 1025))
        #expect(Self.parse("HTTP/1.1 200 OK\r\ncontent-length: 1024\r\n\r\n\(fits)").body == fits)
        #expect(Self.parse("HTTP/1.1 200 OK\r\ncontent-length: 1025\r\n\r\n").failure == .responseTooLarge)
        #expect(Self.parse("HTTP/1.1 200 OK\r\n\r\n\(fits)", endsAtClose: true).body == fits)
        #expect(Self.parse("HTTP/1.1 200 OK\r\n\r\n\(over)", endsAtClose: true).failure == .responseTooLarge)
        let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
        #expect(Self.parse("\(chunked)400\r\n\(fits)\r\n0\r\n\r\n").body == fits)
        #expect(Self.parse("\(chunked)401\r\n").failure == .responseTooLarge)
        #expect(Self.parse("\(chunked)400\r\n\(fits)\r\n1\r\nx\r\n").failure == .responseTooLarge)
        #expect(Self.parse("\(chunked)fffffffffffffff\r\n").failure == .responseTooLarge)
    }

    @Test("a head of more than 32 KB or 100 fields is malformed, also without an end of line")
    func headLimit() {
        func fields(_ count: Int) -> String {
            "HTTP/1.1 200 OK\r\n" + String(repeating: "a: b\r\n", count: count) + "\r\n"
        }
        #expect(Self.parse(fields(100), endsAtClose: true).status == 200)
        #expect(Self.parse(fields(101)).failure == .malformedResponse)
        func long(_ count: Int) -> String { "HTTP/1.1 200 OK\r\na: " + String(repeating: "b", count: count) }
        #expect(Self.parse(long(32 * 1024 - 24) + "\r\n\r\n", endsAtClose: true).status == 200)
        #expect(Self.parse(long(32 * 1024) + "\r\n\r\n").failure == .malformedResponse)
        #expect(Self.parse(long(32 * 1024)).failure == .malformedResponse)
        #expect(Self.parse([Array(long(16 * 1024).utf8)]) == Outcome())
        let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
        #expect(Self.parse(chunked + "1;" + String(repeating: "e", count: 300)).failure == .malformedResponse)
        #expect(
            Self.parse(chunked + "0\r\n" + String(repeating: "t: v\r\n", count: 100) + "\r\n").failure
                == .malformedResponse)
    }

    @Test("a small body does not keep the buffer that it was read into, a large one is not copied")
    func ownership() {
        var parser = ResponseParser(limits: .init(bodyBytes: 100_000))
        var small = ByteBuffer()
        small.reserveCapacity(65_536)
        small.writeString("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
        #expect(parser.consume(&small) == .complete)
        #expect(parser.takeReply().body.storageCapacity < 1024)
        parser.reset()
        var large = ByteBuffer()
        large.reserveCapacity(65_536)
        large.writeString("HTTP/1.1 200 OK\r\ncontent-length: 60000\r\n\r\n" + String(repeating: "x", count: 60_000))
        let start = large.withUnsafeReadableBytes { UInt(bitPattern: $0.baseAddress) }
        #expect(parser.consume(&large) == .complete)
        let body = parser.takeReply().body
        #expect(body.withUnsafeReadableBytes { UInt(bitPattern: $0.baseAddress) } - start < 100)
        #expect(body.readableBytes == 60_000)
    }

    @Test("nothing of a response is left in the next one")
    func reset() {
        var parser = ResponseParser(limits: .init(bodyBytes: 1024))
        var first = ByteBuffer(string: "HTTP/1.0 500 No\r\ncontent-type: text/plain\r\ncontent-length: 1\r\n\r\n!")
        #expect(parser.consume(&first) == .complete)
        parser.reset()
        var second = ByteBuffer(string: "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        #expect(parser.consume(&second) == .complete)
        #expect(Self.outcome(&parser, leftOver: "") == Outcome(status: 200, body: "", isReusable: true))
    }

    /// A small generator with a seed, so that a failure can be repeated.
    struct Dice: RandomNumberGenerator {
        var state: UInt64

        mutating func next() -> UInt64 {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return state ^ state >> 29
        }
    }

    @Test(
        "damaged responses in any pieces end in the same way as in one piece, and never beyond the limit",
        arguments: 1...8)
    func damage(seed: Int) {
        var dice = Dice(state: UInt64(seed))
        for _ in 0..<400 {
            guard var bytes = Self.wholeResponses.randomElement(using: &dice).map({ Array($0.utf8) }) else { return }
            for _ in 0..<Int.random(in: 1...3, using: &dice) {
                let index = Int.random(in: 0..<bytes.count, using: &dice)
                switch Int.random(in: 0...2, using: &dice) {
                case 0: bytes[index] = UInt8.random(in: 0...255, using: &dice)
                case 1: bytes.remove(at: index)
                default: bytes.insert(UInt8.random(in: 0x20...0x3A, using: &dice), at: index)
                }
            }
            var pieces: [[UInt8]] = [[]]
            for byte in bytes {
                if Int.random(in: 0..<6, using: &dice) == 0 { pieces.append([]) }
                pieces[pieces.count - 1].append(byte)
            }
            let expected = Self.parse([bytes], endsAtClose: true)
            #expect(Self.parse(pieces, endsAtClose: true) == expected, "\(String(decoding: bytes, as: UTF8.self))")
            #expect((expected.body ?? "").utf8.count <= 1024)
        }
    }
}
