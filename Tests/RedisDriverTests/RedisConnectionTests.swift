import NIOCore
import NIOEmbedded
import Testing

@testable import RedisDriver

/// The connection on a channel without a socket and a clock that stands still unless moved.
@Suite struct RedisConnectionTests {
    @Test("a reply may be split at any byte")
    func splitReplies() throws {
        let wire = Array("*2\r\n$3\r\nabc\r\n:7\r\n+OK\r\n$-1\r\n".utf8)
        for cut in 1..<wire.count {
            let fake = try FakeConnection()
            let replies = [fake.send("A"), fake.send("B"), fake.send("C")]
            try fake.receive(Array(wire[..<cut]))
            try fake.receive(Array(wire[cut...]))
            let values = try replies.map { try $0.wait() }
            #expect(values == [.array([.bulk(Array("abc".utf8)), .integer(7)]), .simpleString("OK"), .null])
        }
    }

    @Test("commands of one tick leave in one write")
    func coalescing() throws {
        let fake = try FakeConnection()
        for name in ["A", "B", "C"] { _ = fake.send(name, flush: false) }
        #expect(try fake.channel.readOutbound(as: ByteBuffer.self) == nil)
        fake.channel.embeddedEventLoop.run()
        let first = try #require(try fake.channel.readOutbound(as: ByteBuffer.self))
        #expect(String(buffer: first) == "*1\r\n$1\r\nA\r\n*1\r\n$1\r\nB\r\n*1\r\n$1\r\nC\r\n")
        #expect(try fake.channel.readOutbound(as: ByteBuffer.self) == nil)
    }

    @Test("without a reply in time the connection ends and takes the later commands with it")
    func timeout() throws {
        let fake = try FakeConnection()
        let first = fake.send("A", timeoutMilliseconds: 100)
        fake.channel.embeddedEventLoop.advanceTime(by: .milliseconds(60))
        let second = fake.send("B", timeoutMilliseconds: 100)
        fake.channel.embeddedEventLoop.advanceTime(by: .milliseconds(39))
        #expect(fake.channel.isActive)
        fake.channel.embeddedEventLoop.advanceTime(by: .milliseconds(1))
        #expect(throws: RedisError.timeout) { try first.wait() }
        #expect(throws: RedisError.timeout) { try second.wait() }
        #expect(!fake.channel.isActive)
        #expect(fake.ends.value == [.timeout])
    }

    @Test("each command has its own deadline, not the first one's")
    func laterDeadline() throws {
        let fake = try FakeConnection()
        let first = fake.send("A", timeoutMilliseconds: 100)
        fake.channel.embeddedEventLoop.advanceTime(by: .milliseconds(60))
        let second = fake.send("B", timeoutMilliseconds: 100)
        try fake.receive("+1\r\n")
        fake.channel.embeddedEventLoop.advanceTime(by: .milliseconds(99))
        #expect(fake.channel.isActive)
        fake.channel.embeddedEventLoop.advanceTime(by: .milliseconds(1))
        #expect(!fake.channel.isActive)
        #expect(try first.wait() == .simpleString("1"))
        #expect(throws: RedisError.timeout) { try second.wait() }
    }

    @Test("a command after one with a longer deadline, such as the log-in, has its own")
    func shorterDeadlineLater() throws {
        let fake = try FakeConnection()
        let login = fake.send("A", timeoutMilliseconds: 60_000)
        try fake.receive("+OK\r\n")
        #expect(try login.wait() == .simpleString("OK"))
        let command = fake.send("B", timeoutMilliseconds: 100)
        fake.channel.embeddedEventLoop.advanceTime(by: .milliseconds(100))
        #expect(!fake.channel.isActive)
        #expect(throws: RedisError.timeout) { try command.wait() }
    }

