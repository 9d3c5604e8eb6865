import PostgresDriver
import Testing

@Suite("what was written once and never changes")
struct ImmutabilityTests {
    @Test(
        "the ledger and the audit log take no change, not even from the owner",
        arguments: [
            "UPDATE ledger SET requests = 2", "DELETE FROM ledger", "TRUNCATE ledger",
            "UPDATE audit_log SET actor = 'x'",
            "DELETE FROM audit_log", "TRUNCATE audit_log",
        ])
    func appendOnly(change: String) async throws {
        try await StorageHarness.with { harness in
            _ = try await harness.settle([Seed.settlement()])
            try await harness.run(
                "INSERT INTO audit_log (audit_id, actor, action, subject_type, subject_id) "
                    + "VALUES (gen_random_uuid(), 'a', 'key.made', 'key', 'k')")
            try await #expect(harness.sqlState(of: change) == "42501")
            try await #expect(harness.ask("SELECT count(*), sum(requests) FROM ledger") == ["1|1"])
        }
    }

    @Test(
        "a partition of the ledger takes no change either",
        arguments: ["UPDATE %s SET requests = 2", "DELETE FROM %s", "TRUNCATE %s"])
    func partitionsAreAppendOnly(change: String) async throws {
        try await StorageHarness.with { harness in
            _ = try await harness.settle([Seed.settlement()])
            let partitions = try await harness.ask(
                "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'ledger'::regclass")
            #expect(partitions.count >= 6)
            for partition in partitions {
                try await #expect(
                    harness.sqlState(of: change.replacing("%s", with: partition)) == "42501", "\(partition)")
            }
        }
    }

    @Test("partitions that are made later are append-only, too")
    func laterPartitions() async throws {
        try await StorageHarness.with { harness in
            _ = try await harness.ask("SELECT ensure_partitions('2041-05-01', 1)", as: "weir_jobs")
            try await #expect(harness.sqlState(of: "TRUNCATE ledger_y2041m05") == "42501")
        }
    }

    @Test(
        "a published tier version does not change",
        arguments: [
            "UPDATE tier_versions SET base_fee_micros = 1 WHERE state = 'published'",
            "UPDATE tier_versions SET state = 'draft', published_at = NULL WHERE state = 'published'",
            "DELETE FROM tier_versions WHERE state = 'published'",
            "UPDATE tier_prices SET unit_price = 0 WHERE model = 'iris'",
            "DELETE FROM tier_prices",
            "INSERT INTO tier_prices (tier_version_id, meter, unit_price) VALUES ('\(Seed.tier)', 'output_token', 1)",
            "UPDATE tier_quotas SET amount = 1",
            "DELETE FROM tier_quotas",
            "INSERT INTO tier_quotas (tier_version_id, unit, frequency, amount) VALUES ('\(Seed.tier)', 'tokens', 'day', 1)",
            // Moved to a draft, a price would be gone from the published version.
            "UPDATE tier_prices SET tier_version_id = '\(Seed.draftTier)'",
            "UPDATE tier_quotas SET tier_version_id = '\(Seed.draftTier)'",
            "TRUNCATE tier_prices CASCADE",
            "TRUNCATE tier_quotas",
        ])
    func publishedTiers(change: String) async throws {
        try await StorageHarness.with { harness in
            let state = try await harness.sqlState(of: change)
            #expect(state == "23514" || state == "42501")
            let prices = try await harness.ask(
                "SELECT meter, model, unit_price FROM tier_prices WHERE tier_version_id = '\(Seed.tier)' ORDER BY meter"
            )
            #expect(prices == ["input_token|iris|0.000000000001", "request|*|0.000100000000"])
        }
    }

    @Test("a published version may be retired, and a draft may change")
    func allowedChanges() async throws {
        try await StorageHarness.with { harness in
            try await harness.run(
                """
                UPDATE tier_versions SET state = 'retired' WHERE tier_version_id = '\(Seed.tier)';
                UPDATE tier_versions SET base_fee_micros = 5 WHERE tier_version_id = '\(Seed.draftTier)';
                INSERT INTO tier_prices (tier_version_id, meter, unit_price) VALUES ('\(Seed.draftTier)', 'request', 1);
                UPDATE tier_prices SET unit_price = 2 WHERE tier_version_id = '\(Seed.draftTier)';
                DELETE FROM tier_prices WHERE tier_version_id = '\(Seed.draftTier)';
                """, as: "weir_admin")
            let state = try await harness.ask("SELECT state FROM tier_versions WHERE tier_version_id = '\(Seed.tier)'")
            #expect(state == ["retired"])
            // And a retired one stays.
            let back = "UPDATE tier_versions SET state = 'published' WHERE tier_version_id = '\(Seed.tier)'"
            try await #expect(harness.sqlState(of: back) == "23514")
        }
    }

    @Test("a price that is being written when its version is published does not slip in afterwards")
    func publishingWaitsForWriters() async throws {
        try await StorageHarness.with { harness in
            let publish =
                "UPDATE tier_versions SET state = 'published', published_at = now() WHERE tier_version_id = '\(Seed.draftTier)'"
            let outcome = try await harness.onSession { writer in
                let publisher = PostgresSession(configuration: writer.configuration)
                try publisher.connect()
                defer { publisher.close() }
                try writer.run(script: "BEGIN")
                try writer.run(
                    script:
                        "INSERT INTO tier_prices (tier_version_id, meter, unit_price) VALUES ('\(Seed.draftTier)', 'request', 1)"
                )
                try publisher.run(script: "SET lock_timeout = '200ms'")
                do throws(PostgresError) {
                    try publisher.run(script: publish)
                    return "published meanwhile"
                } catch {
                    return error.sqlState ?? ""
                }
            }
            #expect(outcome == "55P03")
        }
    }

    @Test("a request's state and its times agree")
    func requestStates() async throws {
        try await StorageHarness.with { harness in
            let head =
                "INSERT INTO requests (request_id, tenant_id, key_id, model, status, created_at, completed_at, error_code) VALUES "
            let values = "(gen_random_uuid(), '\(Seed.tenantA)', '\(Seed.keyA)', 'm', "
            try await #expect(harness.sqlState(of: head + values + "'completed', now(), NULL, NULL)") == "23514")
            try await #expect(harness.sqlState(of: head + values + "'completed', now(), now(), 'x')") == "23514")
            try await #expect(harness.sqlState(of: head + values + "'failed', now(), now(), NULL)") == "23514")
            try await #expect(harness.sqlState(of: head + values + "'queued', now(), now(), NULL)") == "23514")
            try await #expect(harness.sqlState(of: head + values + "'failed', now(), now(), 'x')") == nil)
        }
    }
}
