import Domain
import PostgresDriver
import Storage
import TestSupport
import Testing

/// The roll-ups beside usage: by tag, by class of time, by kind of failure.
@Suite("the roll-ups of reports")
struct ReportRollUpTests {
    private static let tagUsage = """
        SELECT tenant_id, bucket_start, tag, model, tier_version_id, requests_count, input_tokens, cached_input_tokens, output_tokens
        FROM tag_usage ORDER BY 1, 2, 3, 4, 5
        """
    /// The same from the ledger, by another way than the roll-up's, where no tenant has more tags than fit.
    private static let tagLedger = """
        SELECT l.tenant_id, usage_bucket(l.occurred_at), t.tag, l.model, l.tier_version_id, sum(l.requests), sum(l.input_tokens),
            sum(l.cached_input_tokens), sum(l.output_tokens)
        FROM ledger l, unnest(l.tags) AS t (tag) GROUP BY 1, 2, 3, 4, 5 ORDER BY 1, 2, 3, 4, 5
        """
    private static let latencies = """
        SELECT model_name, time_window, latency_class, requests_count FROM model_latencies ORDER BY 1, 2, 3
        """
    private static let countedLatencies = """
        SELECT model, usage_bucket(created_at), latency_class(processing_us), count(*) FROM requests
        WHERE status = 'completed' GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
        """
    private static let latencyDays = """
        SELECT model_name, day, latency_class, requests_count FROM model_latency_days ORDER BY 1, 2, 3
        """
    private static let countedDays = """
        SELECT model, (created_at AT TIME ZONE 'UTC')::date, latency_class(processing_us), count(*) FROM requests
        WHERE status = 'completed' GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
        """
    private static let errors = """
        SELECT model_name, time_window, error_code, http_status, requests_count FROM model_errors ORDER BY 1, 2, 3, 4
        """
    private static let countedErrors = """
        SELECT model, usage_bucket(created_at), error_code, http_status, count(*) FROM requests WHERE status = 'failed'
        GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4
        """

    private func tags(_ text: String?) throws -> RequestTags? { try text.map { try RequestTags(fields: [$0]) } }

    private func batch(_ count: Int, spread: Int64 = 413_000) throws -> [Settlement] {
        let now = MachineTime().now
        return try (0..<count).map { number in
            let isA = number % 4 != 0
            return Seed.settlement(
                tenant: isA ? Seed.tenantA : Seed.tenantB, key: isA ? Seed.keyA : Seed.keyB,
                model: number % 5 == 0 ? "iris" : "other", outcome: number % 7 == 0 ? .failed : .completed,
                at: now.advanced(byMilliseconds: -Int64(number) * spread), input: Int64(number), cached: 0,
                output: Int64(number % 3),
                tags: try tags([nil, "team=a", "team=b,env=prod", "env=test"][number % 4]))
        }
    }

    private func agree(_ harness: StorageHarness) async throws -> Bool {
        for (rolledUp, counted) in [
            (Self.tagUsage, Self.tagLedger), (Self.latencies, Self.countedLatencies),
            (Self.latencyDays, Self.countedDays), (Self.errors, Self.countedErrors),
        ] {
            guard try await harness.ask(rolledUp) == harness.ask(counted) else { return false }
        }
        return true
    }

    @Test("they are what ledger and requests say, after many commits, roll-ups and rebuilds at once")
    func exact() async throws {
        try await StorageHarness.with { harness in
            try await harness.run("SELECT ensure_partitions(now() - interval '2 months', 2)")
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
            try await eventually("all of it is rolled up") {
                _ = try await harness.ask("SELECT roll_up_usage()", as: "weir_jobs")
                return try await agree(harness)
            }
            let before = try await harness.ask(Self.tagUsage)
            #expect(before.count > 20)
            // Nothing is left of what was rolled up, and all of it comes back.
            try await harness.run(
                "DELETE FROM tag_usage; DELETE FROM model_latencies; DELETE FROM model_errors; DELETE FROM model_latency_days"
            )
            _ = try await harness.ask("SELECT rebuild_usage('-infinity', 'infinity')", as: "weir_jobs")
            try await #expect(agree(harness))
            try await #expect(harness.ask(Self.tagUsage) == before)
            // A part of a day that is built anew leaves the whole day right.
            _ = try await harness.ask(
                "SELECT rebuild_usage(usage_bucket(now()) - interval '9 hours', usage_bucket(now()) - interval '1 hour')",
                as: "weir_jobs")
            try await #expect(agree(harness))
        }
    }

