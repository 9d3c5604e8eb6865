import Domain
import PostgresDriver
import Storage
import TestSupport
import Testing

@Suite("the settlement writer")
struct SettlementWriterTests {
    /// How many sessions of this database wait for a table.
    private static let blocked = """
        SELECT count(*) FROM pg_locks WHERE locktype = 'relation' AND NOT granted
            AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
        """

    @Test("what is committed is in the ledger before its caller is told")
    func committed() async throws {
        try await StorageHarness.with { harness in
            try await harness.withWriter { writer in
                let lane = CountingLane()
                let outcomes = Outcomes()
                let settlements = (0..<300).map { _ in Seed.settlement() }
                for settlement in settlements { outcomes.submit(settlement, to: writer, on: lane) }
                try await eventually("all are told") { outcomes.results.count == 300 }
                #expect(outcomes.count(.committed) == 300)
                #expect(outcomes.repeated == 0)
                let entries = try await harness.identifiers("entry_id", in: "ledger")
                #expect(Set(entries) == Set(settlements.map(\.requestID)))
                #expect(entries.count == 300)
            }
        }
    }

    @Test("completions come on their lane, with one wake for each lane and batch")
    func lanes() async throws {
        try await StorageHarness.with { harness in
            let writer = try harness.makeWriter()
            let outcomes = Outcomes()
            let lanes = (0..<3).map { _ in CountingLane() }
            // The writer has not started: all of it becomes one batch.
            for number in 0..<90 { outcomes.submit(Seed.settlement(), to: writer, on: lanes[number % 3]) }
            try writer.start()
            try await eventually("all are told") { outcomes.results.count == 90 }
            #expect(lanes.map(\.wakes) == [1, 1, 1])
            #expect(outcomes.elsewhere == 0)
            try await #expect(harness.ask("SELECT count(DISTINCT tx) FROM ledger") == ["1"])
            await writer.shutdown(graceMilliseconds: 20_000)
        }
    }

    @Test("a batch has at most as many rows as its limit")
    func batchLimit() async throws {
        try await StorageHarness.with { harness in
            let writer = try harness.makeWriter(options: { $0.batchLimit = 10 })
            let outcomes = Outcomes()
            let lane = CountingLane()
            for _ in 0..<25 { outcomes.submit(Seed.settlement(), to: writer, on: lane) }
            try writer.start()
            try await eventually("all are told") { outcomes.results.count == 25 }
            try await #expect(harness.ask("SELECT count(*) FROM ledger GROUP BY tx ORDER BY 1") == ["5", "10", "10"])
            #expect(lane.wakes == 3)
            await writer.shutdown(graceMilliseconds: 20_000)
        }
    }

    @Test("above its bound the queue refuses at once, on the lane, and says so before anybody asks a worker")
    func overloaded() async throws {
        try await StorageHarness.with { harness in
            let writer = try harness.makeWriter(options: { $0.queueLimit = 5 })
            let outcomes = Outcomes()
            let lane = CountingLane()
            for _ in 0..<8 { outcomes.submit(Seed.settlement(), to: writer, on: lane) }
            try await eventually("three are refused") { outcomes.count(.overloaded) == 3 }
            #expect(outcomes.results.count == 3)
            #expect(outcomes.elsewhere == 0)
            try writer.start()
            try await eventually("the others are written") { outcomes.count(.committed) == 5 }
            try await #expect(harness.ask("SELECT count(*) FROM requests") == ["5"])
            await writer.shutdown(graceMilliseconds: 20_000)
        }
    }

    @Test("a writer whose queue is full is not accepting")
    func fullQueue() async throws {
        try await StorageHarness.with { harness in
            try await harness.withWriter(options: {
                $0.queueLimit = 3; $0.batchLimit = 1
            }) { writer in
                let outcomes = Outcomes()
                let lane = CountingLane()
                try await harness.onSession { blocker in
                    try blocker.run(script: "BEGIN; LOCK TABLE requests IN SHARE MODE")
                    // One is taken out of the queue and hangs, perhaps only after the last of these: so one more.
                    for _ in 0..<20 { outcomes.submit(Seed.settlement(), to: writer, on: lane) }
                    let deadline = MachineTime().monotonicNanoseconds + 60_000_000_000
                    while try blocker.execute(DatabaseQuestion(Self.blocked)) == ["0"],
                        MachineTime().monotonicNanoseconds < deadline
                    {}
                    outcomes.submit(Seed.settlement(), to: writer, on: lane)
                    #expect(!writer.isAccepting)
                    try blocker.run(script: "ROLLBACK")
                }
                try await eventually("the queue is empty again") { writer.isAccepting }
            }
        }
    }

