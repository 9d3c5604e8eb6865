import Logging
import NIOPosix
import TestSupport
import Testing

@testable import RedisDriver

@Suite(.timeLimit(.minutes(2))) struct RedisSubscriptionTests {
    @Test("messages of channels and of patterns arrive in order after connected")
    func receives() async throws {
        let url = try await RedisServer.sharedURL()
        try await withClient(url) { client in
            try await withSubscription(url, channels: ["receives:a"], patterns: ["receives:p*"]) { subscription in
                var events = subscription.events.makeAsyncIterator()
                #expect(await events.next() == .connected)
                #expect(subscription.isConnected)
                let counts = [
                    try await client.publish("receives:a", [0, 1]), try await client.publish("receives:p1", []),
                    try await client.publish("receives:other", [2]), try await client.publish("receives:a", [3]),
                ]
                #expect(counts == [1, 1, 0, 1])
                #expect(await events.next() == .message(RedisMessage(channel: "receives:a", payload: [0, 1])))
                #expect(
                    await events.next()
                        == .message(RedisMessage(channel: "receives:p1", payload: [], pattern: "receives:p*")))
                #expect(await events.next() == .message(RedisMessage(channel: "receives:a", payload: [3])))
            }
        }
    }

    @Test("a change that an operator makes by hand is told by a keyspace notification")
    func keyspace() async throws {
        let server = try await RedisServer.startPrivate(arguments: ["--notify-keyspace-events", "KEA"])
        try await withClient(server.url) { client in
            try await withSubscription(server.url, channels: ["__keyspace@0__:model_routes"]) { subscription in
                var events = subscription.events.makeAsyncIterator()
                #expect(await events.next() == .connected)
                try await client.hset("model_routes", "iris", Array("127.0.0.1:9000".utf8))
                try await client.hset("other", "iris", [])
                try await client.hdel("model_routes", ["iris"])
                let channel = "__keyspace@0__:model_routes"
                #expect(await events.next() == .message(RedisMessage(channel: channel, payload: Array("hset".utf8))))
                #expect(await events.next() == .message(RedisMessage(channel: channel, payload: Array("hdel".utf8))))
                #expect(await events.next() == .message(RedisMessage(channel: channel, payload: Array("del".utf8))))
            }
        }
    }

    @Test("connected comes again after CLIENT KILL, and messages after it")
    func clientKill() async throws {
        let server = try await RedisServer.startPrivate()
        try await withClient(server.url) { client in
            try await withSubscription(server.url, channels: ["c"]) { subscription in
                var events = subscription.events.makeAsyncIterator()
                for round: UInt8 in 0..<3 {
                    #expect(await events.next() == .connected)
                    let count = try await client.publish("c", [round])
                    #expect(count == 1)
                    #expect(await events.next() == .message(RedisMessage(channel: "c", payload: [round])))
                    #expect(try await client.send(["CLIENT", "KILL", "TYPE", "pubsub"]) == .integer(1))
                }
                #expect(await events.next() == .connected)
            }
        }
    }

    @Test("connected comes again after the server was killed and restarted, with a password")
    func restart() async throws {
        let server = try await RedisServer.startPrivate(transport: .tcp, password: "correct")
        try await withSubscription(server.url, channels: ["c"]) { subscription in
            var events = subscription.events.makeAsyncIterator()
            #expect(await events.next() == .connected)
            try await server.restart()
            #expect(await events.next() == .connected)
        }
    }

    @Test("a server that is there but frozen is noticed although nothing is expected from it")
    func frozen() async throws {
        let server = try await RedisServer.startPrivate()
        let configure: (inout RedisConfiguration) -> Void = {
            $0.subscriptionPingIntervalMilliseconds = 20
            $0.connectTimeoutMilliseconds = 300
        }
        try await withSubscription(server.url, channels: ["c"], configure: configure) { subscription in
            var events = subscription.events.makeAsyncIterator()
            #expect(await events.next() == .connected)
            server.freeze()
            while subscription.isConnected { try await Task.sleep(for: .milliseconds(5)) }
            #expect(subscription.lastError != nil)
            server.thaw()
            #expect(await events.next() == .connected)
        }
    }

    @Test("pings on a quiet subscription keep it and disturb nothing")
    func pings() async throws {
        let server = try await RedisServer.startPrivate()
        try await withClient(server.url) { client in
            let configure: (inout RedisConfiguration) -> Void = { $0.subscriptionPingIntervalMilliseconds = 1 }
            try await withSubscription(server.url, channels: ["c"], configure: configure) { subscription in
                var events = subscription.events.makeAsyncIterator()
                #expect(await events.next() == .connected)
                for number: UInt8 in 0..<50 {
                    #expect(try await client.publish("c", [number]) == 1)
                    #expect(await events.next() == .message(RedisMessage(channel: "c", payload: [number])))
                }
                let statistics = try #require(try await client.send(["INFO", "commandstats"]).string)
                #expect(statistics.contains("cmdstat_ping"))
            }
        }
    }

    @Test("a wrong password is told by the last error, and the events end at the shutdown")
    func wrongPassword() async throws {
        let server = try await RedisServer.startPrivate(password: "correct")
        let url = server.url.replacing(":correct@", with: ":wrong@")
        try await withSubscription(url, channels: ["c"]) { subscription in
            while subscription.lastError == nil { try await Task.sleep(for: .milliseconds(5)) }
            #expect(subscription.lastError == .authenticationFailed)
            #expect(!subscription.isConnected)
            await subscription.shutdown()
            for await _ in subscription.events { Issue.record("an event although it never connected") }
        }
    }

    @Test("a subscription to nothing is refused")
    func nothing() async {
        await #expect {
            try await withSubscription("redis://localhost", channels: []) { _ in }
        } throws: {
            ($0 as? RedisError)?.metricLabel == "invalid_configuration"
        }
    }

    @Test("a subscription whose commands and log-in exceed the bound of outstanding commands is refused")
    func tooManyChannels() async {
        await #expect {
            try await withSubscription(
                "redis://:password@localhost", channels: ["a", "b", "c"],
                configure: { $0.maximumPendingCommands = 4 }, { _ in })
        } throws: {
            ($0 as? RedisError)?.metricLabel == "invalid_configuration"
        }
    }

    @Test("a full buffer keeps the newest events and says that some were missed")
    func overflow() async {
        let buffer = SubscriptionBuffer(count: 4)
        for number: UInt8 in 1...20 { buffer.add(.message(RedisMessage(channel: "c", payload: [number]))) }
        buffer.finish()
        var seen: [RedisSubscription.Event] = []
        for await event in buffer.stream { seen.append(event) }
        #expect(seen.count == 4)
        #expect(seen.last == .message(RedisMessage(channel: "c", payload: [20])))
        #expect(seen.contains(.missed))
    }

    @Test("whatever the consumer reads and whenever, a gap is followed by missed")
    func overflowInterleaved() async {
        for pace in 1...7 {
            let buffer = SubscriptionBuffer(count: 4)
            var events = buffer.stream.makeAsyncIterator()
            var isGapOpen = false
            // After `.missed` the consumer reads the whole state, so any message may come next.
            var expected: UInt8? = 1
            var last: UInt8 = 0
            func take(_ event: RedisSubscription.Event?) {
                switch event {
                case .message(let message):
                    last = message.payload.first ?? 0
                    if let expected, expected != last { isGapOpen = true }
                    expected = last + 1
                case .missed:
                    isGapOpen = false
                    expected = nil
                case .connected, nil:
                    Issue.record("neither was added")
                }
            }
            // The first few fill the buffer; then one is read for each `pace` that are written.
            for number: UInt8 in 1...200 {
                buffer.add(.message(RedisMessage(channel: "c", payload: [number])))
                guard Int(number).isMultiple(of: pace), number > 4 else { continue }
                take(await events.next())
            }
            buffer.finish()
            while let event = await events.next() { take(event) }
            #expect(last == 200)
            #expect(!isGapOpen)
        }
    }

    private func withSubscription(
        _ url: String, channels: [String], patterns: [String] = [],
        configure: (inout RedisConfiguration) -> Void = { _ in }, _ body: (RedisSubscription) async throws -> Void
    ) async throws {
        var configuration = try RedisConfiguration(url: url)
        configuration.connectTimeoutMilliseconds = 10_000
        configuration.backoff = RedisBackoff(baseMilliseconds: 5, maximumMilliseconds: 50)
        configure(&configuration)
        let subscription = try RedisSubscription(
            configuration: configuration, channels: channels, patterns: patterns,
            eventLoop: MultiThreadedEventLoopGroup.singleton.any(),
            logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
        do {
            try await body(subscription)
            await subscription.shutdown()
        } catch {
            await subscription.shutdown()
            throw error
        }
    }
}
