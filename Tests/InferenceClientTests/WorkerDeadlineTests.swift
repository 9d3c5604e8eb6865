import Domain
import Logging
import NIOCore
import NIOPosix
import Synchronization
import Testing

@testable import InferenceClient

#if canImport(Darwin)
import Darwin
#else
import Glibc
#endif

@Suite("Deadlines, bounds and cancellation", .timeLimit(.minutes(1)))
struct WorkerDeadlineTests {
    /// What a call fails with and how long it took. The upper bound of a test is generous, because the machine may be busy; the lower
    /// one is not.
    static func timed(_ call: () async -> WorkerFailure?) async -> (failure: WorkerFailure?, milliseconds: Int64) {
        let start = NIODeadline.now()
        let failure = await call()
        return (failure, (NIODeadline.now() - start).nanoseconds / 1_000_000)
    }

    @Test("no first byte within its deadline closes the connection")
    func firstByte() async throws {
        try await withWorker(script: { _ in [] }) { calling in
            let deadlines = WorkerDeadlines(connectMilliseconds: 5_000, firstByteMilliseconds: 100, totalMilliseconds: 9_000)
            let (failure, milliseconds) = await Self.timed { await calling.failure(deadlines: deadlines) }
            #expect(failure == .firstByteTimeout)
            #expect((100..<1_000).contains(milliseconds))
            await calling.worker.wait { $0.closedCount == 1 }
            #expect(calling.client.statistics == .init())
        }
    }

