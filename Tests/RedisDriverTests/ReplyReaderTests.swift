import NIOCore
import Testing

@testable import RedisDriver

@Suite struct ReplyReaderTests {
    struct Example: CustomTestStringConvertible {
        let wire: String
        let value: RedisValue
        var testDescription: String { wire.debugDescription }
    }

    static let examples = [
        Example(wire: "+OK\r\n", value: .simpleString("OK")),
        Example(wire: "+\r\n", value: .simpleString("")),
        Example(wire: ":42\r\n", value: .integer(42)),
        Example(wire: ":-9223372036854775808\r\n", value: .integer(.min)),
        Example(wire: ":9223372036854775807\r\n", value: .integer(.max)),
        Example(wire: "$-1\r\n", value: .null),
        Example(wire: "*-1\r\n", value: .null),
        Example(wire: "$0\r\n\r\n", value: .bulk([])),
        Example(wire: "$4\r\n\r\n\r\n\r\n", value: .bulk([13, 10, 13, 10])),
        Example(wire: "$5\r\na\0b\0c\r\n", value: .bulk([0x61, 0, 0x62, 0, 0x63])),
        Example(wire: "*0\r\n", value: .array([])),
        Example(
            wire: "*3\r\n*2\r\n:1\r\n$1\r\nx\r\n*0\r\n$-1\r\n",
            value: .array([.array([.integer(1), .bulk([0x78])]), .array([]), .null])),
        Example(
            wire: "-WRONGTYPE Operation against a key\r\n",
            value: .error(RedisServerError(code: "WRONGTYPE", message: "Operation against a key"))),
        Example(
            wire: "*2\r\n-ERR inside\r\n+after\r\n",
            value: .array([.error(RedisServerError(code: "ERR", message: "inside")), .simpleString("after")])),
    ]

    @Test("every kind of reply is read", arguments: examples)
    func wholeReply(example: Example) throws {
        let reader = try Parser()
        #expect(try reader.read(Array(example.wire.utf8)) == [example.value])
    }

    @Test("a reply may be split at any byte", arguments: examples)
    func splitReply(example: Example) throws {
        let bytes = Array(example.wire.utf8)
        for cut in 1..<bytes.count {
            let reader = try Parser()
            #expect(try reader.read(Array(bytes[..<cut])) == [])
            #expect(try reader.read(Array(bytes[cut...])) == [example.value])
        }
    }

    @Test("many replies in one read come out in their order")
    func manyReplies() throws {
        let reader = try Parser()
        let wire = Self.examples.flatMap { Array($0.wire.utf8) }
        #expect(try reader.read(wire) == Self.examples.map(\.value))
    }

    @Test("all byte values survive in a bulk string")
    func binary() throws {
        let reader = try Parser()
        let payload = Array(UInt8.min...UInt8.max)
        #expect(try reader.read(Array("$256\r\n".utf8) + payload + [13, 10]) == [.bulk(payload)])
    }

    @Test("arrays may be nested seven deep")
    func nesting() throws {
        let reader = try Parser()
        let wire = String(repeating: "*1\r\n", count: 7) + ":1\r\n"
        var value = RedisValue.integer(1)
        for _ in 0..<7 { value = .array([value]) }
        #expect(try reader.read(Array(wire.utf8)) == [value])
    }

    @Test(
        "what is not RESP2 is a protocol violation, and the reader stays failed",
        arguments: [
            "HTTP/1.1 400 Bad Request\r\n\r\n", "\0\0\0\0", "%1\r\n+a\r\n:1\r\n", "$x\r\n", "$-2\r\n", ":12x\r\n",
            "*-2\r\n",
            "*99999999999999999999\r\n", "$99999999999999999999999\r\n", "*2147483648\r\n",
            String(repeating: "*1\r\n", count: 10) + ":1\r\n",
        ])
    func garbage(wire: String) throws {
        let reader = try Parser()
        #expect(label { () throws(RedisError) in try reader.read(Array(wire.utf8)) } == "protocol_violation")
        #expect(label { () throws(RedisError) in try reader.read(Array("+OK\r\n".utf8)) } == "protocol_violation")
    }

    @Test("an array header that announces more elements than allowed is refused before memory is taken")
    func elementLimit() throws {
        let reader = try Parser(limits: .init(elementCount: 10))
        #expect(try reader.read(Array("*10\r\n".utf8)) == [])
        #expect(label { () throws(RedisError) in try reader.read(Array("*1\r\n".utf8)) } == "protocol_violation")

        let huge = try Parser()
        #expect(label { () throws(RedisError) in try huge.read(Array("*2147483647\r\n".utf8)) } == "protocol_violation")
    }

