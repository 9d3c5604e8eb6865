import Domain
import PostgresDriver
import Storage
import TestSupport
import Testing

/// On a server of the test's own, because it is frozen and killed.
@Suite("settlement while the database is away", .serialized)
struct SettlementOutageTests {
    private static func withServer<T: Sendable>(_ body: (PostgresCluster, StorageHarness) async throws -> T)
        async throws -> T
    {
        try await PostgresServer.withPrivateCluster { cluster in
            try await MigratedDatabase.migrate(cluster.url)
            try await PostgresServer.run(Seed.script, on: cluster.url)
            return try await body(cluster, StorageHarness(url: cluster.url))
        }
    }

    /// How many wait for an advisory lock in this database; those of other tests are in theirs.
    private static let waiting = """
        SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
            AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
        """
    /// How many of them at the trigger that hangs.
    private static let hanging = waiting + " AND classid = 0 AND objid = 42"

    /// Impatient on every side.
    private static func impatient(_ configuration: inout PostgresConfiguration) {
        configuration.answerTimeoutMilliseconds = 400
        configuration.connectTimeoutMilliseconds = 400
    }

    @Test(
        "the writer's session is ended again and again: nothing that was committed is missing, nothing is there twice")
    func terminated() async throws {
        try await StorageHarness.with { harness in
            try await harness.withWriter(options: { $0.batchLimit = 20 }) { writer in
                let outcomes = Outcomes()
                let lane = CountingLane()
                let isDone = DoneFlag()
                let settlements = (0..<2_000).map { _ in Seed.settlement() }
                let kills = try await withThrowingTaskGroup(of: Int.self) { group in
                    group.addTask {
                        var kills = 0
                        while !isDone.isSet {
                            let killed = try await harness.ask(
                                """
                                SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                                WHERE application_name = 'weir-settlement' AND datname = current_database()
                                """)
                            kills += killed.count
                            try await Task.sleep(nanoseconds: 20_000_000)
                        }
                        return kills
                    }
                    for (number, settlement) in settlements.enumerated() {
                        outcomes.submit(settlement, to: writer, on: lane)
                        if number % 20 == 0 { try await Task.sleep(nanoseconds: 5_000_000) }
                    }
                    try await eventually("some are told") { outcomes.results.count > 100 }
                    isDone.set()
                    return try await group.reduce(0, +)
                }
                #expect(kills > 0)
                try await eventually("all are told") { outcomes.results.count == settlements.count }
                #expect(outcomes.repeated == 0)
                #expect(outcomes.count(.committed) == settlements.count)
                let entries = try await harness.identifiers("entry_id", in: "ledger")
                #expect(entries.count == settlements.count)
                #expect(Set(entries) == Set(settlements.map(\.requestID)))
                try await #expect(harness.ask("SELECT count(*) FROM requests") == ["2000"])
            }
        }
    }

    @Test(
        "a frozen server: callers are told within their wait, new ones are refused, and every row is there once after it goes on"
    )
    func frozen() async throws {
        try await Self.withServer { cluster, harness in
            try await harness.withWriter(configure: Self.impatient, options: { $0.waitMilliseconds = 1_500 }) {
                writer in
                let outcomes = Outcomes()
                let lane = CountingLane()
                // On a busy machine the first statement of a session may take longer than this impatient writer waits.
                try await eventually("one is committed") {
                    let first = Seed.settlement()
                    outcomes.submit(first, to: writer, on: lane)
                    try await eventually("it is told") { outcomes.results[first.requestID] != nil }
                    return outcomes.results[first.requestID] == .committed
                }
                let told = outcomes.results.count

                cluster.suspend()
                let start = MachineTime().monotonicNanoseconds
                let sent = (0..<5).map { _ in Seed.settlement() }
                for settlement in sent { outcomes.submit(settlement, to: writer, on: lane) }
                try await eventually("the writer does not accept") { !writer.isAccepting }
                let queued = (0..<5).map { _ in Seed.settlement() }
                for settlement in queued { outcomes.submit(settlement, to: writer, on: lane) }
                try await eventually("all are told") { outcomes.results.count == told + 10 }
                let waited = (MachineTime().monotonicNanoseconds - start) / 1_000_000
                // Two waits, one after the other, and a slow machine; without the second thread it would be never.
                #expect(waited < 8_000)
                #expect(outcomes.count(.committed) == 1)
                #expect(outcomes.count(.unknown) + outcomes.count(.unavailable) == told - 1 + 10)
                #expect(outcomes.count(.unknown) >= 1)
                #expect(!writer.isAccepting)

                cluster.resume()
                try await eventually("the writer accepts again") { writer.isAccepting }
                try await eventually("a new one is committed") {
                    let after = Seed.settlement()
                    outcomes.submit(after, to: writer, on: lane)
                    try await eventually("it is told") { outcomes.results[after.requestID] != nil }
                    return outcomes.results[after.requestID] == .committed
                }
                #expect(outcomes.repeated == 0)
                // Unknown became known: each such row is there once. What was told to be unavailable is not.
                let entries = try await harness.identifiers("entry_id", in: "ledger")
                #expect(entries.count == Set(entries).count)
                let written = outcomes.results.filter { $0.value == .unknown || $0.value == .committed }.keys
                #expect(Set(entries) == Set(written))
            }
        }
    }