    @Test("when the peer closes, sent commands are lost and unsent ones were never executed")
    func peerCloses() throws {
        let fake = try FakeConnection()
        let sent = fake.send("A")
        let unsent = fake.send("B", flush: false)
        fake.channel.pipeline.fireChannelInactive()
        #expect(throws: RedisError.connectionLost) { try sent.wait() }
        #expect {
            try unsent.wait()
        } throws: {
            ($0 as? RedisError)?.metricLabel == "unavailable"
        }
        #expect(fake.ends.value == [.connectionLost])
    }

    @Test("a command after the end fails at once")
    func afterTheEnd() throws {
        let fake = try FakeConnection()
        fake.channel.pipeline.fireChannelInactive()
        #expect {
            try fake.send("A").wait()
        } throws: {
            ($0 as? RedisError)?.metricLabel == "unavailable"
        }
    }

    @Test("garbage fails everything outstanding and ends the connection")
    func garbage() throws {
        let fake = try FakeConnection()
        let replies = [fake.send("A"), fake.send("B")]
        try fake.receive("+fine\r\n?\r\n")
        #expect(try replies[0].wait() == .simpleString("fine"))
        #expect {
            try replies[1].wait()
        } throws: {
            ($0 as? RedisError)?.metricLabel == "protocol_violation"
        }
        #expect(!fake.channel.isActive)
    }

    @Test("a reply that no command asked for ends the connection")
    func unsolicited() throws {
        let fake = try FakeConnection()
        try fake.receive("+OK\r\n")
        #expect(fake.ends.value.map(\.metricLabel) == ["protocol_violation"])
    }

    @Test("a reply before the command was sent is not taken for its answer")
    func tooEarly() throws {
        let fake = try FakeConnection()
        let reply = fake.send("A", flush: false)
        try fake.receive("+OK\r\n")
        #expect {
            try reply.wait()
        } throws: {
            ($0 as? RedisError)?.metricLabel == "unavailable"
        }
    }

    @Test("at the bound of outstanding commands the next is refused and the others are unharmed")
    func overload() throws {
        let fake = try FakeConnection(maximumPendingCommands: 2)
        let replies = [fake.send("A"), fake.send("B")]
        #expect(throws: RedisError.overloaded) { try fake.send("C").wait() }
        try fake.receive("+1\r\n+2\r\n")
        #expect(try replies.map { try $0.wait() } == [.simpleString("1"), .simpleString("2")])
        let next = fake.send("D")
        try fake.receive("+3\r\n")
        #expect(try next.wait() == .simpleString("3"))
    }

    @Test("an error reply fails its own command only")
    func errorReply() throws {
        let fake = try FakeConnection()
        let replies = [fake.send("A"), fake.send("B")]
        try fake.receive("-WRONGTYPE no\r\n+OK\r\n")
        #expect(throws: RedisError.serverError(RedisServerError(code: "WRONGTYPE", message: "no"))) {
            try replies[0].wait()
        }
        #expect(try replies[1].wait() == .simpleString("OK"))
    }

    @Test("draining waits for the outstanding replies and takes nothing new")
    func draining() throws {
        let fake = try FakeConnection()
        let reply = fake.send("A")
        fake.connection.drain()
        #expect(fake.channel.isActive)
        #expect(throws: RedisError.closed) { try fake.send("B").wait() }
        try fake.receive("+OK\r\n")
        #expect(try reply.wait() == .simpleString("OK"))
        #expect(!fake.channel.isActive)
    }

    @Test("a command sent from a reply's callback is sent too")
    func reentrancy() throws {
        let fake = try FakeConnection()
        let second = fake.channel.embeddedEventLoop.makePromise(of: RedisValue.self)
        fake.send("A").assumeIsolated().whenSuccess { _ in
            fake.send("B", flush: false).cascade(to: second)
        }
        try fake.receive("+1\r\n")
        fake.channel.embeddedEventLoop.run()
        try fake.receive("+2\r\n")
        #expect(try second.futureResult.wait() == .simpleString("2"))
    }

    @Test("a subscriber's messages come between the replies without disturbing their order")
    func messages() throws {
        let messages = LoopBox<[RedisMessage]>([])
        let fake = try FakeConnection { messages.value.append($0) }
        let replies = [fake.send("SUBSCRIBE"), fake.send("PING")]
        try fake.receive("*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$2\r\nhi\r\n")
        try fake.receive("*2\r\n$4\r\npong\r\n$0\r\n\r\n*4\r\n$8\r\npmessage\r\n$1\r\n*\r\n$1\r\nc\r\n$2\r\nho\r\n")
        #expect(try replies[0].wait().array?.first?.string == "subscribe")
        #expect(try replies[1].wait().array?.first?.string == "pong")
        #expect(
            messages.value == [
                RedisMessage(channel: "c", payload: Array("hi".utf8)),
                RedisMessage(channel: "c", payload: Array("ho".utf8), pattern: "*"),
            ])
    }
}

/// A value that the closures of one thread share.
private final class LoopBox<Value> {
    var value: Value
    init(_ value: Value) { self.value = value }
}

private final class FakeConnection {
    let channel = EmbeddedChannel()
    let connection: RedisConnection
    let ends = LoopBox<[RedisError]>([])

    init(maximumPendingCommands: Int = 100, onMessage: ((RedisMessage) -> Void)? = nil) throws {
        connection = try RedisConnection(
            maximumPendingCommands: maximumPendingCommands, metrics: RedisMetrics(), onMessage: onMessage)
        try channel.pipeline.syncOperations.addHandler(connection)
        try channel.connect(to: SocketAddress(ipAddress: "127.0.0.1", port: 1)).wait()
        connection.onEnd = { [ends] in ends.value.append($0) }
    }

    func send(_ name: String, timeoutMilliseconds: Int64 = 1_000, flush: Bool = true) -> EventLoopFuture<RedisValue> {
        let loop = channel.embeddedEventLoop
        let promise = loop.makePromise(of: RedisValue.self)
        let bytes = ByteBuffer(string: "*1\r\n$\(name.utf8.count)\r\n\(name)\r\n")
        connection.send(
            RedisRequest(bytes: bytes, completion: .promise(promise)),
            deadline: loop.now + .milliseconds(timeoutMilliseconds))
        if flush { loop.run() }
        return promise.futureResult
    }

    func receive(_ bytes: [UInt8]) throws {
        _ = try? channel.writeInbound(ByteBuffer(bytes: bytes))
    }

    func receive(_ text: String) throws { try receive(Array(text.utf8)) }
}
