import Domain
import Glibc
import NIOCore
import NIOPosix
import Synchronization
import TestSupport
import Testing

@testable import InferenceClient

@Suite("where webhooks are sent")
struct WebhookClientTests {
    private static let refused = [
        "127.0.0.1", "127.255.255.254", "10.1.2.3", "172.16.0.1", "172.31.255.255", "192.168.1.1", "169.254.169.254",
        "100.64.0.1",
        "100.127.255.255", "0.0.0.0", "0.1.2.3", "224.0.0.1", "240.0.0.1", "255.255.255.255", "198.18.0.1", "192.0.2.1",
        "203.0.113.9", "::1",
        "::", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "64:ff9b::7f00:1", "2002:7f00:1::",
        "fe80::1", "fc00::1",
        "fd00:ec2::254", "ff02::1", "2001:db8::1", "::127.0.0.1",
    ]

    @Test("private, local and special addresses are refused", arguments: refused)
    func refuses(address: String) throws {
        #expect(try !WebhookAddressPolicy.standard.permits(#require(IPAddress(address))))
    }

    @Test(
        "public addresses are permitted",
        arguments: ["1.1.1.1", "100.63.255.255", "100.128.0.1", "172.32.0.1", "2606:4700:4700::1111"])
    func permits(address: String) throws {
        #expect(try WebhookAddressPolicy.standard.permits(#require(IPAddress(address))))
    }