    @Test("a body that trickles ends at the total deadline, not at that of the first byte")
    func total() async throws {
        try await withWorker(script: { _ in [.send("HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")] }) { calling in
            let deadlines = WorkerDeadlines(connectMilliseconds: 5_000, firstByteMilliseconds: 100, totalMilliseconds: 250)
            try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask {
                    while calling.worker.record.closedCount == 0 {
                        try await Task.sleep(for: .milliseconds(5))
                        if calling.worker.record.received.count == 1 { calling.worker.send("x", on: 0) }
                    }
                }
                let (failure, milliseconds) = await Self.timed { await calling.failure(deadlines: deadlines) }
                #expect(failure == .totalTimeout)
                #expect((250..<1_500).contains(milliseconds))
                try await group.waitForAll()
            }
        }
    }

    @Test("the total deadline counts where it is the shortest")
    func shortestTotal() async throws {
        try await withWorker(script: { _ in [] }) { calling in
            let deadlines = WorkerDeadlines(connectMilliseconds: 5_000, firstByteMilliseconds: 5_000, totalMilliseconds: 50)
            #expect(await calling.failure(deadlines: deadlines) == .totalTimeout)
        }
    }

    @Test("deadlines of calls that overlap are kept apart, also when a later call has the earlier one")
    func overlapping() async throws {
        try await withWorker(script: { _ in [] }) { calling in
            let long = WorkerDeadlines(connectMilliseconds: 5_000, firstByteMilliseconds: 300, totalMilliseconds: 9_000)
            let short = WorkerDeadlines(connectMilliseconds: 5_000, firstByteMilliseconds: 60, totalMilliseconds: 9_000)
            async let first = Self.timed { await calling.failure(deadlines: long) }
            await calling.worker.wait { $0.received.count == 1 }
            async let second = Self.timed { await calling.failure(deadlines: short) }
            let (late, early) = await (first, second)
            #expect(late.failure == .firstByteTimeout && early.failure == .firstByteTimeout)
            #expect(early.milliseconds >= 60 && late.milliseconds >= 300)
            #expect(early.milliseconds < late.milliseconds)
        }
    }

    @Test("a deadline of zero or less is over at once", arguments: [0, -1, Int64.min])
    func zero(milliseconds: Int64) async throws {
        try await withWorker(script: { _ in [] }) { calling in
            let deadlines = WorkerDeadlines(
                connectMilliseconds: 5_000, firstByteMilliseconds: 5_000, totalMilliseconds: milliseconds)
            #expect(await calling.failure(deadlines: deadlines) == .totalTimeout)
        }
    }

    @Test("the longest deadline that can be written is no overflow")
    func forever() async throws {
        try await withWorker { calling in
            let deadlines = WorkerDeadlines(connectMilliseconds: .max, firstByteMilliseconds: .max, totalMilliseconds: .max)
            #expect(await calling.failure(deadlines: deadlines) == nil)
        }
    }

    @Test("a port where nobody listens refuses")
    func refused() async throws {
        let gone = ScriptedWorker { _ in [] }
        try await gone.start()
        let address = gone.address
        await gone.stop()
        try await withWorker { calling in
            #expect(await calling.failure(to: address) == .connectRefused)
            try await calling.settle { $0 == .init() }
        }
    }

    @Test("a host that does not answer ends at the connect deadline")
    func connectTimeout() async throws {
        let full = try FullBacklog()
        defer { full.close() }
        try await withWorker { calling in
            let deadlines = WorkerDeadlines(connectMilliseconds: 100, firstByteMilliseconds: 5_000, totalMilliseconds: 9_000)
            let (failure, milliseconds) = await Self.timed {
                await calling.failure(to: WorkerAddress(host: "127.0.0.1", port: full.port), deadlines: deadlines)
            }
            #expect(failure == .connectTimeout)
            #expect((100..<1_000).contains(milliseconds))
            try await calling.settle { $0 == .init() }
        }
    }

    @Test("calls beyond the connections wait in turn, and those beyond the queue are refused at once")
    func bounds() async throws {
        try await withWorker(configure: { $0.maximumConnectionsPerReplicaPerLoop = 1; $0.maximumWaitingRequests = 2 }, script: { _ in [] }) {
            calling in
            async let first = calling.send("first")
            await calling.worker.wait { $0.received.count == 1 }
            async let second = calling.send("second")
            try await calling.settle { $0.waitingRequests == 1 }
            async let third = calling.send("third")
            try await calling.settle { $0.waitingRequests == 2 }
            #expect(await calling.failure() == .overloaded)
            for count in 1...3 {
                calling.worker.send(ok, on: 0)
                await calling.worker.wait { $0.received.count == min(3, count + 1) }
            }
            _ = try await (first, second, third)
            #expect(calling.worker.record.received.map(\.body) == ["first", "second", "third"])
            #expect(calling.worker.record.connectionCount == 1)
            #expect(calling.client.statistics == .init(openConnections: 1, idleConnections: 1, waitingRequests: 0))
        }
    }

    @Test("a connection that fails hands its place to the next in the queue")
    func placeAfterFailure() async throws {
        let script: ScriptedWorker.Script = { $0.connection == 0 ? [] : [.send(ok)] }
        try await withWorker(configure: { $0.maximumConnectionsPerReplicaPerLoop = 1 }, script: script) { calling in
            async let first = calling.failure()
            await calling.worker.wait { $0.received.count == 1 }
            async let second = calling.send()
            try await calling.settle { $0.waitingRequests == 1 }
            calling.worker.close(connection: 0)
            #expect(await first == .closedBeforeResponse)
            let reply = try await second
            #expect(reply.status == 200)
        }
    }

    @Test("waiting for a connection ends at the connect deadline")
    func waitingTimeout() async throws {
        try await withWorker(configure: { $0.maximumConnectionsPerReplicaPerLoop = 1 }, script: { _ in [] }) { calling in
            async let first = calling.send()
            await calling.worker.wait { $0.received.count == 1 }
            let deadlines = WorkerDeadlines(connectMilliseconds: 50, firstByteMilliseconds: 5_000, totalMilliseconds: 9_000)
            #expect(await calling.failure(deadlines: deadlines) == .overloaded)
            #expect(calling.client.statistics.waitingRequests == 0)
            calling.worker.send(ok, on: 0)
            _ = try await first
            #expect(calling.worker.record.received.count == 1)
        }
    }

    @Test("cancelling a call closes its connection")
    func cancelled() async throws {
        try await withWorker(script: { _ in [] }) { calling in
            await withTaskGroup(of: WorkerFailure?.self) { group in
                group.addTask { await calling.failure() }
                await calling.worker.wait { $0.received.count == 1 }
                group.cancelAll()
                #expect(await group.next() == .cancelled)
            }
            await calling.worker.wait { $0.closedCount == 1 }
            #expect(calling.client.statistics == .init())
        }
    }

    @Test("a call of a task that is cancelled already does not reach the worker", arguments: [true, false])
    func cancelledBefore(isOnLoop: Bool) async throws {
        try await withWorker(script: { _ in [] }) { calling in
            let executor: (any TaskExecutor)? = isOnLoop ? LoopExecutor(calling.eventLoop) : globalConcurrentExecutor
            await withTaskGroup(of: WorkerFailure?.self) { group in
                group.cancelAll()
                group.addTask(executorPreference: executor) { await calling.failure() }
                #expect(await group.next() == .cancelled)
            }
            try await calling.settle { $0 == .init() }
        }
    }

    @Test("cancelling a call that waits leaves the queue to the others")
    func cancelledWaiting() async throws {
        try await withWorker(configure: { $0.maximumConnectionsPerReplicaPerLoop = 1 }, script: { _ in [] }) { calling in
            async let first = calling.send("first")
            await calling.worker.wait { $0.received.count == 1 }
            try await withThrowingTaskGroup(of: WorkerFailure?.self) { group in
                group.addTask { await calling.failure() }
                try await calling.settle { $0.waitingRequests == 1 }
                group.cancelAll()
                let failure = try await group.next()
                #expect(failure == .cancelled)
            }
            #expect(calling.client.statistics.waitingRequests == 0)
            calling.worker.send(ok, on: 0)
            _ = try await first
            #expect(calling.worker.record.received.map(\.body) == ["first"])
        }
    }

    @Test("shutting down ends calls in every state, closes every connection and refuses later calls")
    func shutdown() async throws {
        let script: ScriptedWorker.Script = { $0.body == "answer" ? [.send(ok)] : [] }
        try await withWorker(configure: { $0.maximumConnectionsPerReplicaPerLoop = 2 }, script: script) { calling in
            async let held = calling.failure("hold")
            await calling.worker.wait { $0.received.count == 1 }
            _ = try await calling.send("answer")
            async let reused = calling.failure("hold")
            await calling.worker.wait { $0.received.count == 3 }
            async let waiting = calling.failure("wait")
            try await calling.settle { $0.waitingRequests == 1 }
            await calling.client.shutdown()
            let failures = await [held, reused, waiting]
            #expect(failures == [.shutdown, .shutdown, .shutdown])
            await calling.worker.wait { $0.closedCount == 2 }
            #expect(calling.client.statistics == .init())
            #expect(await calling.failure() == .shutdown)
            #expect(calling.worker.record.connectionCount == 2)
            await calling.client.shutdown()
        }
    }
}

