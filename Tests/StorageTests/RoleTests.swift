import Domain
import PostgresDriver
import Storage
import TestSupport
import Testing

@Suite("roles and row-level security")
struct RoleTests {
    private static let roles = [
        "weir_writer", "weir_directory", "weir_reader", "weir_customer", "weir_jobs", "weir_admin", "weir_reports",
    ]

    @Test("no role signs in, bypasses row-level security or is more than a role")
    func attributes() async throws {
        try await StorageHarness.with { harness in
            let list = Self.roles.map { "'\($0)'" }.joined(separator: ", ")
            let plain = try await harness.ask(
                """
                SELECT count(*) FROM pg_roles WHERE rolname IN (\(list)) AND NOT (rolsuper OR rolbypassrls OR rolcanlogin OR rolcreaterole
                    OR rolcreatedb OR rolreplication)
                """)
            #expect(plain == ["7"])
        }
    }

    /// What each role may do to each table: S, I, U, D for the whole table, lower case where some columns only.
    private static let expected: [String: [String: String]] = [
        "weir_writer": [
            // A job's row is there before it is settled.
            "requests": "sIu", "jobs": "sIu", "tier_versions": "s", "results": "sIu", "binary_results": "sIu",
            "ledger": "sI", "quotas": "S",
            "quota_periods": "SIU",
            "quota_leases": "SIU",
            "quota_lease_slices": "SIU", "quota_raises": "S", "idempotency_keys": "suD", "refusals": "sI",
        ],
        "weir_directory": [
            "tenants": "S", "subscriptions": "S", "tiers": "S", "tier_versions": "S", "tier_prices": "S",
            "tier_quotas": "S",
            "control_generation": "S", "api_keys": "S", "quotas": "S", "quota_raises": "S", "model_registry": "S",
            "routes": "S", "tier_rate_limits": "S", "subscription_rate_limits": "S", "key_rate_limits": "S",
            "model_versions": "S", "model_aliases": "S", "workers": "S",
            "cache_clearings": "S", "tier_price_bands": "S", "tier_multipliers": "S", "signing_keys": "S",
            "subscription_changes": "S", "prepaid_balances": "S",
        ],
        "weir_reader": [
            "prepaid_balances": "S",
            "tenants": "S", "users": "S", "subscriptions": "S", "tiers": "S", "tier_versions": "S", "tier_prices": "S",
            "tier_quotas": "S", "control_generation": "S", "api_keys": "s", "requests": "S", "results": "S",
            "binary_results": "S",
            "ledger": "S", "quotas": "S", "quota_periods": "S", "quota_leases": "S", "quota_lease_slices": "S",
            "quota_raises": "S", "model_registry": "S", "routes": "S", "usage": "S", "rollup_watermark": "S",
            "audit_log": "S", "tier_rate_limits": "S", "subscription_rate_limits": "S", "key_rate_limits": "S",
            "quota_events": "S", "refusals": "S", "retention_erasures": "S", "jobs": "S",
            "usage_tags": "S", "tag_usage": "S", "term_usage": "S", "usage_minutes": "S", "ledger_heads": "S",
            "sealed_entries": "S", "sealed_audit": "S",
            "signing_keys": "s",
            "tier_price_bands": "S", "tier_multipliers": "S", "subscription_changes": "S", "credit_grants": "S",
            "invoices": "S", "invoice_lines": "S", "invoice_usage": "S", "credit_applications": "S", "adjustments": "S",
        ],
        "weir_jobs": [
            "tenants": "S", "subscriptions": "S", "tiers": "S", "tier_versions": "S", "tier_prices": "S",
            "tier_quotas": "S",
            "control_generation": "S", "requests_default": "s", "ledger": "S", "ledger_default": "S", "quotas": "S",
            "quota_periods": "SIU", "quota_leases": "SIUD", "quota_lease_slices": "SIUD", "quota_raises": "S",
            "tier_price_bands": "S", "tier_multipliers": "S", "quota_events": "SI", "quota_watch": "SU",
            "refusals": "suD", "model_registry": "S",
            "routes": "S",
            "usage": "SIUD", "model_usage_metrics": "SIUD", "rollup_watermark": "SU",
            "webhooks": "Su", "webhook_events": "SuD", "webhook_deliveries": "SUD", "jobs": "s",
            "usage_tags": "SI", "tag_usage": "SIUD", "term_usage": "SIUD", "usage_minutes": "SIUD",
            "model_latencies": "SIUD", "model_latency_days": "SIUD",
            "model_errors": "SIUD", "audit_log": "S", "seal_watermarks": "SU", "signing_keys": "SI",
            "sealed_entries": "SI", "sealed_audit": "SI", "ledger_heads": "SI", "audit_heads": "SI",
        ],
        "weir_customer": [
            "webhooks": "SIuD", "webhook_events": "s", "webhook_deliveries": "Su", "files": "SIuD", "file_chunks": "SI",
            "batches": "SIu",
        ],
    ]