    @Test("a poisoned row is refused alone and its neighbours are written", arguments: [1, 7, 64])
    func poison(neighbours: Int) async throws {
        try await StorageHarness.with { harness in
            let writer = try harness.makeWriter()
            let outcomes = Outcomes()
            let lane = CountingLane()
            // A NUL cannot stand in text; a negative count is refused by a constraint; 2^31 requests cannot be a status.
            let poisoned = [Seed.settlement(model: "a\u{0}b"), Seed.settlement(input: -5, cached: 0)]
            let healthy = (0..<neighbours).map { _ in Seed.settlement() }
            for settlement
                in (healthy.prefix(neighbours / 2) + poisoned[...] + healthy.suffix(neighbours - neighbours / 2))
            {
                outcomes.submit(settlement, to: writer, on: lane)
            }
            try writer.start()
            try await eventually("all are told") { outcomes.results.count == neighbours + 2 }
            for settlement in poisoned { #expect(outcomes.results[settlement.requestID] == .rejected) }
            #expect(outcomes.count(.committed) == neighbours)
            try await #expect(Set(harness.identifiers("entry_id", in: "ledger")) == Set(healthy.map(\.requestID)))
            try await #expect(harness.ask("SELECT count(*) FROM requests") == ["\(neighbours)"])
            await writer.shutdown(graceMilliseconds: 20_000)
        }
    }

    @Test("the caller learns that its lease is lost, its neighbours that they are committed")
    func leaseLost() async throws {
        try await StorageHarness.with { harness in
            let writer = try harness.makeWriter()
            let outcomes = Outcomes()
            let lane = CountingLane()
            let lost = Seed.settlement(lease: Seed.newLeaseID())
            let free = Seed.settlement()
            for settlement in [lost, free] { outcomes.submit(settlement, to: writer, on: lane) }
            try writer.start()
            try await eventually("both are told") { outcomes.results.count == 2 }
            #expect(outcomes.results == [lost.requestID: .leaseLost, free.requestID: .committed])
            await writer.shutdown(graceMilliseconds: 20_000)
        }
    }

    @Test("shutting down writes what is queued and refuses what comes after")
    func shutdownDrains() async throws {
        try await StorageHarness.with { harness in
            let writer = try harness.makeWriter(options: { $0.batchLimit = 50 })
            let outcomes = Outcomes()
            let lane = CountingLane()
            try writer.start()
            try await eventually("the writer is connected") { writer.isAccepting }
            for _ in 0..<1_000 { outcomes.submit(Seed.settlement(), to: writer, on: lane) }
            await writer.shutdown(graceMilliseconds: 60_000)
            #expect(outcomes.count(.committed) == 1_000)
            try await #expect(harness.ask("SELECT count(*) FROM ledger") == ["1000"])
            let late = Seed.settlement()
            outcomes.submit(late, to: writer, on: lane)
            #expect(outcomes.results[late.requestID] == .unavailable)
            #expect(!writer.isAccepting)
            try await eventually("the session is closed") {
                try await harness.ask(
                    "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'weir-settlement' AND datname = current_database()"
                )
                    == ["0"]
            }
        }
    }

    @Test("two writers at once write each of the same settlements once")
    func twoWriters() async throws {
        try await StorageHarness.with { harness in
            try await harness.withWriter { first in
                try await harness.withWriter { second in
                    let lane = CountingLane()
                    let one = Outcomes()
                    let two = Outcomes()
                    let settlements = (0..<500).map { _ in Seed.settlement() }
                    for settlement in settlements {
                        one.submit(settlement, to: first, on: lane)
                        two.submit(settlement, to: second, on: CountingLane())
                    }
                    try await eventually("all are told") { one.results.count == 500 && two.results.count == 500 }
                    #expect(one.count(.committed) == 500)
                    #expect(two.count(.committed) == 500)
                    try await #expect(
                        harness.ask("SELECT count(*), count(DISTINCT request_id) FROM ledger") == ["500|500"])
                }
            }
        }
    }

    @Test("a batch that runs into the server's time limit is tried again, not refused as if its rows were wrong")
    func slowServer() async throws {
        try await StorageHarness.with { harness in
            try await harness.withWriter(configure: { $0.statementTimeoutMilliseconds = 100 }) { writer in
                let lane = CountingLane()
                let outcomes = Outcomes()
                try await harness.onSession { blocker in
                    try blocker.run(script: "BEGIN; LOCK TABLE requests IN SHARE MODE")
                    for _ in 0..<10 { outcomes.submit(Seed.settlement(), to: writer, on: lane) }
                    try blocker.run(script: "SELECT pg_sleep(0.5)")
                    #expect(outcomes.results.isEmpty)
                    try blocker.run(script: "ROLLBACK")
                }
                try await eventually("all are told") { outcomes.results.count == 10 }
                #expect(outcomes.count(.committed) == 10)
            }
        }
    }

    @Test("a missing right of the whole table is nobody's own fault: nothing is rejected, and nobody waits for ever")
    func missingRight() async throws {
        try await StorageHarness.with { harness in
            try await harness.run("ALTER TABLE results RENAME TO results_away")
            try await harness.withWriter(options: { $0.waitMilliseconds = 300 }) { writer in
                let lane = CountingLane()
                let outcomes = Outcomes()
                for _ in 0..<10 { outcomes.submit(Seed.settlement(), to: writer, on: lane) }
                try await eventually("all are told") { outcomes.results.count == 10 }
                // Who runs out of time while a sending is under way cannot be told more.
                #expect(outcomes.count(.unavailable) + outcomes.count(.unknown) == 10)
                try await #expect(harness.identifiers("entry_id", in: "ledger").isEmpty)
            }
        }
    }
}
