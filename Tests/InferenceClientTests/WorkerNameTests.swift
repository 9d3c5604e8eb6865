import Domain
import NIOCore
import Synchronization
import Testing

@testable import InferenceClient

#if canImport(Darwin)
    import Darwin
#else
    import Glibc
#endif

@Suite("Workers that are named", .timeLimit(.minutes(1)))
struct WorkerNameTests {
    /// Says what names resolve to and counts the questions.
    final class Directory: Sendable {
        private let answers: [String: [String]]
        private let count = Atomic(0)

        init(_ answers: [String: [String]]) {
            self.answers = answers
        }

        var lookupCount: Int { count.load(ordering: .relaxed) }

        func addresses(_ host: String, _ port: Int) throws -> [SocketAddress] {
            count.wrappingAdd(1, ordering: .relaxed)
            guard let addresses = answers[host] else { throw WorkerFailure.unreachable }
            return try addresses.map { try SocketAddress(ipAddress: $0, port: port) }
        }
    }

    static func named(_ host: String, _ calling: Calling) -> WorkerAddress {
        WorkerAddress(host: host, port: calling.worker.port)
    }

    @Test("a name is looked up once for many connections and is the host that the worker sees")
    func lookup() async throws {
        let directory = Directory(["worker.test": ["127.0.0.1"]])
        let configure: (inout WorkerClient.Configuration) -> Void = {
            $0.lookup = { try directory.addresses($0, $1) }
            $0.maximumConnectionAgeMilliseconds = 0
        }
        try await withWorker(configure: configure) { calling in
            let address = Self.named("worker.test", calling)
            async let first = calling.send(to: address)
            async let second = calling.send(to: address)
            async let third = calling.send(to: address)
            _ = try await (first, second, third)
            _ = try await calling.send(to: address)
            #expect(calling.worker.record.connectionCount == 4)
            #expect(directory.lookupCount == 1)
            #expect(calling.worker.record.received[0].head.contains("\r\nhost: worker.test:\(calling.worker.port)\r\n"))
        }
    }

    @Test(
        "a name is as good as its addresses",
        arguments: [["169.254.169.254"], ["8.8.8.8"], ["::ffff:169.254.169.254", "0.0.0.0"], []])
    func refused(addresses: [String]) async throws {
        let directory = Directory(["rebound.test": addresses])
        try await withWorker(configure: { $0.lookup = { try directory.addresses($0, $1) } }) { calling in
            #expect(await calling.failure(to: Self.named("rebound.test", calling)) == .unreachable)
            #expect(calling.worker.record.connectionCount == 0)
            #expect(calling.client.statistics == .init())
        }
    }

    @Test("addresses that are not permitted or refuse are passed over")
    func severalAddresses() async throws {
        // Nobody listens on 127.0.0.2: the worker is bound to 127.0.0.1 only.
        let directory = Directory(["many.test": ["169.254.169.254", "127.0.0.2", "127.0.0.1"]])
        try await withWorker(configure: { $0.lookup = { try directory.addresses($0, $1) } }) { calling in
            let reply = try await calling.send(to: Self.named("many.test", calling))
            #expect(reply.status == 200)
            #expect(calling.client.statistics == .init(openConnections: 1, idleConnections: 1, waitingRequests: 0))
        }
    }

    @Test("an address that is silent leaves time for the next one")
    func silentAddress() async throws {
        let full = try LoopbackPort(isListening: true)
        defer { full.close() }
        let silentPort = full.port
        let configure: (inout WorkerClient.Configuration) -> Void = {
            $0.lookup = { _, port in
                try ([silentPort] + Array(repeating: port, count: 9)).map {
                    try SocketAddress(ipAddress: "127.0.0.1", port: $0)
                }
            }
        }
        try await withWorker(configure: configure) { calling in
            let deadlines = WorkerDeadlines(
                connectMilliseconds: 10_000, firstByteMilliseconds: 10_000, totalMilliseconds: 30_000)
            let reply = try await calling.send(to: Self.named("half.test", calling), deadlines: deadlines)
            #expect(reply.status == 200)
            #expect(calling.client.statistics == .init(openConnections: 1, idleConnections: 1, waitingRequests: 0))
        }
    }

    @Test("a name without an address is unreachable, and is asked for again by the next call")
    func unknown() async throws {
        let directory = Directory([:])
        try await withWorker(configure: { $0.lookup = { try directory.addresses($0, $1) } }) { calling in
            for _ in 0..<2 {
                #expect(await calling.failure(to: Self.named("nobody.test", calling)) == .unreachable)
            }
            #expect(directory.lookupCount == 2)
        }
    }

    @Test("a name server that does not answer ends at the connect deadline")
    func slowLookup() async throws {
        let gate = Gate()
        let configure: (inout WorkerClient.Configuration) -> Void = {
            $0.lookup = { _, port in
                gate.pass()
                return [try SocketAddress(ipAddress: "127.0.0.1", port: port)]
            }
        }
        try await withWorker(configure: configure) { calling in
            let address = Self.named("slow.test", calling)
            let deadlines = WorkerDeadlines(
                connectMilliseconds: 50, firstByteMilliseconds: 5_000, totalMilliseconds: 9_000)
            #expect(await calling.failure(to: address, deadlines: deadlines) == .connectTimeout)
            #expect(calling.client.statistics.openConnections == 1)
            gate.open()
            try await calling.settle { $0 == .init() }
            let reply = try await calling.send(to: address)
            #expect(reply.status == 200)
        }
    }

    @Test("the system resolves localhost to loopback addresses")
    func system() throws {
        let addresses = try WorkerDirectory.systemLookup("localhost", 80)
        #expect(!addresses.isEmpty)
        #expect(
            addresses.allSatisfy { IPAddress($0).map(WorkerAddressPolicy.standard.permits) == true && $0.port == 80 })
    }

    @Test("an address that is not permitted is not connected to")
    func policy() async throws {
        let nothing = try #require(WorkerAddressPolicy(allowing: ["10.0.0.0/8"]))
        try await withWorker(configure: { $0.addressPolicy = nothing }) { calling in
            #expect(await calling.failure() == .unreachable)
            #expect(
                await calling.failure(to: WorkerAddress(host: "2130706433", port: calling.worker.port)) == .unreachable)
            #expect(calling.worker.record.connectionCount == 0)
        }
    }

    /// Holds a thread until it is opened.
    final class Gate: Sendable {
        private let isOpen = Mutex(false)

        func open() {
            isOpen.withLock { $0 = true }
        }

        func pass() {
            while !isOpen.withLock({ $0 }) { usleep(1_000) }
        }
    }
}