    @Test("beyond a hundred tags of a month a request counts once in other, also when it is built anew")
    func bound() async throws {
        try await StorageHarness.with { harness in
            let now = MachineTime().now
            func settle(_ names: [String]) async throws {
                _ = try await harness.settle(names.map { Seed.settlement(at: now, tags: try tags($0)) })
                try await harness.rollUpAll()
            }
            try await settle((100..<195).map { "id=\($0)" })
            // Room for five more, the first five in their order; each of these requests has one that fits and two that do not.
            try await settle((300..<310).map { "id=\($0),over=x\($0),under=y\($0)" })
            try await settle(["id=100,id2=1", "z=1,y=1,x=1"])
            let tagCount = "SELECT count(DISTINCT tag), count(*) FILTER (WHERE tag = 'other') > 0 FROM tag_usage"
            try await #expect(harness.ask("SELECT count(*) FROM usage_tags") == ["100"])
            try await #expect(harness.ask(tagCount) == ["101|true"])
            let other = "SELECT sum(requests_count) FROM tag_usage WHERE tag = 'other'"
            // All ten of the second batch, and both of the third.
            try await #expect(harness.ask(other) == ["12"])
            try await #expect(
                harness.ask("SELECT sum(requests_count) FROM tag_usage WHERE tag = 'id=100'") == ["2"])
            let before = try await harness.ask(Self.tagUsage)
            _ = try await harness.ask("SELECT rebuild_usage('-infinity', 'infinity')", as: "weir_admin")
            try await #expect(harness.ask(Self.tagUsage) == before)
        }
    }

    @Test("what a customer reads by tag is the same before and after the roll-up, and nothing of another tenant")
    func reading() async throws {
        try await StorageHarness.with { harness in
            let now = MachineTime().now
            _ = try await harness.settle([
                Seed.settlement(at: now, tags: try tags("team=a,env=prod")), Seed.settlement(at: now),
                Seed.settlement(at: now, tags: try tags("team=a")),
                Seed.settlement(tenant: Seed.tenantB, key: Seed.keyB, at: now, tags: try tags("team=b")),
            ])
            let query = UsageQuery(
                tenantID: Seed.tenantA,
                days: [
                    UsageQuery.Stretch(
                        start: now.usageBucketStart, end: now.advanced(byMilliseconds: 86_400_000).usageBucketStart)
                ], groupsByKey: false, groupsByTag: true, rowLimit: 1_000)
            try await harness.withPool("weir_reader") { pool in
                let store = CustomerStore(pool: pool)
                let early = try await store.usage(query)
                #expect(early.map(\.tag) == ["env=prod", "team=a"])
                #expect(early.map(\.requests) == [1, 2])
                #expect(early.map(\.inputTokens) == [7, 14])
                try await harness.rollUpAll()
                try await #expect(store.usage(query) == early)
            }
            for table in ["tag_usage", "usage_tags"] {
                try await #expect(harness.ask("SELECT count(*) FROM \(table)", as: "weir_reader") == ["0"])
            }
        }
    }

    @Test("the class of a time is the same in the schema and in the program")
    func classes() async throws {
        try await StorageHarness.with { harness in
            let rows = try await harness.ask(
                """
                SELECT v, latency_class(v) FROM (
                    SELECT (2::numeric ^ e)::bigint + d AS v FROM generate_series(0, 41) e, generate_series(-3, 3) d
                    UNION SELECT (random() * 4000000000)::bigint FROM generate_series(1, 500)
                ) s ORDER BY 1
                """)
            #expect(rows.count > 500)
            for row in rows {
                let parts = row.split(separator: "|").compactMap { Int64($0) }
                #expect(LatencyHistogram.index(ofMicroseconds: parts[0]) == Int(parts[1]), "\(row)")
            }
        }
    }

    @Test("without tags a settlement writes none, and what is no list of tags is refused")
    func none() async throws {
        try await StorageHarness.with { harness in
            _ = try await harness.settle([Seed.settlement()])
            try await #expect(harness.ask("SELECT tags IS NULL FROM ledger") == ["true"])
            try await harness.rollUpAll()
            try await #expect(harness.ask("SELECT count(*) FROM tag_usage") == ["0"])
            let tooMany = "{\((0..<17).map { "a\($0)=1" }.joined(separator: ","))}"
            try await #expect(
                harness.sqlState(
                    of: """
                        INSERT INTO ledger (entry_id, tenant_id, key_id, request_id, kind, model, tier_version_id, requests, input_tokens,
                            cached_input_tokens, output_tokens, token_source, occurred_at, tags)
                        VALUES (gen_random_uuid(), '\(Seed.tenantA)', '\(Seed.keyA)', gen_random_uuid(), 'correction', 'iris',
                            '\(Seed.tier)', 0, 0, 0, 0, 'worker', now(), '\(tooMany)')
                        """) == "23514")
        }
    }
}
