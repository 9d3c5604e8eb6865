import PostgresDriver
import TestSupport
import Testing

struct Notify: PostgresStatement {
    static let sql = "SELECT pg_notify($1, $2)"
    static let parameters: [PostgresType] = [.text, .text]
    let channel: String
    let payload: String
    func bind(to binds: inout PostgresBinds) {
        binds.append(channel)
        binds.append(payload)
    }
}

struct ListeningBackends: PostgresStatement {
    static let sql = """
        SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'listener'
        """
    static let columns: [PostgresType] = [.int4]
    static func row(from row: inout PostgresRow) throws(PostgresError) -> Int32 { try row.int32() }
}

struct ServerClock: PostgresStatement {
    static let sql = "SELECT clock_timestamp()"
    static let columns: [PostgresType] = [.timestamptz]
    static func row(from row: inout PostgresRow) throws(PostgresError) -> PostgresTimestamp { try row.timestamp() }
}

/// When the listener's latest statement began.
struct LastPing: PostgresStatement {
    static let sql = """
        SELECT query_start FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'listener'
        """
    static let columns: [PostgresType] = [.timestamptz]
    static func row(from row: inout PostgresRow) throws(PostgresError) -> PostgresTimestamp { try row.timestamp() }
}

/// Takes events one by one.
actor EventReader {
    private var iterator: AsyncStream<PostgresListener.Event>.AsyncIterator

    init(_ events: AsyncStream<PostgresListener.Event>) { iterator = events.makeAsyncIterator() }

    func next() async -> PostgresListener.Event? {
        var iterator = self.iterator
        defer { self.iterator = iterator }
        return await iterator.next(isolation: self)
    }
}

@Suite("LISTEN and NOTIFY")
struct PostgresListenerTests {
    /// Runs a listener beside a test, which gets its events one by one.
    private func withListener(
        bufferLimit: Int = 100, pingMilliseconds: Int = 10_000,
        _ body: (PostgresPool, EventReader) async throws -> Void
    ) async throws {
        try await PostgresServer.withDatabase { url in
            let pool = try makePool(url: url)
            try await withThrowingTaskGroup(of: Void.self) { group in
                let listener = try PostgresListener(
                    configuration: PostgresConfiguration(url: url, applicationName: "listener"),
                    channels: ["keys", "routes"], bufferLimit: bufferLimit, pingMilliseconds: pingMilliseconds,
                    logger: quietLogger)
                group.addTask { try await listener.run() }
                let events = EventReader(listener.events)
                try await body(pool, events)
                group.cancelAll()
                try await group.waitForAll()
                // The stream ends with the service.
                while await events.next() != nil {}
            }
            await pool.shutdown()
        }
    }

    @Test("begins with connected and passes notifications of its channels in order")
    func notifies() async throws {
        try await withListener { pool, events in
            #expect(await events.next() == .connected)
            _ = try await pool.pipeline(
                Notify(channel: "keys", payload: "1"), Notify(channel: "other", payload: "x"),
                Notify(channel: "routes", payload: ""),
                Notify(channel: "keys", payload: "Ü"))
            #expect(await events.next() == .notification(channel: "keys", payload: "1"))
            #expect(await events.next() == .notification(channel: "routes", payload: ""))
            #expect(await events.next() == .notification(channel: "keys", payload: "Ü"))
        }
    }

    @Test("after a lost connection it says connected again and goes on")
    func reconnects() async throws {
        try await withListener { pool, events in
            for round in 0..<3 {
                #expect(await events.next() == .connected)
                _ = try await pool.execute(Notify(channel: "keys", payload: "\(round)"))
                #expect(await events.next() == .notification(channel: "keys", payload: "\(round)"))
                let backends = try await pool.execute(ListeningBackends())
                #expect(backends.count == 1)
                try #expect(await pool.execute(Terminate(processID: backends[0])) == [true])
            }
            #expect(await events.next() == .connected)
        }
    }

    @Test("pings do not lose notifications")
    func pings() async throws {
        try await withListener(pingMilliseconds: 1) { pool, events in
            #expect(await events.next() == .connected)
            for number in 0..<200 {
                _ = try await pool.execute(Notify(channel: "keys", payload: "\(number)"))
                #expect(await events.next() == .notification(channel: "keys", payload: "\(number)"))
            }
        }
    }

    @Test("a consumer that falls behind loses the oldest events and is told to read everything anew")
    func overflow() async throws {
        try await withListener(bufferLimit: 4, pingMilliseconds: 1) { pool, events in
            #expect(await events.next() == .connected)
            _ = try await pool.pipeline(all: (0..<20).map { Notify(channel: "keys", payload: "\($0)") })
            // A ping that began after the commit brings the notifications along at the latest; once the next one has
            // begun, they are in the buffer.
            let committed = try await pool.execute(ServerClock())[0]
            var pings: Set<PostgresTimestamp> = []
            while pings.count < 2 {
                pings.formUnion(try await pool.execute(LastPing()).filter { $0 > committed })
            }
            var seen: [PostgresListener.Event] = []
            for _ in 0..<4 { seen.append(try #require(await events.next())) }
            #expect(seen.contains(.connected))
            #expect(seen.contains(.notification(channel: "keys", payload: "19")))
            #expect(!seen.contains(.notification(channel: "keys", payload: "0")))
        }
    }

    @Test("ends while the server cannot be reached")
    func endsWhileUnreachable() async throws {
        let listener = try PostgresListener(
            configuration: PostgresConfiguration(url: "postgresql:///x?host=/nonexistent"), channels: ["keys"],
            logger: quietLogger)
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { try await listener.run() }
            group.cancelAll()
            try await group.waitForAll()
        }
    }

    @Test("takes plain channel names only")
    func channelNames() throws {
        let configuration = try PostgresConfiguration(url: "postgres://h")
        let error = #expect(throws: PostgresError.self) {
            try PostgresListener(configuration: configuration, channels: ["a; drop"], logger: quietLogger)
        }
        #expect(error?.code == .configuration)
    }
}