    @Test("the operator's networks are added, but never the metadata services'")
    func operatorsNetworks() throws {
        let policy = try #require(
            WebhookAddressPolicy(allowsHTTP: true, allowing: ["10.1.0.0/16", "169.254.0.0/16", "::1"]))
        #expect(try policy.permits(#require(IPAddress("10.1.9.9"))))
        #expect(try policy.permits(#require(IPAddress("::1"))))
        #expect(try !policy.permits(#require(IPAddress("10.2.0.1"))))
        #expect(try !policy.permits(#require(IPAddress("169.254.169.254"))))
        #expect(WebhookAddressPolicy(allowsHTTP: true, allowing: ["10.1.0.1/16"]) == nil)
    }

    /// A client whose names resolve to what the test says, one answer for each look-up.
    private func withClient<T>(
        policy: WebhookAddressPolicy, timeoutMilliseconds: Int64 = 60_000, answers: [[String]],
        _ body: (WebhookClient) async throws -> T
    ) async throws -> T {
        let eventLoops = MultiThreadedEventLoopGroup(numberOfThreads: 1)
        let left = Mutex(answers)
        let client = WebhookClient(
            eventLoops: eventLoops, policy: policy, trust: .system, timeoutMilliseconds: timeoutMilliseconds
        ) { _, port in
            let next = left.withLock { $0.isEmpty ? [] : $0.removeFirst() }
            return try next.map { try SocketAddress(ipAddress: $0, port: port) }
        }
        let result: Result<T, any Error>
        do { result = .success(try await body(client)) } catch { result = .failure(error) }
        client.shutdown()
        try await eventLoops.shutdownGracefully()
        return try result.get()
    }

    @Test(
        "a name is refused if any of its addresses is",
        arguments: [["127.0.0.1"], ["1.1.1.1", "10.0.0.1"], ["::1"], []])
    func names(addresses: [String]) async throws {
        try await withClient(policy: .standard, answers: [addresses, addresses]) { client in
            let url = try WebhookURL("https://127.0.0.1.nip.io/")
            await #expect(throws: WebhookTargetRefusal.self) { try await client.check(url) }
            let reply = await client.send(WebhookMessage(url: url, fields: [], body: []))
            #expect(reply == .failed(addresses.isEmpty ? .unknownHost : .forbiddenTarget))
        }
    }

    @Test("a public name passes the check, and http does not where it is not allowed")
    func check() async throws {
        try await withClient(policy: .standard, answers: [["1.1.1.1"]]) { client in
            try await client.check(try WebhookURL("https://example.com/"))
            await #expect(throws: WebhookTargetRefusal.self) {
                try await client.check(try WebhookURL("http://example.com/"))
            }
            let url = try WebhookURL("http://1.1.1.1/")
            #expect(await client.send(WebhookMessage(url: url, fields: [], body: [])) == .failed(.forbiddenTarget))
        }
    }

    @Test("a name that was public at its creation and is private at the send is not connected to")
    func rebinding() async throws {
        try await withClient(policy: .standard, answers: [["1.1.1.1"], ["127.0.0.1"]]) { client in
            let url = try WebhookURL("https://rebinding.example/")
            try await client.check(url)
            #expect(await client.send(WebhookMessage(url: url, fields: [], body: [])) == .failed(.forbiddenTarget))
        }
    }

    /// A client whose look-ups are silent until the gate opens.
    private func withSilentNames<T>(
        timeoutMilliseconds: Int64, _ body: (WebhookClient, LookupGate) async throws -> T
    ) async throws -> T {
        let eventLoops = MultiThreadedEventLoopGroup(numberOfThreads: 1)
        let gate = LookupGate()
        let client = WebhookClient(
            eventLoops: eventLoops, policy: .standard, trust: .system, timeoutMilliseconds: timeoutMilliseconds
        ) { _, port in
            gate.wait()
            return [try SocketAddress(ipAddress: "10.0.0.1", port: port)]
        }
        let result: Result<T, any Error>
        do { result = .success(try await body(client, gate)) } catch { result = .failure(error) }
        gate.open()
        client.shutdown()
        try await eventLoops.shutdownGracefully()
        return try result.get()
    }

    @Test(
        "look-ups of names are bounded, and whoever comes then is told at once that it is not his fault",
        .timeLimit(.minutes(1)))
    func lookupBound() async throws {
        try await withSilentNames(timeoutMilliseconds: 600_000) { client, gate in
            let message = WebhookMessage(url: try WebhookURL("https://silent.example/"), fields: [], body: [])
            try await withThrowingTaskGroup(of: WebhookReply.self) { group in
                for _ in 0..<600 { group.addTask { await client.send(message) } }
                for _ in 0..<88 { #expect(try await group.next() == .failed(.noCapacity)) }
                gate.open()
                for try await reply in group { #expect(reply == .failed(.forbiddenTarget)) }
            }
        }
    }

    @Test(
        "look-ups for webhooks that are only being made have a bound and threads of their own", .timeLimit(.minutes(1)))
    func checkBound() async throws {
        try await withSilentNames(timeoutMilliseconds: 600_000) { client, gate in
            let url = try WebhookURL("https://silent.example/")
            try await withThrowingTaskGroup(of: String.self) { group in
                for _ in 0..<40 {
                    group.addTask {
                        do throws(WebhookTargetRefusal) {
                            try await client.check(url)
                            return ""
                        } catch {
                            return error.message
                        }
                    }
                }
                for _ in 0..<24 { #expect(try await group.next()?.hasPrefix("has a host whose address") == true) }
                gate.open()
                for try await text in group { #expect(text.hasPrefix("has an address that is private")) }
            }
        }
    }

    @Test("who waits for a thread while other names are silent is not taken for silent", .timeLimit(.minutes(1)))
    func silentNames() async throws {
        try await withSilentNames(timeoutMilliseconds: 10_000) { client, gate in
            let message = WebhookMessage(url: try WebhookURL("https://silent.example/"), fields: [], body: [])
            let replies = await withTaskGroup(of: WebhookReply.self) { group in
                for _ in 0..<8 { group.addTask { await client.send(message) } }
                while gate.waitingCount < 8 { await Task.yield() }
                for _ in 0..<4 { group.addTask { await client.send(message) } }
                return await group.reduce(into: []) { $0.append($1) }
            }
            #expect(replies.count { $0 == .failed(.timeout) } == 8)
            #expect(replies.count { $0 == .failed(.noCapacity) } == 4)
        }
    }

    @Test(
        "the request names the host, carries the fields, and goes to the address that was checked; the head of the answer decides"
    )
    func sends() async throws {
        let policy = try #require(WebhookAddressPolicy(allowsHTTP: true, allowing: ["127.0.0.0/8"]))
        try await TestReceiver.with(answer: "HTTP/1.1 204 No Content\r\n\r\n") { receiver in
            // One look-up: were the name asked again, it would have no address.
            try await withClient(policy: policy, answers: [["127.0.0.1"]]) { client in
                let url = try WebhookURL("http://hooks.example:\(receiver.port)/in?x=1")
                let reply = await client.send(
                    WebhookMessage(url: url, fields: [("webhook-id", "evt_1")], body: Array("{}".utf8)))
                #expect(reply == .answered(status: 204))
                let request = receiver.received
                #expect(request.hasPrefix("POST /in?x=1 HTTP/1.1\r\n"))
                #expect(request.contains("host: hooks.example:\(receiver.port)\r\n"))
                #expect(request.contains("webhook-id: evt_1\r\n"))
                #expect(request.hasSuffix("\r\n\r\n{}"))
            }
        }
    }

    @Test(
        "what is no answer is a failure of its kind",
        arguments: [
            (
                "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1/\r\ncontent-length: 0\r\n\r\n",
                WebhookReply.answered(status: 302)
            ),
            ("nonsense\r\n\r\n", .failed(.malformedAnswer)), ("", .failed(.timeout)),
            ("HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n", .answered(status: 200)),
            ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n", .answered(status: 500)),
        ])
    func replies(answer: String, expected: WebhookReply) async throws {
        let policy = try #require(WebhookAddressPolicy(allowsHTTP: true, allowing: ["127.0.0.0/8"]))
        try await TestReceiver.with(answer: answer) { receiver in
            let limit: Int64 = expected == .failed(.timeout) ? 500 : 60_000
            try await withClient(policy: policy, timeoutMilliseconds: limit, answers: []) { client in
                let url = try WebhookURL("http://127.0.0.1:\(receiver.port)/")
                #expect(await client.send(WebhookMessage(url: url, fields: [], body: [])) == expected)
            }
        }
    }
}

/// Holds threads until it is opened.
private final class LookupGate: Sendable {
    private let isOpen = Atomic(false)
    private let waiting = Atomic(0)

    /// Threads that have come here.
    var waitingCount: Int { waiting.load(ordering: .acquiring) }

    func open() { isOpen.store(true, ordering: .releasing) }

    /// At most twenty seconds: a test whose bound does not hold fails and does not hang.
    func wait() {
        waiting.add(1, ordering: .acquiringAndReleasing)
        for _ in 0..<20_000 where !isOpen.load(ordering: .acquiring) { usleep(1_000) }
    }
}

/// Answers each connection with the same bytes, and keeps what it was sent.
private final class TestReceiver: Sendable {
    private let bytes = Mutex("")
    let port: Int

    var received: String { bytes.withLock { $0 } }

    private init(port: Int) { self.port = port }

    static func with<T>(answer: String, _ body: (TestReceiver) async throws -> T) async throws -> T {
        let eventLoops = MultiThreadedEventLoopGroup(numberOfThreads: 1)
        let box = Mutex<TestReceiver?>(nil)
        let channel = try await ServerBootstrap(group: eventLoops)
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.addHandler(
                        Handler(answer: answer) { text in box.withLock { $0 }?.bytes.withLock { $0 += text } })
                }
            }
            .bind(host: "127.0.0.1", port: 0).get()
        let receiver = TestReceiver(port: channel.localAddress?.port ?? 0)
        box.withLock { $0 = receiver }
        let result: Result<T, any Error>
        do { result = .success(try await body(receiver)) } catch { result = .failure(error) }
        try? await channel.close()
        try await eventLoops.shutdownGracefully()
        return try result.get()
    }

    private final class Handler: ChannelInboundHandler {
        typealias InboundIn = ByteBuffer
        typealias OutboundOut = ByteBuffer

        private let answer: String
        private let take: @Sendable (String) -> Void
        private var isAnswered = false

        init(answer: String, take: @escaping @Sendable (String) -> Void) {
            self.answer = answer
            self.take = take
        }

        func channelRead(context: ChannelHandlerContext, data: NIOAny) {
            take(String(buffer: unwrapInboundIn(data)))
            guard !isAnswered else { return }
            isAnswered = true
            context.writeAndFlush(wrapOutboundOut(ByteBuffer(string: answer)), promise: nil)
        }
    }
}
