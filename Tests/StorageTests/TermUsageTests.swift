import Domain
import PostgresDriver
import Storage
import TestSupport
import Testing

/// Roll-ups of what replay and tier analysis ask of the past: hits, left streams, minutes.
@Suite("hits, left streams and minutes")
struct TermUsageTests {
    private static let terms = """
        SELECT tenant_id, bucket_start, key_id, model, tier_version_id, hits, served_input_tokens, served_output_tokens, hit_input_tokens,
            hit_cached_input_tokens, hit_output_tokens, left_streams, drained_streams, drained_output_tokens, drained_delivered_tokens
        FROM term_usage ORDER BY 1, 2, 3, 4, 5
        """
    private static let minutes = """
        SELECT concat_ws(' ', to_char(minute AT TIME ZONE 'UTC', 'HH24:MI'), requests, tokens, arrivals, held_tokens, most_tokens, admitted,
            least_tokens, busy_us, to_char(last_end AT TIME ZONE 'UTC', 'HH24:MI:SS.MS')) FROM usage_minutes ORDER BY minute
        """

    /// A request of tenant A and its entry, some seconds behind 10:00 of yesterday.
    private static func request(
        _ second: Double, input: Int = 10, cached: Int = 0, output: Int = 5, held: String = "40",
        source: String = "worker",
        served: (Int, Int) = (0, 0), stream: (end: String, delivered: Int, generated: Int)? = nil,
        tookSeconds: Double = 2,
        status: String = "completed", submitted: Double? = nil, hasRow: Bool = true
    ) -> String {
        let at = "(date_trunc('day', now(), 'UTC') - interval '14 hours' + \(second) * interval '1 second')"
        let stream = stream.map { "'\($0.end)', \($0.delivered), \($0.generated)" } ?? "NULL, NULL, NULL"
        let came = submitted.map { "\(at) - \(second - $0) * interval '1 second'" } ?? at
        let row = """
            INSERT INTO requests (request_id, tenant_id, key_id, model, status, http_status, error_code, created_at, completed_at, processing_us,
                estimated_tokens, input_tokens, output_tokens, tier_version_id, cached, stream_end, delivered_tokens, generated_tokens, is_job)
            SELECT id, '\(Seed.tenantA)', '\(Seed.keyA)', 'iris', '\(status)', 200, \(status == "failed" ? "'worker_failed'" : "NULL"), \(came),
                \(at) + \(tookSeconds) * interval '1 second', \(Int(tookSeconds * 1_000_000)), \(held), \(input), \(output), '\(Seed.tier)',
                \(source == "cache"), \(stream), \(submitted != nil) FROM made
            """
        let entry = """
            INSERT INTO ledger (entry_id, request_id, tenant_id, key_id, kind, model, tier_version_id, requests, input_tokens, cached_input_tokens,
                output_tokens, token_source, occurred_at, served_input_tokens, served_output_tokens)
            SELECT id, id, '\(Seed.tenantA)', '\(Seed.keyA)', 'usage', 'iris', '\(Seed.tier)', 1, \(input), \(cached), \(output), '\(source)', \(at),
                \(served.0), \(served.1) FROM made
            """
        let made = """
            WITH made AS MATERIALIZED (
                SELECT (left(uuid_lower_bound(\(came))::text, 14) || '7' || substr(gen_random_uuid()::text, 16))::uuid AS id)
            """
        if !hasRow { return "\(made) \(entry);" }
        return status == "failed" ? "\(made) \(row);" : "\(made), recorded AS (\(row)) \(entry);"
    }

    private static let correction = """
        INSERT INTO ledger (entry_id, tenant_id, key_id, request_id, kind, model, tier_version_id, requests, input_tokens, cached_input_tokens,
            output_tokens, token_source, occurred_at)
        SELECT gen_random_uuid(), tenant_id, key_id, request_id, 'correction', model, tier_version_id, 0, -1, 0, -2, token_source, occurred_at
        FROM ledger WHERE token_source = 'cache' LIMIT 1;
        """

    private static let script =
        "SELECT ensure_partitions(now() - interval '2 months', 3);" + request(1) + request(59.5, tookSeconds: 70)
        // Two hits, one of which was clamped to nothing.
        + request(61, input: 7, cached: 1, output: 3, source: "cache", served: (14, 7))
        + request(62, input: 0, output: 0, source: "cache", served: (9, 9)) + correction
        // Charged all, charged what was held, charged what was delivered, and one that was heard to its end.
        + request(120, output: 20, stream: ("client_left", 5, 20))
        + request(121, output: 30, stream: ("client_left", 6, 90))
        + request(122, output: 8, stream: ("client_left", 8, 9)) + request(123, output: 9, stream: ("finished", 9, 9))
        // Left too, but what they cost is fixed, or one for each input, whoever leaves.
        + request(124, input: 25, output: 0, source: "fixed", stream: ("client_left", 5, 20))
        + request(125, input: 0, output: 20, source: "counted", stream: ("client_left", 5, 20))
        + request(180, held: "77", tookSeconds: 1, status: "failed")
        + request(300, input: 3, output: 4, submitted: 245) + request(360, hasRow: false)

