import TestSupport
import Testing

@testable import PostgresDriver

@Suite("a connection on its own thread")
struct PostgresConnectionTests {
    private func withConnection<T: Sendable>(_ body: (PostgresConnection) async throws -> T) async throws -> T {
        try await PostgresServer.withDatabase { url in
            let connection = try PostgresConnection(configuration: patientConfiguration(url: url))
            try await connection.connect()
            let value = try await body(connection)
            await connection.close()
            return value
        }
    }

    @Test("runs statements one after another, whoever sends them")
    func concurrentCallers() async throws {
        try await withConnection { connection in
            try await connection.run(script: createNumbers)
            try await withThrowingTaskGroup(of: Void.self) { group in
                for number in 0..<50 {
                    group.addTask { _ = try await connection.execute(InsertNumber(number: Int64(number))) }
                }
                try await group.waitForAll()
            }
            try #expect(await connection.execute(SelectNumbers()) == (0..<50).map { Int64($0) })
        }
    }

    @Test("a cancelled task's statement is not sent")
    func cancelled() async throws {
        try await withConnection { connection in
            try await connection.run(script: createNumbers)
            let code = await withTaskGroup(of: PostgresError.Code?.self) { group in
                group.cancelAll()
                group.addTask {
                    do throws(PostgresError) {
                        _ = try await connection.execute(InsertNumber(number: 1))
                        return nil
                    } catch {
                        return error.code
                    }
                }
                return await group.next() ?? nil
            }
            #expect(code == .cancelled)
            try #expect(await connection.execute(SelectNumbers()).isEmpty)
        }
    }

    @Test("a transaction whose task is cancelled in its body is rolled back")
    func cancelledTransaction() async throws {
        try await withConnection { connection in
            try await connection.run(script: createNumbers)
            await withTaskGroup(of: Void.self) { group in
                group.addTask {
                    let error = await #expect(throws: PostgresTransactionError.self) {
                        try await connection.transaction { connection in
                            _ = try await connection.execute(InsertNumber(number: 1))
                            withUnsafeCurrentTask { $0?.cancel() }
                            _ = try await connection.execute(InsertNumber(number: 2))
                        }
                    }
                    #expect(error?.cause?.code == .cancelled)
                    #expect(error?.rollback == nil)
                }
            }
            try #expect(await connection.execute(SelectNumbers()).isEmpty)
            try #expect(await connection.withSession { $0.transactionStatus } == .idle)
        }
    }

    @Test("a snapshot transaction sees one state and cannot write")
    func snapshot() async throws {
        try await withConnection { connection in
            try await connection.run(script: createNumbers)
            let error = await #expect(throws: PostgresTransactionError.self) {
                try await connection.transaction(.readOnlySnapshot) {
                    _ = try await $0.execute(InsertNumber(number: 1))
                }
            }
            #expect(error?.cause?.sqlState == "25006")
            #expect(error?.cause?.isTransient == true)
        }
    }
}

@Suite("a thread of the driver")
struct PostgresThreadTests {
    @Test("runs work in order and passes typed errors")
    func order() async throws {
        let thread = try PostgresThread(name: "test")
        let (stream, continuation) = AsyncStream.makeStream(of: Int.self)
        for number in 0..<100 { thread.submit { continuation.yield(number) } }
        let error = await #expect(throws: PostgresError.self) {
            try await thread.run { () throws(PostgresError) in throw PostgresError(.closed, "x") }
        }
        #expect(error?.code == .closed)
        continuation.finish()
        var seen: [Int] = []
        for await number in stream { seen.append(number) }
        #expect(seen == Array(0..<100))
    }

    @Test("runs scheduled work by its time, and none that was cancelled")
    func timers() async throws {
        let thread = try PostgresThread(name: "test")
        let (stream, continuation) = AsyncStream.makeStream(of: Int.self)
        // Scheduled from the thread itself, so that none can run before all are known.
        await thread.run {
            thread.schedule(afterMilliseconds: 30) { continuation.finish() }
            thread.schedule(afterMilliseconds: 20) { continuation.yield(2) }
            let cancelled = thread.schedule(afterMilliseconds: 15) { continuation.yield(99) }
            thread.schedule(afterMilliseconds: 0) { continuation.yield(1) }
            thread.cancel(cancelled)
        }
        var seen: [Int] = []
        for await number in stream { seen.append(number) }
        #expect(seen == [1, 2])
    }

    @Test("runs what is queued although nobody holds it any more")
    func outlives() async throws {
        let (stream, continuation) = AsyncStream.makeStream(of: Int.self)
        do {
            let thread = try PostgresThread(name: "test")
            for number in 0..<10 { thread.submit { continuation.yield(number) } }
            thread.submit { continuation.finish() }
        }
        var count = 0
        for await _ in stream { count += 1 }
        #expect(count == 10)
    }
}
