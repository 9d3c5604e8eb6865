import NIOCore
import NIOPosix
import RedisDriver
import Synchronization
import TestSupport
import Testing

/// Against a real server that keeps working. Each test has keys with a prefix of its own.
@Suite(.timeLimit(.minutes(2))) struct RedisClientTests {
    @Test("what is set comes back byte for byte, and what is not there is nil")
    func getAndSet() async throws {
        try await withClient(try await RedisServer.sharedURL()) { client in
            let values: [[UInt8]] = [[], [0], Array("text\r\n".utf8), Array(0...255)]
            for (index, value) in values.enumerated() {
                try await client.set("getAndSet:\(index)", value)
                #expect(try await client.get("getAndSet:\(index)") == value)
            }
            #expect(try await client.get("getAndSet:none") == nil)
        }
    }

    @Test("a value of a megabyte survives")
    func largeValue() async throws {
        try await withClient(try await RedisServer.sharedURL()) { client in
            let value = (0..<1_048_576).map { UInt8(truncatingIfNeeded: $0 &* 31) }
            try await client.set("largeValue", value, expiryMilliseconds: 60_000)
            #expect(try await client.get("largeValue") == value)
        }
    }

    @Test("SET honours its expiry and its condition")
    func setOptions() async throws {
        try await withClient(try await RedisServer.sharedURL()) { client in
            try await client.del("setOptions")
            #expect(try await client.set("setOptions", [1], expiryMilliseconds: 60_000, onlyIfAbsent: true))
            #expect(try await !client.set("setOptions", [2], onlyIfAbsent: true))
            #expect(try await client.get("setOptions") == [1])
            let remaining = try #require(try await client.send(["PTTL", "setOptions"]).integer)
            #expect((1...60_000).contains(remaining))
        }
    }

    @Test("counters, expiry and deletion")
    func counters() async throws {
        try await withClient(try await RedisServer.sharedURL()) { client in
            try await client.del("counters")
            #expect(try await client.incr("counters") == 1)
            #expect(try await client.incr("counters", by: -5) == -4)
            #expect(try await client.expire("counters", milliseconds: 60_000))
            #expect(try await client.del("counters", "counters:none") == 1)
            #expect(try await !client.expire("counters", milliseconds: 60_000))
            #expect(try await client.del([]) == 0)
        }
    }

    @Test("hashes, also with a field that is not text")
    func hashes() async throws {
        try await withClient(try await RedisServer.sharedURL()) { client in
            try await client.del("hashes")
            #expect(try await client.hgetall("hashes").isEmpty)
            #expect(try await client.hset("hashes", "a", [1, 0, 2]))
            #expect(try await !client.hset("hashes", "a", [3]))
            _ = try await client.send([Array("HSET".utf8), Array("hashes".utf8), [0xFF, 0], []])
            #expect(try await client.hget("hashes", "a") == [3])
            #expect(try await client.hget("hashes", "b") == nil)
            let all = try await client.hgetall("hashes")
            #expect(all.contains { $0.field == Array("a".utf8) && $0.value == [3] })
            #expect(all.contains { $0.field == [0xFF, 0] && $0.value == [] })
            #expect(try await client.hdel("hashes", ["a", "b"]) == 1)
        }
    }

    @Test("nested arrays, nulls and errors inside them are kept apart")
    func nestedReply() async throws {
        try await withClient(try await RedisServer.sharedURL()) { client in
            let script = "return {1, {'a', false, {}}, redis.error_reply('CUSTOM text'), redis.status_reply('FINE')}"
            let reply = try await client.send(["EVAL", script, "0"])
            #expect(
                reply
                    == .array([
                        .integer(1), .array([.bulk([0x61]), .null, .array([])]),
                        .error(RedisServerError(code: "CUSTOM", message: "text")), .simpleString("FINE"),
                    ]))
        }
    }

    @Test("an error reply is thrown with its code, and the connection goes on")
    func errorReply() async throws {
        try await withClient(try await RedisServer.sharedURL()) { client in
            try await client.set("errorReply", [1])
            let error = await failure { try await client.hget("errorReply", "field") }
            guard case .serverError(let reply)? = error else {
                Issue.record("not an error reply: \(String(describing: error))")
                return
            }
            #expect(reply.code == "WRONGTYPE")
            try await client.ping()
        }
    }

    @Test("an empty command is refused and nothing is sent")
    func emptyCommand() async throws {
        try await withClient(try await RedisServer.sharedURL()) { client in
            #expect(await failure { try await client.send([] as [String]) }?.metricLabel == "invalid_command")
            try await client.ping()
        }
    }

    @Test("a thousand concurrent commands on one connection get their own replies")
    func pipelining() async throws {
        try await withClient(try await RedisServer.sharedURL(), configure: { $0.connections = 1 }) { client in
            try await withThrowingTaskGroup(of: Void.self) { group in
                for number in 0..<1_000 {
                    group.addTask {
                        let reply = try await client.send(["ECHO", "\(number)"])
                        #expect(reply.string == "\(number)")
                    }
                }
                try await group.waitForAll()
            }
        }
    }

    @Test("a thousand pipelined increments are executed in order and exactly once")
    func pipelinedOrder() async throws {
        try await withClient(try await RedisServer.sharedURL(), configure: { $0.connections = 1 }) { client in
            try await client.del("pipelinedOrder")
            let loop = MultiThreadedEventLoopGroup.singleton.any()
            let replies = try await loop.flatSubmit {
                EventLoopFuture.whenAllSucceed(
                    (0..<1_000).map { _ in client.send(RedisCommand("INCR", "pipelinedOrder"), on: loop) }, on: loop)
            }.get()
            #expect(replies == (1...1_000).map { .integer($0) })
        }
    }

    @Test("a future's reply arrives on the loop that asked, whether or not that loop has a connection")
    func eventLoops() async throws {
        let url = try await RedisServer.sharedURL()
        for connections in [nil, 1, 3] {
            try await withClient(url, configure: { $0.connections = connections }) { client in
                for loop in MultiThreadedEventLoopGroup.singleton.makeIterator() {
                    let isOnLoop = try await client.send(RedisCommand("PING"), on: loop).map { _ in loop.inEventLoop }
                        .get()
                    #expect(isOnLoop)
                }
            }
        }
    }

    @Test("after warming up every loop has its connection")
    func warmUp() async throws {
        let server = try await RedisServer.startPrivate()
        try await withClient(server.url, configure: { $0.connections = 3 }) { client in
            try await client.warmUp()
            #expect(client.isAvailable)
            let list = try #require(try await client.send(["CLIENT", "LIST"]).string)
            #expect(list.split(separator: "\n").count == 3)
        }
    }

    @Test("PUBLISH without subscribers reaches nobody")
    func publish() async throws {
        try await withClient(try await RedisServer.sharedURL()) { client in
            let count = try await client.publish("publish:nobody", [1])
            #expect(count == 0)
        }
    }

    @Test("a script is loaded, called by its digest, and loaded again after SCRIPT FLUSH")
    func scripts() async throws {
        let server = try await RedisServer.startPrivate()
        try await withClient(server.url) { client in
            let script = RedisScript("return {KEYS[1], ARGV[1], #ARGV}")
            let loop = MultiThreadedEventLoopGroup.singleton.any()
            let expected = RedisValue.array([.bulk(Array("k".utf8)), .bulk([0, 1]), .integer(2)])
            for _ in 0..<2 {
                #expect(try await client.evaluate(script, keys: ["k"], arguments: [[0, 1], []]) == expected)
                #expect(
                    try await client.evaluate(script, keys: ["k"], arguments: [[0, 1], []], on: loop).get() == expected)
                _ = try await client.send(["SCRIPT", "FLUSH"])
                #expect(
                    try await client.evaluate(script, keys: ["k"], arguments: [[0, 1], []], on: loop).get() == expected)
                _ = try await client.send(["SCRIPT", "FLUSH"])
            }
            let other = RedisScript("return redis.call('INCR', KEYS[1])")
            #expect(try await client.evaluate(other, keys: ["n"], on: loop).get() == .integer(1))
            #expect(try await client.evaluate(other, keys: ["n"]) == .integer(2))
        }
    }

    @Test("a script that fails is not run again")
    func failingScript() async throws {
        try await withClient(try await RedisServer.sharedURL()) { client in
            try await client.del("failingScript")
            let script = RedisScript("redis.call('INCR', KEYS[1]) return redis.error_reply('MINE no')")
            let error = await failure { try await client.evaluate(script, keys: ["failingScript"]) }
            #expect(error == .serverError(RedisServerError(code: "MINE", message: "no")))
            #expect(try await client.get("failingScript") == Array("1".utf8))
            let broken = await failure { try await client.evaluate(RedisScript("this is not Lua")) }
            #expect(broken?.metricLabel == "server_error")
        }
    }

    @Test("the connection has the name and the database of the configuration")
    func nameAndDatabase() async throws {
        let server = try await RedisServer.startPrivate()
        let configure: (inout RedisConfiguration) -> Void = { $0.clientName = "somebody" }
        try await withClient(server.url + "?db=3", configure: configure) { client in
            try await client.set("only", [3])
            #expect(try await client.send(["CLIENT", "GETNAME"]).string == "somebody")
        }
        try await withClient(server.url) { client in
            #expect(try await client.get("only") == nil)
            _ = try await client.send(["SWAPDB", "0", "3"])
            #expect(try await client.get("only") == [3])
        }
    }

    @Test("a database that does not exist is an error of every command")
    func missingDatabase() async throws {
        let server = try await RedisServer.startPrivate()
        try await withClient(server.url + "?db=99") { client in
            #expect(await failure { try await client.ping() }?.metricLabel == "unavailable")
            #expect(client.lastError?.metricLabel == "server_error")
            #expect(!client.isAvailable)
        }
    }

    @Test("after the shutdown commands are refused, and what was outstanding has been answered")
    func shutdown() async throws {
        let url = try await RedisServer.sharedURL()
        try await withClient(url, configure: { $0.connections = 1 }) { client in
            try await client.ping()
            let loop = MultiThreadedEventLoopGroup.singleton.any()
            let outstanding = client.send(RedisCommand("PING"), on: loop)
            await client.shutdown()
            #expect(try await outstanding.get() == .simpleString("PONG"))
            #expect(await failure { try await client.ping() } == .closed)
            #expect(!client.isAvailable)
            for await _ in client.availabilityChanges() { Issue.record("a change after the end") }
        }
    }
}