    @Test("the allowance of elements is for each reply, not for the connection")
    func elementLimitRenews() throws {
        let reader = try Parser(limits: .init(elementCount: 2))
        for _ in 0..<5 {
            #expect(try reader.read(Array("*2\r\n:1\r\n:2\r\n".utf8)) == [.array([.integer(1), .integer(2)])])
        }
    }

    @Test("a bulk string that never ends is refused at the limit of bytes")
    func byteLimit() throws {
        let reader = try Parser(limits: .init(byteCount: 1_000))
        #expect(try reader.read(Array("$9223372036854775807\r\n".utf8)) == [])
        #expect(try reader.read([UInt8](repeating: 0, count: 900)) == [])
        let more = [UInt8](repeating: 0, count: 200)
        #expect(label { () throws(RedisError) in try reader.read(more) } == "protocol_violation")
    }

    @Test("the limit of bytes is for each reply, also when replies share a read")
    func byteLimitRenews() throws {
        let reader = try Parser(limits: .init(byteCount: 100))
        let reply = Array("$50\r\n".utf8) + [UInt8](repeating: 1, count: 50) + [13, 10]
        for _ in 0..<5 { #expect(try reader.read(reply + reply + reply).count == 3) }
        #expect(try reader.read(reply + reply + Array(reply.dropLast())).count == 2)
        #expect(try reader.read([10]).count == 1)
    }

    private func label(_ body: () throws(RedisError) -> [RedisValue]) -> String? {
        do throws(RedisError) {
            _ = try body()
            return nil
        } catch {
            return error.metricLabel
        }
    }
}

/// A reader that the expectations can share.
private final class Parser {
    private var reader: ReplyReader

    init(limits: ReplyReader.Limits = .init()) throws { reader = try ReplyReader(limits: limits) }

    func read(_ bytes: [UInt8]) throws(RedisError) -> [RedisValue] {
        let failure: RedisError? = bytes.withUnsafeBytes { raw in
            do throws(RedisError) {
                try reader.feed(raw)
                return nil
            } catch {
                return error
            }
        }
        if let failure { throw failure }
        var values: [RedisValue] = []
        while let value = try reader.next() { values.append(value) }
        return values
    }
}

@Suite struct RedisCommandTests {
    @Test("a command is an array of bulk strings on the wire")
    func encoding() throws {
        #expect(try wire(RedisCommand("SET", "k", "v")) == "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n")
        #expect(try wire(RedisCommand("X").appending(-12)) == "*2\r\n$1\r\nX\r\n$3\r\n-12\r\n")
        #expect(try wire(RedisCommand("X", "", "")) == "*3\r\n$1\r\nX\r\n$0\r\n\r\n$0\r\n\r\n")
        #expect(try wire(RedisCommand(arguments: [[]] as [[UInt8]])) == "*1\r\n$0\r\n\r\n")
        #expect(try wire(RedisCommand("X").appending([0, 13, 10, 0])) == "*2\r\n$1\r\nX\r\n$4\r\n\0\r\n\0\r\n")
    }

    @Test("an empty or an oversized command is refused")
    func limits() {
        #expect(throws: RedisError.self) { try RedisCommand(arguments: [] as [String]).encoded() }
        let large = RedisCommand("X").appending([UInt8](repeating: 0, count: RedisCommand.byteLimit))
        #expect(throws: RedisError.invalidCommand("it is too large")) { try large.encoded() }
    }

    private func wire(_ command: RedisCommand) throws -> String {
        String(decoding: try command.encoded().readableBytesView, as: UTF8.self)
    }
}

@Suite struct RedisErrorTests {
    @Test(
        "an error line is split into code and text",
        arguments: [
            ("NOSCRIPT No matching script.", "NOSCRIPT", "No matching script."), ("MOVED 1 a:1", "MOVED", "1 a:1"),
            ("LOADING", "LOADING", ""), ("oops", "ERR", "oops"), ("", "ERR", ""), ("Err x", "ERR", "Err x"),
        ])
    func serverError(line: String, code: String, message: String) {
        #expect(RedisServerError(line: line) == RedisServerError(code: code, message: message))
    }

    @Test("only a command whose fate is unknown counts as possibly executed")
    func fate() {
        #expect(RedisError.timeout.mayHaveBeenExecuted)
        #expect(RedisError.connectionLost.mayHaveBeenExecuted)
        #expect(RedisError.protocolViolation("").mayHaveBeenExecuted)
        #expect(!RedisError.unavailable("").mayHaveBeenExecuted)
        #expect(!RedisError.overloaded.mayHaveBeenExecuted)
        #expect(!RedisError.closed.mayHaveBeenExecuted)
    }

    @Test("the text of a server's error, which may quote arguments, stays out of the description")
    func description() {
        let error = RedisError.serverError(RedisServerError(code: "ERR", message: "unknown command 'secret'"))
        #expect(!"\(error)".contains("secret"))
    }
}
