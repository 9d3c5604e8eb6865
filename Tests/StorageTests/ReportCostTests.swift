import Domain
import PostgresDriver
import TestSupport
import Testing

@testable import Storage

/// What a report costs follows from models, tenants and time, not from how many requests there were: the pages of the database that it looks at are
/// counted, because times on a busy machine say nothing.
@Suite("the cost of reports")
struct ReportCostTests {
    private static let few = 3_000
    private static let many = 60_000

    /// Requests of two tenants and two models over a day, in every quarter of an hour the same number; some failed, some with tags.
    private static func fill(_ count: Int) -> String {
        """
        SELECT ensure_partitions(now() - interval '1 month', 1);
        CREATE TEMP TABLE made AS
            SELECT (left(uuid_lower_bound(t)::text, 14) || '7' || substr(md5(n::text), 1, 3) || '-8' || substr(md5(n::text), 4, 3) || '-'
                    || substr(md5(n::text), 7, 12))::uuid AS id, n, t,
                (ARRAY['\(Seed.tenantA)', '\(Seed.tenantB)'])[n % 2 + 1]::uuid AS tenant,
                (ARRAY['\(Seed.keyA)', '\(Seed.keyB)'])[n % 2 + 1]::uuid AS key, CASE WHEN n % 3 = 0 THEN 'iris' ELSE 'chat' END AS model
            FROM (
                SELECT n, usage_bucket(now()) - interval '1 day' + (n % 96) * interval '15 minutes' + (n % 900) * interval '1 second' AS t
                FROM generate_series(1, \(count)) n
            ) s;
        INSERT INTO requests (request_id, tenant_id, key_id, model, status, http_status, error_code, created_at, completed_at, processing_us)
            SELECT id, tenant, key, model, CASE WHEN n % 10 = 1 THEN 'failed' ELSE 'completed' END, CASE WHEN n % 10 = 1 THEN 502 ELSE 200 END,
                CASE WHEN n % 10 = 1 THEN 'bad_upstream' END, t, t, n % 7 * 1000 FROM made;
        INSERT INTO ledger (entry_id, tenant_id, key_id, request_id, kind, model, tier_version_id, requests, input_tokens, cached_input_tokens,
                output_tokens, token_source, occurred_at, tags)
            SELECT id, tenant, key, id, 'usage', model, '\(Seed.tier)', 1, 5, 0, 2, 'worker', t,
                CASE WHEN n % 2 = 0 THEN ARRAY['team=a'] END FROM made WHERE n % 10 <> 1;
        """
    }

    /// The pages that each statement looks at, after everything is rolled up.
    private func pages(_ count: Int) async throws -> [String: Int] {
        try await StorageHarness.with { harness in
            try await harness.run(Self.fill(count))
            try await harness.rollUpAll()
            try await harness.run("ANALYZE")
            let range = "date_trunc('hour', now()) - interval '26 hours'"
            let stretches = "ARRAY[\(range)], ARRAY[now() + interval '1 hour']"
            let cases: [(statement: any PostgresStatement.Type, arguments: String, role: String)] = [
                (ReadReportUsage.self, "\(stretches), true, true, true, 1000", "weir_reports"),
                (ReadReportTagUsage.self, "\(stretches), true, 1000", "weir_reports"),
                (ReadLatencies.self, "\(range), now() + interval '1 hour'", "weir_reports"),
                (ReadOutcomes.self, "\(range), now() + interval '1 hour'", "weir_reports"),
                (ReadUsage.self, "'\(Seed.tenantA)', \(stretches), true, true, 1000", "weir_reader"),
                (ReadTagUsage.self, "'\(Seed.tenantA)', \(stretches), 1000", "weir_reader"),
                (ReadHourlyUsage.self, "'\(Seed.tenantA)', \(range), now() + interval '1 hour'", "weir_reader"),
            ]
            var pages: [String: Int] = [:]
            for (statement, arguments, role) in cases {
                pages["\(statement)"] = try await self.pages(statement, arguments, role, on: harness)
            }
            return pages
        }
    }

    private func pages(
        _ statement: any PostgresStatement.Type, _ arguments: String, _ role: String, on harness: StorageHarness
    ) async throws -> Int {
        let types = statement.parameters.map { String(describing: $0).replacing("Array", with: "[]") }
        let script = """
            CREATE OR REPLACE FUNCTION test.explain(statement text) RETURNS SETOF text LANGUAGE plpgsql AS $$
            BEGIN RETURN QUERY EXECUTE 'EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, COSTS OFF) ' || statement; END $$;
            SET ROLE \(role); SELECT set_config('weir.tenant_id', '\(Seed.tenantA)', false);
            PREPARE report (\(types.joined(separator: ", "))) AS \(statement.sql);
            """
        let plan = try await harness.onSession { session in
            try session.run(script: script)
            return try session.execute(
                DatabaseQuestion("SELECT line FROM test.explain($q$EXECUTE report (\(arguments))$q$) AS line"))
        }
        // The first line of pages is that of the whole plan.
        let line = try #require(plan.first { $0.contains("Buffers: ") })
        return line.split(whereSeparator: { $0 == " " || $0 == "," }).reduce(0) { sum, part in
            let pair = part.split(separator: "=")
            guard pair.count == 2, pair[0].hasSuffix("hit") || pair[0].hasSuffix("read") else { return sum }
            return sum + (Int(pair[1]) ?? 0)
        }
    }