    private static func rollUp(_ harness: StorageHarness) async throws {
        try await eventually("all of it is rolled up") {
            _ = try await harness.ask("SELECT roll_up_usage()", as: "weir_jobs")
            return try await harness.ask(
                "SELECT count(*) FROM ledger WHERE tx >= (SELECT position FROM rollup_watermark)") == ["0"]
        }
    }

    private func with(_ body: (StorageHarness) async throws -> Void) async throws {
        try await StorageHarness.with { harness in
            try await harness.run("SET session_replication_role = replica;" + Self.script)
            try await body(harness)
        }
    }

    @Test("what is rolled up is what the requests were, and rebuilding makes the same")
    func rolledUp() async throws {
        try await with { harness in
            try await Self.rollUp(harness)
            let terms = try await harness.ask(Self.terms)
            let total = try await harness.ask(
                """
                SELECT concat_ws(' ', sum(hits), sum(served_input_tokens), sum(served_output_tokens), sum(hit_input_tokens),
                    sum(hit_cached_input_tokens), sum(hit_output_tokens), sum(left_streams), sum(drained_streams), sum(drained_output_tokens),
                    sum(drained_delivered_tokens)) FROM term_usage
                """)
            #expect(total == ["2 23 16 7 1 3 3 2 50 11"])
            let minutes = try await harness.ask(Self.minutes)
            #expect(
                minutes == [
                    "10:00 2 30 2 80 30 2 30 2500000 10:02:09.500",
                    "10:01 2 7 2 80 39 2 0 4000000 10:01:04.000",
                    "10:02 6 152 6 240 219 6 64 12000000 10:02:07.000",
                    "10:03 0 0 1 77 0 0 0 0 10:03:01.000",
                    // A job is there when it was submitted, and once more when it was charged.
                    "10:04 0 0 1 40 40 0 0 0 10:04:05.000",
                    "10:05 1 7 0 0 0 0 0 0",
                    "10:06 1 15 1 1000000000000 1000000000000 0 0 0 10:06:00.000",
                ])
            _ = try await harness.ask("SELECT rebuild_usage('-infinity', 'infinity')", as: "weir_jobs")
            try await #expect(harness.ask(Self.terms) == terms)
            try await #expect(harness.ask(Self.minutes) == minutes)
        }
    }

    @Test("what is rated says the same of it before it is rolled up and after, and minutes come with it")
    func read() async throws {
        try await with { harness in
            let now = MachineTime().now
            let period = Period(
                start: now.advanced(byMilliseconds: -3 * 86_400_000).usageBucketStart, end: now.usageBucketStart, id: ""
            )
            try await harness.withPool("weir_reader") { pool in
                let (rating, series) = (RatingStore(pool: pool), UsageSeriesStore(pool: pool))
                let before = try await rating.input(Seed.tenantA, period).usage
                #expect(
                    before.map(\.termed) == [
                        TermedUsage(
                            hits: 2, servedInputTokens: 23, servedOutputTokens: 16, hitInputTokens: 7,
                            hitCachedInputTokens: 1,
                            hitOutputTokens: 3, leftStreams: 3, drainedStreams: 2, drainedOutputTokens: 50,
                            drainedDeliveredTokens: 11)
                    ])
                try await #expect(series.minutes(of: Seed.tenantA, from: period.start, to: period.end).isEmpty)
                try await Self.rollUp(harness)
                try await #expect(rating.input(Seed.tenantA, period).usage == before)
                let minutes = try await series.minutes(of: Seed.tenantA, from: period.start, to: period.end)
                let quarters = try await series.quarters(of: Seed.tenantA, from: period.start, to: period.end)
                #expect(minutes.count == 7 && minutes.reduce(0) { $0 + $1.arrivals } == 13)
                #expect(minutes.reduce(0) { $0 + $1.tokens } == quarters.reduce(0) { $0 + $1.tokens })
                #expect(minutes.reduce(0) { $0 + $1.requests } == quarters.reduce(0) { $0 + $1.requests })
                try await #expect(series.minutes(of: Seed.tenantB, from: period.start, to: period.end).isEmpty)
                try await #expect(rating.input(Seed.tenantB, period).usage.isEmpty)
            }
            // The role under which invoices are made reads the same.
            try await harness.withPool("weir_admin") { pool in
                try await #expect(RatingStore(pool: pool).input(Seed.tenantA, period).usage.count == 1)
            }
        }
    }

    @Test("minutes that are older than thirteen months are removed")
    func retention() async throws {
        try await with { harness in
            try await harness.run(
                """
                INSERT INTO usage_minutes SELECT '\(Seed.tenantA)', now() - n * interval '1 month', 1, 1, 1, 1, 1, 1, 1, 1, now()
                FROM generate_series(11, 15) n
                """)
            try await Self.rollUp(harness)
            try await #expect(
                harness.ask("SELECT count(*) FROM usage_minutes WHERE minute < now() - interval '10 months'") == ["2"])
        }
    }
}