    @Test("a role may do what its duty needs and nothing else", arguments: expected.keys.sorted())
    func privileges(role: String) async throws {
        try await StorageHarness.with { harness in
            let answers = try await harness.ask(
                """
                SELECT c.relname, (CASE WHEN has_table_privilege('\(role)', c.oid, 'SELECT') THEN 'S'
                        WHEN has_any_column_privilege('\(role)', c.oid, 'SELECT') THEN 's' ELSE '' END)
                    || (CASE WHEN has_table_privilege('\(role)', c.oid, 'INSERT') THEN 'I'
                        WHEN has_any_column_privilege('\(role)', c.oid, 'INSERT') THEN 'i' ELSE '' END)
                    || (CASE WHEN has_table_privilege('\(role)', c.oid, 'UPDATE') THEN 'U'
                        WHEN has_any_column_privilege('\(role)', c.oid, 'UPDATE') THEN 'u' ELSE '' END)
                    || (CASE WHEN has_table_privilege('\(role)', c.oid, 'DELETE') THEN 'D' ELSE '' END)
                    || (CASE WHEN has_table_privilege('\(role)', c.oid, 'TRUNCATE, REFERENCES, TRIGGER') THEN 'X' ELSE '' END)
                FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') ORDER BY 1
                """)
            var found: [String: String] = [:]
            for line in answers {
                let parts = line.split(separator: "|", omittingEmptySubsequences: false)
                if !parts[1].isEmpty { found[String(parts[0])] = String(parts[1]) }
            }
            #expect(found == Self.expected[role])
        }
    }

    @Test("nobody but the owner writes the ledger otherwise than by inserting", arguments: roles)
    func ledgerRights(role: String) async throws {
        try await StorageHarness.with { harness in
            for change in [
                "UPDATE ledger SET requests = 0", "DELETE FROM ledger", "TRUNCATE ledger", "DELETE FROM requests",
            ] {
                try await #expect(harness.sqlState(of: change, as: role) == "42501", "\(change)")
            }
        }
    }

    @Test("the prompts of requests and the results are for the reader alone", arguments: roles)
    func content(role: String) async throws {
        try await StorageHarness.with { harness in
            let expected: String? = role == "weir_reader" ? nil : "42501"
            try await #expect(harness.sqlState(of: "SELECT prompt FROM requests", as: role) == expected)
            try await #expect(harness.sqlState(of: "SELECT content FROM results", as: role) == expected)
            try await #expect(harness.sqlState(of: "SELECT content FROM binary_results", as: role) == expected)
        }
    }

    @Test(
        "the writer reads nothing of a customer's",
        arguments: [
            "SELECT tenant_id FROM requests", "SELECT model FROM requests", "SELECT tenant_id FROM ledger",
            "SELECT model FROM ledger",
            "SELECT tenant_id FROM results", "SELECT * FROM tenants", "SELECT * FROM users",
            "SELECT digest FROM api_keys",
            "SELECT * FROM usage", "SELECT * FROM audit_log", "SELECT * FROM tier_prices",
            "SELECT * FROM requests_default",
        ])
    func writerReadsNothing(question: String) async throws {
        try await StorageHarness.with { harness in
            try await #expect(harness.sqlState(of: question, as: "weir_writer") == "42501")
        }
    }

    @Test("the digests of keys are for the directory alone", arguments: roles)
    func digests(role: String) async throws {
        try await StorageHarness.with { harness in
            let expected: String? = role == "weir_directory" || role == "weir_admin" ? nil : "42501"
            try await #expect(harness.sqlState(of: "SELECT digest FROM api_keys", as: role) == expected)
        }
    }