    @Test("twenty times the requests in the same time make no report look at twice the pages")
    func bounded() async throws {
        let few = try await pages(Self.few)
        let many = try await pages(Self.many)
        #expect(few.count == 7)
        for (name, count) in few {
            let larger = try #require(many[name])
            #expect(count > 0 && larger <= 2 * count + 32, "\(name): \(count) pages, then \(larger)")
        }
        print("pages of reports over \(Self.few) and \(Self.many) requests: \(few) \(many)")
    }

    @Test("reports are the ledger's and the requests' own numbers, rolled up or not")
    func exact() async throws {
        try await StorageHarness.with { harness in
            try await harness.run(Self.fill(Self.few))
            let now = MachineTime().now
            let query = ReportQuery(
                stretches: [
                    UsageQuery.Stretch(
                        start: now.usageBucketStart.advanced(byMilliseconds: -2 * 86_400_000),
                        end: now.usageBucketStart.advanced(byMilliseconds: 86_400_000))
                ], groupsByTenant: true)
            try await harness.withPool("weir_reports") { pool in
                let store = ReportStore(pool: pool)
                func all() async throws -> (Int64, Int64, [OutcomeCount], [LatencyCount], Int64) {
                    let (start, end) = (query.stretches[0].start, query.stretches[0].end)
                    let usage = try await store.usage(query)
                    let tags = try await store.usage(
                        ReportQuery(stretches: query.stretches, groupsByTenant: true, groupsByTag: true))
                    let hours = try await store.hours(of: Seed.tenantA, from: start, to: end)
                    return (
                        usage.reduce(0) { $0 + $1.usage.requests }, tags.reduce(0) { $0 + $1.usage.requests },
                        try await store.outcomes(from: start, to: end),
                        try await store.latencies(from: start, to: end), hours.reduce(0) { $0 + $1.requests }
                    )
                }
                let early = try await all()
                #expect(early.0 == 2_700 && early.1 == 1_500)
                let failed = early.2.filter { $0.failure?.code == "bad_upstream" }
                #expect(
                    failed.reduce(0) { $0 + $1.requests } == 300 && failed.allSatisfy { $0.failure?.httpStatus == 502 })
                #expect(early.2.filter { $0.failure == nil }.reduce(0) { $0 + $1.requests } == 2_700)
                #expect(early.3.reduce(0) { $0 + $1.requests } == 2_700)
                try await harness.rollUpAll()
                let late = try await all()
                #expect(early == late)
            }
        }
    }

    @Test("usage by key and by user is the ledger's, each user's keys together, rolled up or not")
    func users() async throws {
        try await StorageHarness.with { harness in
            try await harness.run(Self.fill(Self.few))
            let now = MachineTime().now
            let stretch = UsageQuery.Stretch(
                start: now.usageBucketStart.advanced(byMilliseconds: -2 * 86_400_000),
                end: now.usageBucketStart.advanced(byMilliseconds: 86_400_000))
            // A second key of the same user, beside one of nobody's.
            try await harness.run("UPDATE api_keys SET user_id = '\(Seed.userA)' WHERE key_id = '\(Seed.keyA2)'")
            _ = try await harness.settle((0..<5).map { _ in Seed.settlement(key: Seed.keyA2) })
            try await harness.withPool("weir_reports") { pool in
                let store = ReportStore(pool: pool)
                for isRolledUp in [false, true] {
                    if isRolledUp { try await harness.rollUpAll() }
                    for (byKey, byUser) in [(true, false), (false, true), (true, true), (false, false)] {
                        let rows = try await store.usage(
                            ReportQuery(
                                stretches: [stretch], groupsByTenant: false, groupsByKey: byKey, groupsByUser: byUser))
                        let found = rows.map { row in
                            "\(row.usage.model) \(row.usage.keyID?.description ?? "-") \(row.usage.userID?.description ?? "-") "
                                + "\(row.usage.requests) \(row.usage.inputTokens) \(row.usage.outputTokens)"
                        }
                        let ledger = try await harness.ask(
                            """
                            SELECT concat_ws(' ', l.model, CASE WHEN \(byKey) THEN l.key_id::text ELSE '-' END,
                                CASE WHEN \(byUser) THEN coalesce(k.user_id::text, '-') ELSE '-' END, sum(l.requests), sum(l.input_tokens),
                                sum(l.output_tokens))
                            FROM ledger l JOIN api_keys k ON k.key_id = l.key_id
                            GROUP BY l.model, CASE WHEN \(byKey) THEN l.key_id::text ELSE '-' END,
                                CASE WHEN \(byUser) THEN coalesce(k.user_id::text, '-') ELSE '-' END
                            """)
                        #expect(
                            found.sorted() == ledger.sorted() && !found.isEmpty, "by key \(byKey), by user \(byUser)")
                    }
                }
            }
        }
    }

    @Test("a report of more groups than its limit says so with one more")
    func limit() async throws {
        try await StorageHarness.with { harness in
            try await harness.run(Self.fill(100))
            try await harness.withPool("weir_reports") { pool in
                let now = MachineTime().now
                let stretch = UsageQuery.Stretch(
                    start: now.usageBucketStart.advanced(byMilliseconds: -2 * 86_400_000), end: now.usageBucketStart)
                let rows = try await ReportStore(pool: pool).usage(
                    ReportQuery(stretches: [stretch], groupsByTenant: true, groupLimit: 2))
                #expect(rows.count == 3)
            }
        }
    }
}
