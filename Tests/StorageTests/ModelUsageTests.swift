import Domain
import PostgresDriver
import Storage
import TestSupport
import Testing

@Suite("usage of models")
struct ModelUsageTests {
    private static let rolledUp = """
        SELECT model_name, time_window, request_count, token_count, error_count, cache_hit_count, busy_us
        FROM model_usage_metrics ORDER BY 1, 2
        """
    /// The same from ledger and requests, by another way than the roll-up's.
    private static let counted = """
        SELECT r.model, usage_bucket(r.created_at), count(l.entry_id), coalesce(sum(l.input_tokens + l.output_tokens), 0),
            count(*) FILTER (WHERE r.status = 'failed'), count(*) FILTER (WHERE r.cached), sum(r.processing_us)
        FROM requests r LEFT JOIN ledger l ON l.entry_id = r.request_id GROUP BY 1, 2 ORDER BY 1, 2
        """

    private func batch(_ count: Int, spread: Int64 = 413_000) -> [Settlement] {
        let now = MachineTime().now
        return (0..<count).map { (number: Int) -> Settlement in
            let model = number % 3 == 0 ? "iris" : "other"
            let outcome: Settlement.Outcome = number % 4 == 0 ? .failed : .completed
            let at = now.advanced(byMilliseconds: -Int64(number) * spread)
            return Seed.settlement(
                model: model, outcome: outcome, at: at, input: Int64(number), cached: 0, output: Int64(number % 7))
        }
    }

    private func rollUpAll(_ harness: StorageHarness) async throws {
        try await eventually("all of it is rolled up") {
            _ = try await harness.ask("SELECT roll_up_usage()", as: "weir_jobs")
            return try await harness.ask(Self.rolledUp) == harness.ask(Self.counted)
        }
    }

    @Test(
        "buckets are what ledger and requests say, after many commits and roll-ups at once, and rebuilding changes nothing"
    )
    func exact() async throws {
        try await StorageHarness.with { harness in
            _ = try await harness.settle(batch(120))
            try await withThrowingTaskGroup(of: Void.self) { group in
                for number in 0..<3 {
                    group.addTask {
                        for _ in 0..<10 {
                            _ = try await harness.settle(
                                batch(8, spread: 1), gateway: GatewayID(high: 1, low: UInt64(number) | 1 << 63))
                        }
                    }
                    group.addTask {
                        for _ in 0..<10 { _ = try await harness.ask("SELECT roll_up_usage()", as: "weir_jobs") }
                    }
                }
                group.addTask {
                    for _ in 0..<5 {
                        _ = try await harness.ask("SELECT rebuild_usage('-infinity', 'infinity')", as: "weir_admin")
                    }
                }
                try await group.waitForAll()
            }
            try await rollUpAll(harness)
            let before = try await harness.ask(Self.rolledUp)
            let usage = try await harness.ask("SELECT * FROM usage ORDER BY 1, 2, 3, 4, 5")
            #expect(before.count > 20)
            _ = try await harness.ask("SELECT rebuild_usage('-infinity', 'infinity')", as: "weir_admin")
            try await #expect(harness.ask(Self.rolledUp) == before)
            try await #expect(harness.ask("SELECT * FROM usage ORDER BY 1, 2, 3, 4, 5") == usage)
        }
    }

    @Test("a rebuild mends what was changed inside its range, leaves the rest alone, and counts nothing twice")
    func mends() async throws {
        try await StorageHarness.with { harness in
            _ = try await harness.settle(batch(60))
            try await rollUpAll(harness)
            let before = try await harness.ask(Self.rolledUp)
            try await harness.run(
                """
                UPDATE model_usage_metrics SET request_count = 99, error_count = 99, busy_us = 99, token_count = 99;
                UPDATE usage SET requests_count = 99
                """)
            // One instant for all of it: a quarter of an hour may end between two questions.
            let bucket = "to_timestamp(\(MachineTime().now.usageBucketStart.microsecondsSince1970 / 1_000_000))"
            _ = try await harness.ask(
                "SELECT rebuild_usage(\(bucket) - interval '2 hours', \(bucket))", as: "weir_jobs")
            let wrong = "SELECT count(*) FROM model_usage_metrics WHERE time_window %@ AND busy_us = 99"
            let inside = ">= \(bucket) - interval '2 hours' AND time_window < \(bucket)"
            try await #expect(harness.ask(wrong.replacing("%@", with: inside)) == ["0"])
            try await #expect(harness.ask(wrong.replacing("%@", with: "< \(bucket) - interval '2 hours'")) != ["0"])
            _ = try await harness.ask("SELECT rebuild_usage('-infinity', 'infinity')", as: "weir_jobs")
            try await #expect(harness.ask(Self.rolledUp) == before)
            // What is not rolled up yet is not for a rebuild either.
            _ = try await harness.settle(batch(9))
            _ = try await harness.ask("SELECT rebuild_usage('-infinity', 'infinity')", as: "weir_jobs")
            try await #expect(harness.ask(Self.rolledUp) == before)
            try await rollUpAll(harness)
        }
    }

    @Test("an end inside a quarter of an hour is refused")
    func edges() async throws {
        try await StorageHarness.with { harness in
            for range in ["'2026-03-01 00:00:01Z', 'infinity'", "'-infinity', '2026-03-01 00:07:00Z'"] {
                try await #expect(harness.sqlState(of: "SELECT rebuild_usage(\(range))", as: "weir_admin") == "22023")
            }
        }
    }

    @Test("of several depths the greatest stays, beside what is counted, and a rebuild leaves it")
    func queueDepth() async throws {
        try await StorageHarness.with { harness in
            let bucket = MachineTime().now.usageBucketStart
            try await harness.withPool("weir_writer") { pool in
                let store = QueueDepthStore(pool: pool)
                try await store.note(["iris": 3, "other": 8], inBucketAt: bucket)
                try await store.note(["iris": 5, "other": 2], inBucketAt: bucket)
                try await store.note([:], inBucketAt: bucket)
            }
            _ = try await harness.settle([Seed.settlement(at: bucket)])
            try await eventually("it is rolled up") {
                _ = try await harness.ask("SELECT roll_up_usage()", as: "weir_jobs")
                return try await harness.ask("SELECT sum(request_count) FROM model_usage_metrics") == ["1"]
            }
            _ = try await harness.ask("SELECT rebuild_usage('-infinity', 'infinity')", as: "weir_admin")
            try await #expect(
                harness.ask("SELECT queue_depth FROM model_usage_metrics ORDER BY model_name") == ["5", "8"])
            try await harness.withPool("weir_jobs") { pool in
                let busy = try await HousekeepingStore(pool: pool).busyMicroseconds(since: bucket)
                let taken = try await harness.ask("SELECT sum(processing_us) FROM requests")
                #expect(busy.mapValues(String.init) == ["iris": try #require(taken.first), "other": "0"])
            }
        }
    }

    @Test("no duty sees more of the requests through the roll-up than it needs")
    func rights() async throws {
        try await StorageHarness.with { harness in
            for role in ["weir_reader", "weir_writer", "weir_directory"] {
                try await #expect(
                    harness.sqlState(of: "SELECT * FROM request_outcomes", as: role) == "42501", "\(role)")
                try await #expect(
                    harness.sqlState(of: "SELECT rebuild_usage('-infinity', 'infinity')", as: role) == "42501")
            }
            try await #expect(harness.sqlState(of: "SELECT prompt FROM requests", as: "weir_jobs") == "42501")
        }
    }
}
