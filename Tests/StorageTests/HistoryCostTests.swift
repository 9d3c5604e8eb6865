import Domain
import PostgresDriver
import TestSupport
import Testing

@testable import Storage

/// What a page of the history costs does not follow from how many requests there are.
@Suite("the cost of a page of the history")
struct HistoryCostTests {
    /// All of it is in one month: of two partitions, each is read once more.
    private static let noon = "date_trunc('month', now(), 'UTC') + interval '12 hours'"

    private static let fill = """
        INSERT INTO requests (request_id, tenant_id, key_id, model, model_version, status, http_status, error_code, created_at,
            completed_at, processing_us, operation)
        SELECT (left(uuid_lower_bound(t)::text, 14) || '7' || substr(md5(n::text), 1, 3) || '-8' || substr(md5(n::text), 4, 3)
                || '-' || substr(md5(n::text), 7, 12))::uuid,
            '\(Seed.tenantA)', '\(Seed.keyA)', CASE WHEN n % 50000 = 7 THEN 'rare' ELSE 'common' END, '1',
            CASE WHEN n % 40000 = 11 THEN 'failed' ELSE 'completed' END, 200, CASE WHEN n % 40000 = 11 THEN 'upstream_timeout' END, t, t, 1,
            'predict'
        FROM (SELECT n, \(noon) - interval '1 hour' + n * interval '10 milliseconds' AS t FROM generate_series(1, 200000) n) s;
        -- Three that are older than all of the other tenant's, and as many as a page may read that are newer.
        INSERT INTO requests (request_id, tenant_id, key_id, model, status, created_at, completed_at)
        SELECT (left(uuid_lower_bound(t)::text, 14) || '7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, '\(Seed.tenantB)', '\(Seed.keyB)',
            'common', 'completed', t, t
        FROM (SELECT n, \(noon) - interval '2 hours' AS t FROM generate_series(1, 3) n
            UNION ALL SELECT n, \(noon) + interval '10 seconds' + n * interval '10 microseconds' FROM generate_series(4, 10003) n) s;
        ANALYZE requests;
        """

    /// The arguments behind tenant, edge and far end: filters, then how many rows and how many to read.
    private static let none = "NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 21, 10000"
    private static let rare = "NULL, 'rare', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 21, 10000"
    private static let failed = "'failed', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 21, 10000"

    @Test("a page reads what it shows, or at most its bound, by the index")
    func cost() async throws {
        try await StorageHarness.with { harness in
            try await harness.run(Self.fill)
            // The bound twice: for what is found, and for where the page stopped.
            let cases: [(any PostgresStatement.Type, TenantID, filters: String, atMost: Int)] = [
                // Behind ten thousand requests of another tenant, and before three of them.
                (ReadRequestsBefore.self, Seed.tenantA, Self.none, 21),
                (ReadRequestsAfter.self, Seed.tenantA, Self.none, 21),
                (ReadRequestsBefore.self, Seed.tenantA, Self.rare, 20_000),
                (ReadRequestsAfter.self, Seed.tenantA, Self.rare, 20_000),
                (ReadNotCompletedBefore.self, Seed.tenantA, Self.failed, 10),
                (ReadNotCompletedAfter.self, Seed.tenantA, Self.failed, 10),
                // Before, and behind, two hundred thousand of another tenant.
                (ReadRequestsBefore.self, Seed.tenantB, Self.none, 21),
                (ReadRequestsAfter.self, Seed.tenantB, Self.none, 21),
            ]
            for (statement, tenant, filters, limit) in cases {
                let plan = try await explain(statement, tenant, filters, on: harness)
                let scans = plan.filter {
                    $0.contains("Scan") && $0.contains(" on requests_") && $0.contains("(actual rows=")
                }
                let read = scans.compactMap(actualRows).reduce(0, +)
                let dropped = plan.filter { $0.contains("Rows Removed by Filter: ") }.compactMap { line in
                    line.split(separator: " ").last.flatMap { Int($0) }
                }.reduce(0, +)
                #expect(
                    (1...limit).contains(read) && dropped <= RequestPageText.scanLimit,
                    "\(statement) \(read) \(plan.joined(separator: "\n"))")
                #expect(
                    scans.allSatisfy { !$0.contains("Seq Scan") || actualRows($0) == 0 },
                    "\(plan.joined(separator: "\n"))")
            }
        }
    }

    private func explain(
        _ statement: any PostgresStatement.Type, _ tenant: TenantID, _ filters: String, on harness: StorageHarness
    ) async throws -> [String] {
        let types = statement.parameters.map { String(describing: $0) }.joined(separator: ", ")
        let isNewer = statement.sql.contains("request_id > $2")
        let (edge, end) = isNewer ? ("00000000", "ffffffff") : ("ffffffff", "00000000")
        let rest = { (digits: String) in
            "\(digits)-\(digits.prefix(4))-\(digits.prefix(4))-\(digits.prefix(4))-\(digits.prefix(4))\(digits)"
        }
        let script = """
            CREATE OR REPLACE FUNCTION test.explain(statement text) RETURNS SETOF text LANGUAGE plpgsql AS $$
            BEGIN RETURN QUERY EXECUTE 'EXPLAIN (ANALYZE, TIMING OFF, COSTS OFF) ' || statement; END $$;
            SET plan_cache_mode = force_custom_plan; SET ROLE weir_reader; SELECT set_config('weir.tenant_id', '\(tenant)', false);
            PREPARE page (\(types)) AS \(statement.sql);
            """
        let question =
            "SELECT line FROM test.explain($q$EXECUTE page ('\(tenant)', '\(rest(edge))', '\(rest(end))', \(filters))$q$) AS line"
        return try await harness.onSession { session in
            try session.run(script: script)
            return try session.execute(DatabaseQuestion(question))
        }
    }

    /// Of a line such as `-> Index Scan using x on y (actual rows=21 loops=1)`.
    private func actualRows(_ line: String) -> Int? {
        guard let mark = line.firstRange(of: "(actual rows=") else { return nil }
        return Int(line[mark.upperBound...].prefix { $0.isNumber })
    }
}
