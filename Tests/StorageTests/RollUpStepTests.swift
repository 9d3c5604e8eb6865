import Domain
import PostgresDriver
import TestSupport
import Testing

@testable import Storage

/// A roll-up that was away has much to add. It does so in steps that end.
@Suite("the steps of the roll-up")
struct RollUpStepTests {
    /// Entries of one transaction, with ids of their own.
    private static func fill(_ run: Int, _ count: Int) -> String {
        """
        INSERT INTO ledger (entry_id, tenant_id, key_id, request_id, kind, model, tier_version_id, requests, input_tokens, cached_input_tokens,
                output_tokens, token_source, occurred_at)
            SELECT id, '\(Seed.tenantA)', '\(Seed.keyA)', id, 'usage', 'iris', '\(Seed.tier)', 1, 5, 0, 2, 'worker', now()
            FROM (
                SELECT (left(uuid_lower_bound(now())::text, 14) || '7' || substr(md5('\(run) ' || n), 1, 3) || '-8'
                    || substr(md5('\(run) ' || n), 4, 3) || '-' || substr(md5('\(run) ' || n), 7, 12))::uuid AS id
                FROM generate_series(1, \(count)) n
            ) s;
        """
    }

    @Test("whole transactions are added, some 50,000 entries at once, and in the end all of them once")
    func bounded() async throws {
        try await StorageHarness.with { harness in
            for run in 1...3 { try await harness.run(Self.fill(run, 30_000)) }
            try await harness.withPool("weir_jobs") { pool in
                let store = HousekeepingStore(pool: pool)
                var steps: [Int64] = []
                try await eventually("all of it is rolled up") {
                    let added = try await store.rollUpUsage()
                    if added > 0 { steps.append(added) }
                    return steps.reduce(0, +) >= 90_000
                }
                #expect(steps.reduce(0, +) == 90_000)
                #expect(steps.allSatisfy { $0 <= 60_000 })
            }
            try await #expect(harness.ask("SELECT sum(requests_count) FROM usage") == ["90000"])
        }
    }

    @Test("where another process is at it, nothing is done and nobody waits")
    func oneAtATime() async throws {
        try await StorageHarness.with { harness in
            _ = try await harness.settle([Seed.settlement()])
            try await harness.onSession { session in
                try session.run(script: "BEGIN; SELECT position FROM rollup_watermark FOR UPDATE")
                let other = PostgresSession(configuration: session.configuration)
                try other.connect()
                defer { other.close() }
                try #expect(other.execute(DatabaseQuestion("SELECT roll_up_usage()")) == ["0"])
                try session.run(script: "ROLLBACK")
            }
        }
    }
}
