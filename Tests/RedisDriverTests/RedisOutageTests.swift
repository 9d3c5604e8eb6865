import NIOCore
import NIOPosix
import RedisDriver
import TestSupport
import Testing

/// Servers that die, freeze, lie or were never there.
@Suite(.timeLimit(.minutes(2))) struct RedisOutageTests {
    @Test(
        "a server that was never there fails commands at once",
        arguments: ["unix:///tmp/weir-nobody-here", "redis://127.0.0.1:1"])
    func neverThere(url: String) async throws {
        try await withClient(url) { client in
            for _ in 0..<3 {
                #expect(await failure { try await client.get("x") }?.metricLabel == "unavailable")
            }
            #expect(!client.isAvailable)
            #expect(client.lastError?.metricLabel == "unavailable")
        }
    }

    @Test(
        "a killed server is a typed error at once, and after its restart the same client works",
        arguments: [RedisServer.Transport.unixSocket, .tcp])
    func killed(transport: RedisServer.Transport) async throws {
        let server = try await RedisServer.startPrivate(transport: transport)
        try await withClient(server.url, configure: { $0.connections = 1 }) { client in
            try await client.set("k", [1])
            try await server.stop()
            await wait(for: client, toBe: false)
            for _ in 0..<20 {
                #expect(await failure { try await client.get("k") }?.metricLabel == "unavailable")
            }
            try await server.restart()
            await wait(for: client, toBe: true)
            // What is said behind a good answer may be read only now. The suite's limit bounds this.
            while client.lastError != nil { try await Task.sleep(for: .milliseconds(1)) }
            #expect(try await client.get("k") == nil)
        }
    }

    @Test("commands in flight when the server dies are lost, not repeated")
    func inFlight() async throws {
        let server = try await RedisServer.startPrivate()
        try await withClient(server.url, configure: { $0.connections = 1 }) { client in
            try await client.ping()
            server.freeze()
            let loop = MultiThreadedEventLoopGroup.singleton.any()
            let replies = (0..<10).map { _ in client.send(RedisCommand("INCR", "n"), on: loop) }
            // A round trip through the loops, so that the commands have been written.
            for each in MultiThreadedEventLoopGroup.singleton.makeIterator() { try await each.submit {}.get() }
            try await server.stop()
            for reply in replies {
                await #expect(throws: RedisError.connectionLost) { try await reply.get() }
            }
            try await server.restart()
            await wait(for: client, toBe: true)
            #expect(try await client.get("n") == nil)
        }
    }

    @Test("a command whose connection ends under it is sent once only")
    func sentOnce() async throws {
        let server = try await FakeServer { nil }
        try await withClient(server.url, configure: { $0.connections = 1 }) { client in
            let error = await failure { try await client.incr("n") }
            #expect(error == .connectionLost)
            await wait(for: client, toBe: true)
        }
        #expect(server.commands.count == 1)
        await server.stop()
    }

    @Test("a frozen server is a timeout within the deadline, then unavailable without waiting, then back")
    func frozen() async throws {
        let server = try await RedisServer.startPrivate()
        let configure: (inout RedisConfiguration) -> Void = {
            $0.connections = 1
            $0.commandTimeoutMilliseconds = 500
            $0.connectTimeoutMilliseconds = 60_000
        }
        try await withClient(server.url, configure: configure) { client in
            // Connecting has its own limit; the command's is too short for it on a busy machine.
            client.start()
            await wait(for: client, toBe: true)
            server.freeze()
            let start = ContinuousClock.now
            #expect(await failure { try await client.get("x") } == .timeout)
            let waited = ContinuousClock.now - start
            #expect(waited >= .milliseconds(500))
            // The exact deadline is tested with a clock that stands still; here it only must not be the other timeout.
            #expect(waited < .seconds(15))

            let downSince = ContinuousClock.now
            for _ in 0..<100 {
                #expect(await failure { try await client.get("x") }?.metricLabel == "unavailable")
            }
            // A hundred commands that each waited for their deadline would take fifty seconds.
            #expect(ContinuousClock.now - downSince < .seconds(15))
            server.thaw()
            await wait(for: client, toBe: true)
        }
    }

    @Test("a late reply is not taken for the next command's")
    func lateReply() async throws {
        let server = try await RedisServer.startPrivate()
        let configure: (inout RedisConfiguration) -> Void = {
            $0.connections = 1
            $0.commandTimeoutMilliseconds = 1_000
        }
        try await withClient(server.url, configure: configure) { client in
            client.start()
            await wait(for: client, toBe: true)
            server.freeze()
            #expect(await failure { try await client.send(["ECHO", "late"]) } == .timeout)
            server.thaw()
            await wait(for: client, toBe: true)
            for number in 0..<20 {
                let echo = try? await client.send(["ECHO", "\(number)"]).string
                #expect(echo == nil || echo == "\(number)")
            }
        }
    }

    @Test("a server that accepts and says nothing is unavailable within the command's deadline")
    func silent() async throws {
        let listener = try await ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .bind(host: "127.0.0.1", port: 0).get()
        let port = try #require(listener.localAddress?.port)
        try await withClient("redis://127.0.0.1:\(port)", configure: { $0.commandTimeoutMilliseconds = 100 }) {
            client in
            let start = ContinuousClock.now
            let error = await failure { try await client.ping() }
            #expect(error?.metricLabel == "unavailable")
            #expect(error?.mayHaveBeenExecuted == false)
            #expect(ContinuousClock.now - start < .seconds(5))
        }
        try await listener.close()
    }

    @Test(
        "garbage from the server is a protocol violation, and the client survives it",
        arguments: [
            "HTTP/1.1 400 Bad Request\r\n\r\n", "\0\u{1}\u{2}", "$-7\r\n", "*99999999999999999999\r\n",
            "*2147483647\r\n",
            "$99999999999999999999\r\n", String(repeating: "*1\r\n", count: 12) + ":1\r\n", "+1\r\n+2\r\n?", ">2\r\n",
        ])
    func garbage(text: String) async throws {
        let server = try await FakeServer { Array(text.utf8) }
        try await withClient(server.url, configure: { $0.connections = 1 }) { client in
            let isLateGarbage = text.hasPrefix("+")
            let first = await failure { try await client.get("x") }
            #expect(first?.metricLabel == (isLateGarbage ? "unexpected_reply" : "protocol_violation"))
            await wait(for: client, toBe: true)
            #expect(client.lastError == nil)
        }
        await server.stop()
    }

    @Test("an announced bulk string of exabytes takes no memory and ends at the deadline")
    func hugeBulk() async throws {
        let server = try await FakeServer { Array("$9223372036854775000\r\nabc".utf8) }
        let configure: (inout RedisConfiguration) -> Void = {
            $0.connections = 1
            $0.commandTimeoutMilliseconds = 3_000
        }
        try await withClient(server.url, configure: configure) { client in
            #expect(await failure { try await client.get("x") } == .timeout)
        }
        await server.stop()
    }

    @Test("at the bound of outstanding commands the next one is refused as overloaded")
    func pendingBound() async throws {
        let server = try await RedisServer.startPrivate()
        let configure: (inout RedisConfiguration) -> Void = {
            $0.connections = 1
            $0.maximumPendingCommands = 5
        }
        try await withClient(server.url, configure: configure) { client in
            try await client.ping()
            server.freeze()
            let loop = MultiThreadedEventLoopGroup.singleton.any()
            let replies = (0..<8).map { _ in client.send(RedisCommand("PING"), on: loop) }
            for refused in replies.suffix(3) {
                await #expect(throws: RedisError.overloaded) { try await refused.get() }
            }
            server.thaw()
            for answered in replies.prefix(5) {
                let reply = try await answered.get()
                #expect(reply == .simpleString("PONG"))
            }
        }
    }

    @Test("the bound holds as well for commands that wait for the first connection")
    func pendingBoundBeforeConnecting() async throws {
        let server = try await RedisServer.startPrivate()
        server.freeze()
        let configure: (inout RedisConfiguration) -> Void = {
            $0.connections = 1
            $0.maximumPendingCommands = 5
        }
        try await withClient(server.url, configure: configure) { client in
            let loop = MultiThreadedEventLoopGroup.singleton.any()
            let replies = (0..<8).map { _ in client.send(RedisCommand("PING"), on: loop) }
            for refused in replies.suffix(3) {
                await #expect(throws: RedisError.overloaded) { try await refused.get() }
            }
            server.thaw()
            for answered in replies.prefix(5) {
                let reply = try await answered.get()
                #expect(reply == .simpleString("PONG"))
            }
        }
    }

    @Test("CLIENT KILL of the client's own connection is survived without a new client")
    func clientKill() async throws {
        let server = try await RedisServer.startPrivate()
        try await withClient(server.url, configure: { $0.connections = 1 }) { client in
            try await client.ping()
            try await withClient(server.url) { operatorClient in
                _ = try await operatorClient.send(["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"])
            }
            await wait(for: client, toBe: true)
            while await failure({ try await client.ping() }) != nil {
                await wait(for: client, toBe: true)
            }
        }
    }
}