/// A listening socket whose queue is full: the kernel drops further attempts to connect without a word.
struct FullBacklog {
    struct Failure: Error {}

    let port: Int
    private let descriptors: [Int32]

    init() throws {
        #if canImport(Darwin)
        let listener = socket(AF_INET, SOCK_STREAM, 0)
        #else
        let listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        #endif
        var descriptors = [listener]
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let isListening = withUnsafeMutablePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { address in
                bind(listener, address, length) == 0 && listen(listener, 0) == 0 && getsockname(listener, address, &length) == 0
            }
        }
        guard isListening else { throw Failure() }
        port = Int(UInt16(bigEndian: address.sin_port))
        for _ in 0..<8 {
            #if canImport(Darwin)
            let client = socket(AF_INET, SOCK_STREAM, 0)
            #else
            let client = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
            #endif
            _ = fcntl(client, F_SETFL, O_NONBLOCK)
            withUnsafePointer(to: &address) { pointer in
                pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { _ = connect(client, $0, length) }
            }
            descriptors.append(client)
        }
        self.descriptors = descriptors
    }

    func close() {
        for descriptor in descriptors {
            #if canImport(Darwin)
            _ = Darwin.close(descriptor)
            #else
            _ = Glibc.close(descriptor)
            #endif
        }
    }
}