@Suite(.timeLimit(.minutes(2))) struct RedisLoginTests {
    @Test("the right password opens the connection, over a Unix socket and over TCP")
    func rightPassword() async throws {
        for transport in [RedisServer.Transport.unixSocket, .tcp] {
            let server = try await RedisServer.startPrivate(transport: transport, password: "correct")
            try await withClient(server.url) { client in
                try await client.ping()
                #expect(client.isAvailable)
            }
        }
    }

    @Test("a wrong password and a missing one are authentication failures, at once and ever after")
    func wrongPassword() async throws {
        let server = try await RedisServer.startPrivate(password: "correct")
        for url in [server.url.replacing(":correct@", with: ":wrong@"), server.url.replacing(":correct@", with: "")] {
            try await withClient(url) { client in
                for _ in 0..<3 {
                    #expect(await failure { try await client.ping() } == .authenticationFailed)
                }
                #expect(client.lastError == .authenticationFailed)
            }
        }
    }

    @Test("a password for a server that has none is an authentication failure")
    func superfluousPassword() async throws {
        let server = try await RedisServer.startPrivate()
        try await withClient(server.url.replacing("unix://", with: "unix://:anything@")) { client in
            #expect(await failure { try await client.ping() } == .authenticationFailed)
        }
    }

    @Test("a user of the access list logs in by name, also one who may not set the client's name")
    func accessList() async throws {
        let server = try await RedisServer.startPrivate()
        try await withClient(server.url) { client in
            _ = try await client.send(["ACL", "SETUSER", "reader", "on", ">pass", "~*", "+get", "-@connection"])
        }
        try await withClient(server.url.replacing("unix://", with: "unix://reader:pass@")) { client in
            let nothing = try await client.get("nothing")
            #expect(nothing == nil)
            let error = await failure { try await client.set("a", [1]) }
            guard case .serverError(let reply)? = error else {
                Issue.record("not an error reply: \(String(describing: error))")
                return
            }
            #expect(reply.code == "NOPERM")
        }
    }

    @Test("TLS works with the authority's file, by name and by a certified address")
    func tls() async throws {
        let server = try await RedisServer.startPrivate(transport: .tls, password: "correct")
        let authority = try #require(server.certificateAuthorityFile)
        for url in [server.url, server.url.replacing("localhost", with: "127.0.0.1")] {
            try await withClient(url + "?ca_file=\(authority)") { client in
                try await client.set("tls", [1, 2, 3])
                #expect(try await client.get("tls") == [1, 2, 3])
            }
        }
    }

    @Test("a certificate of an unknown authority or for another address is refused")
    func tlsVerification() async throws {
        let server = try await RedisServer.startPrivate(transport: .tls)
        let authority = try #require(server.certificateAuthorityFile)
        for url in [server.url, server.url.replacing("localhost", with: "127.0.0.2") + "?ca_file=\(authority)"] {
            try await withClient(url) { client in
                for _ in 0..<2 {
                    #expect(await failure { try await client.ping() }?.metricLabel == "tls")
                }
            }
        }
    }

    @Test("an authority's file that is not there stops the start")
    func missingAuthority() async throws {
        await #expect {
            try await withClient("rediss://localhost?ca_file=/nonexistent.pem") { _ in }
        } throws: {
            ($0 as? RedisError)?.metricLabel == "tls"
        }
    }
}