    @Test("no role makes a table, a function or a temporary object in the schema", arguments: roles)
    func noCreation(role: String) async throws {
        try await StorageHarness.with { harness in
            try await #expect(harness.sqlState(of: "CREATE TABLE mine (a int)", as: role) == "42501")
            try await #expect(
                harness.sqlState(of: "CREATE FUNCTION public.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'", as: role)
                    == "42501")
        }
    }

    @Test("making partitions is for jobs and administration", arguments: roles)
    func partitionsRight(role: String) async throws {
        try await StorageHarness.with { harness in
            let isAllowed = role == "weir_jobs" || role == "weir_admin"
            try await #expect(
                harness.sqlState(of: "SELECT ensure_partitions(now(), 1)", as: role) == (isAllowed ? nil : "42501"))
        }
    }

    /// Fills every table that has a tenant with a row for each of the two.
    private func fill(_ harness: StorageHarness) async throws {
        for (tenant, key, quota) in [
            (Seed.tenantA, Seed.keyA, Seed.tokenQuotaA), (Seed.tenantB, Seed.keyB, Seed.tokenQuotaB),
        ] {
            let lease = Seed.request([(quota, 10, 100)], tenant: tenant)
            _ = try await harness.withLeases { try await $0.acquire(lease) }
            _ = try await harness.settle([
                Seed.settlement(tenant: tenant, key: key, lease: lease.leaseID, prompt: "p", result: "{}")
            ])
            try await harness.run(
                """
                INSERT INTO audit_log (audit_id, actor, action, subject_type, subject_id, tenant_id)
                    VALUES (gen_random_uuid(), 'a', 'key.made', 'key', 'k', '\(tenant)');
                INSERT INTO binary_results (result_id, tenant_id, content, mime_type) VALUES (gen_random_uuid(), '\(tenant)', 'x', 'a/b');
                INSERT INTO quota_events (event_id, quota_id, period_start, threshold_percent, tenant_id, period_end, mode, used, amount,
                    allowed)
                    SELECT gen_random_uuid(), quota_id, period_start, 50, tenant_id, period_end, 'hard', 1, 2, 2 FROM quota_periods
                    WHERE tenant_id = '\(tenant)';
                INSERT INTO refusals (request_id, tenant_id, key_id, model, code, refused_at, policy, unit, allowed, remaining, requested)
                    VALUES (gen_random_uuid(), '\(tenant)', '\(key)', 'm', 'rate_limited', now(), 'rpm', 'requests', 1, 0, 1);
                INSERT INTO users (user_id, tenant_id) VALUES (gen_random_uuid(), '\(tenant)');
                """)
        }
        try await harness.rollUpAll()
    }

    private static let tenantTables = [
        "tenants", "users", "api_keys", "subscriptions", "requests", "results", "binary_results", "ledger", "quotas",
        "quota_periods",
        "quota_leases", "usage", "audit_log", "quota_events", "refusals",
    ]

    @Test("without a tenant a reader sees no row of anybody's")
    func noTenantSeesNothing() async throws {
        try await StorageHarness.with { harness in
            try await fill(harness)
            for table in Self.tenantTables + ["quota_lease_slices"] {
                try await #expect(harness.ask("SELECT count(*) FROM \(table)", as: "weir_reader") == ["0"], "\(table)")
                // An emptied setting, as a pooled connection has it after a transaction, is no tenant either.
                let afterwards = try await harness.onSession("weir_reader") { session in
                    _ = try session.pipeline(
                        PostgresLocalSetting("weir.tenant_id", Seed.tenantA.description), DatabaseQuestion("SELECT 1"))
                    return try session.execute(DatabaseQuestion("SELECT count(*) FROM \(table)"))
                }
                #expect(afterwards == ["0"], "\(table)")
            }
        }
    }

    @Test("a reader sees its tenant's rows in every table and nobody else's")
    func ownRowsOnly() async throws {
        try await StorageHarness.with { harness in
            try await fill(harness)
            for table in Self.tenantTables {
                let all = try await harness.ask("SELECT DISTINCT tenant_id FROM \(table) WHERE tenant_id IS NOT NULL")
                #expect(all.count == 2, "\(table) is filled for both")
                let seen = try await harness.ask(
                    "SELECT DISTINCT tenant_id FROM \(table)", as: "weir_reader", tenant: Seed.tenantA)
                #expect(seen == ["\(Seed.tenantA)"], "\(table)")
            }
            let slices = try await harness.ask(
                "SELECT quota_id FROM quota_lease_slices", as: "weir_reader", tenant: Seed.tenantA)
            #expect(slices == ["\(Seed.tokensA)"])
        }
    }

    @Test("every table with a tenant's column has row-level security on")
    func noTableForgotten() async throws {
        try await StorageHarness.with { harness in
            let forgotten = try await harness.ask(
                """
                SELECT c.relname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'tenant_id'
                WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition AND NOT c.relrowsecurity
                """)
            #expect(forgotten.isEmpty)
            let tables = try await harness.ask(
                """
                SELECT c.relname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'tenant_id'
                WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition ORDER BY 1
                """)
            #expect(Set(Self.tenantTables).isSubset(of: tables))
        }
    }

    @Test("a reader cannot go round the policies through a partition")
    func partitionsAreClosed() async throws {
        try await StorageHarness.with { harness in
            let partitions = try await harness.ask(
                "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent IN ('ledger'::regclass, 'requests'::regclass)"
            )
            #expect(partitions.count >= 12)
            for partition in partitions {
                let state = try await harness.sqlState(of: "SELECT count(*) FROM \(partition)", as: "weir_reader")
                #expect(state == "42501", "\(partition)")
            }
        }
    }
}