    @Test("a caller behind a batch that hangs does not wait longer than its own wait")
    func waitOfTheQueue() async throws {
        try await StorageHarness.with { harness in
            // The server's and the driver's limits are far away: only the writer's own promise can end the wait.
            try await harness.withWriter(options: { $0.waitMilliseconds = 300 }) { writer in
                let outcomes = Outcomes()
                let lane = CountingLane()
                try await harness.run(
                    """
                    CREATE FUNCTION hang() RETURNS trigger LANGUAGE plpgsql AS
                        $$ BEGIN PERFORM pg_advisory_xact_lock(42); RETURN NEW; END $$;
                    CREATE TRIGGER hang AFTER INSERT ON requests FOR EACH ROW EXECUTE FUNCTION hang();
                    """)
                let (sent, queued) = (Seed.settlement(), Seed.settlement())
                let blocker = try SessionInHand(harness.configuration(nil))
                try await blocker.run { try $0.run(script: "BEGIN; SELECT pg_advisory_xact_lock(42)") }
                outcomes.submit(sent, to: writer, on: lane)
                try await eventually("the batch hangs") {
                    try await harness.ask(Self.hanging) == ["1"]
                }
                outcomes.submit(queued, to: writer, on: lane)
                try await eventually("both are told", withinSeconds: 30) { outcomes.results.count == 2 }
                #expect(outcomes.results[sent.requestID] == .unknown)
                #expect(outcomes.results[queued.requestID] == .unavailable)
                #expect(!writer.isAccepting)
                try await blocker.run { try $0.run(script: "ROLLBACK") }
                try await eventually("the writer accepts again") { writer.isAccepting }
                try await #expect(harness.identifiers("entry_id", in: "ledger") == [sent.requestID])
                #expect(outcomes.repeated == 0)
            }
        }
    }

    @Test("a batch whose first sending still hangs when its lease ends is not told to be lost and then written")
    func hangingFirstSending() async throws {
        try await StorageHarness.with { harness in
            try await harness.withWriter(configure: { $0.answerTimeoutMilliseconds = 500 }) { writer in
                let lease = Seed.request([(Seed.tokenQuotaA, 10, 100)])
                _ = try await harness.withLeases { try await $0.acquire(lease) }
                try await harness.run(
                    """
                    CREATE FUNCTION hang() RETURNS trigger LANGUAGE plpgsql AS
                        $$ BEGIN PERFORM pg_advisory_xact_lock(42); RETURN NEW; END $$;
                    CREATE TRIGGER hang AFTER INSERT ON requests FOR EACH ROW EXECUTE FUNCTION hang();
                    """)
                let outcomes = Outcomes()
                let lane = CountingLane()
                let settlement = Seed.settlement(lease: lease.leaseID)
                let blocker = try SessionInHand(harness.configuration(nil))
                try await blocker.run { try $0.run(script: "BEGIN; SELECT pg_advisory_xact_lock(42)") }
                outcomes.submit(settlement, to: writer, on: lane)
                try await eventually("the first sending hangs") {
                    try await harness.ask(Self.hanging) == ["1"]
                }
                try await harness.run("UPDATE quota_leases SET expires_at = now() - interval '1 ms'")
                try await eventually("it is sent again") {
                    // Its second sending waits behind the first.
                    try await harness.ask(Self.waiting) == ["2"]
                }
                #expect(outcomes.results.isEmpty)
                try await blocker.run { try $0.run(script: "ROLLBACK") }
                try await eventually("it is told") { outcomes.results.count == 1 }
                #expect(outcomes.results[settlement.requestID] == .committed)
                try await #expect(harness.identifiers("entry_id", in: "ledger") == [settlement.requestID])
            }
        }
    }

    @Test("a server that is killed and started again loses nothing that was told to be committed")
    func killed() async throws {
        try await Self.withServer { cluster, harness in
            try await harness.withWriter(configure: { $0.connectTimeoutMilliseconds = 500 }) { writer in
                let outcomes = Outcomes()
                let lane = CountingLane()
                let first = (0..<50).map { _ in Seed.settlement() }
                for settlement in first { outcomes.submit(settlement, to: writer, on: lane) }
                try await eventually("the first are committed") { outcomes.count(.committed) == 50 }
                await cluster.stop()
                try await eventually("the writer has noticed") { !writer.isAccepting }
                let second = (0..<50).map { _ in Seed.settlement() }
                for settlement in second { outcomes.submit(settlement, to: writer, on: lane) }
                #expect(outcomes.results.count == 50)
                try await cluster.start()
                try await eventually("all are committed") { outcomes.count(.committed) == 100 }
                let entries = try await harness.identifiers("entry_id", in: "ledger")
                #expect(entries.count == 100)
                #expect(Set(entries) == Set((first + second).map(\.requestID)))
            }
        }
    }

    @Test("with no server at all, callers are told that nothing was written, and stopping ends")
    func neverThere() async throws {
        let harness = StorageHarness(url: "postgresql://nobody@/nothing?host=/tmp/no-such-folder")
        let writer = try harness.makeWriter(options: { $0.waitMilliseconds = 200 })
        try writer.start()
        let outcomes = Outcomes()
        let lane = CountingLane()
        #expect(!writer.isAccepting)
        for _ in 0..<3 { outcomes.submit(Seed.settlement(), to: writer, on: lane) }
        try await eventually("all are told") { outcomes.results.count == 3 }
        #expect(outcomes.count(.unavailable) == 3)
        #expect(outcomes.elsewhere == 0)
        let start = MachineTime().monotonicNanoseconds
        await writer.shutdown(graceMilliseconds: 30_000)
        #expect(MachineTime().monotonicNanoseconds - start < 20_000_000_000)
    }
}
