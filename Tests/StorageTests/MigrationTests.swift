import Domain
import PostgresDriver
import Storage
import TestSupport
import Testing

@Suite("the schema")
struct MigrationTests {
    private func migrator(_ url: String) throws -> PostgresMigrator {
        PostgresMigrator(
            configuration: try PostgresConfiguration(url: url), migrations: StorageMigrations.all,
            logger: StorageHarness.logger)
    }

    @Test("an empty database is brought up once, and a second time nothing is left to do")
    func upFromEmpty() async throws {
        try await PostgresServer.withDatabase { url in
            let first = try await migrator(url).migrate()
            #expect(first.map(\.number) == Array(1...StorageMigrations.all.count))
            let second = try await migrator(url).migrate()
            #expect(second.isEmpty)
            let status = try await migrator(url).status()
            #expect(status.allSatisfy { $0.standing == .applied })
        }
    }

    @Test("the month of the migration and the coming ones have partitions of requests and ledger")
    func partitionsAreThere() async throws {
        try await StorageHarness.with { harness in
            // Not `now()`: the database is a copy, and its model may have been made last month.
            let month = "date_trunc('month', (SELECT max(applied_at) FROM schema_migrations) AT TIME ZONE 'UTC')"
            for parent in ["requests", "ledger"] {
                let missing = try await harness.ask(
                    """
                    SELECT n FROM generate_series(-1, 3) n
                    WHERE to_regclass('\(parent)_y' || to_char(\(month) + n * interval '1 month', 'YYYY"m"MM')) IS NULL
                    """)
                #expect(missing.isEmpty, "months of \(parent) without a partition")
            }
        }
    }

    @Test(
        "the partitions of the months meet without a gap: the last and the first millisecond of a month have one each")
    func rowsGoToTheirMonth() async throws {
        try await StorageHarness.with { harness in
            let edge = try await harness.ask(
                "SELECT (extract(epoch FROM date_trunc('month', now() AT TIME ZONE 'UTC') + interval '1 month') * 1000)::bigint"
            )
            let milliseconds = try #require(Int64(edge[0]))
            let last = Seed.settlement(at: Timestamp(microsecondsSince1970: milliseconds * 1_000 - 1_000))
            let first = Seed.settlement(at: Timestamp(microsecondsSince1970: milliseconds * 1_000))
            _ = try await harness.settle([last, first])
            for parent in ["requests", "ledger"] {
                let column = parent == "requests" ? "request_id" : "entry_id"
                let months =
                    "to_char(date_trunc('month', now() AT TIME ZONE 'UTC') + n * interval '1 month', '\"_y\"YYYY\"m\"MM')"
                let expected = try await harness.ask(
                    "SELECT '\(parent)' || \(months) FROM generate_series(0, 1) n ORDER BY n")
                let found = try await harness.ask("SELECT tableoid::regclass::text FROM \(parent) ORDER BY \(column)")
                #expect(found == expected)
            }
        }
    }

    @Test("a row of a month without a partition is kept in the default partition, and that is told")
    func strayRows() async throws {
        try await StorageHarness.with { harness in
            try await harness.withPool("weir_jobs") { pool in
                let store = HousekeepingStore(pool: pool)
                try await #expect(store.hasStrayRows() == false)
                let farAway = Timestamp(
                    microsecondsSince1970: MachineTime().now.microsecondsSince1970 + 400 * 86_400_000_000)
                let refused = try await harness.settle([Seed.settlement(at: farAway)])
                #expect(refused.isEmpty)
                try await #expect(harness.ask("SELECT tableoid::regclass::text FROM ledger") == ["ledger_default"])
                try await #expect(store.hasStrayRows() == true)
            }
        }
    }

    @Test("one stray row is told of in either table")
    func strayRequestAlone() async throws {
        try await StorageHarness.with { harness in
            let farAway = Timestamp(
                microsecondsSince1970: MachineTime().now.microsecondsSince1970 + 400 * 86_400_000_000)
            _ = try await harness.settle([Seed.settlement(outcome: .failed, at: farAway)])
            try await harness.withPool("weir_jobs") { pool in
                try await #expect(HousekeepingStore(pool: pool).hasStrayRows() == true)
            }
        }
    }

    @Test("a stray row of one month does not keep the partitions of the other months from being made")
    func strayRowsDoNotBlock() async throws {
        try await StorageHarness.with { harness in
            let farAway = Timestamp(
                microsecondsSince1970: MachineTime().now.microsecondsSince1970 + 400 * 86_400_000_000)
            _ = try await harness.settle([Seed.settlement(outcome: .failed, at: farAway)])
            let from = "to_timestamp(\(farAway.microsecondsSince1970 / 1_000_000)) - interval '1 month'"
            try await #expect(harness.ask("SELECT ensure_partitions(\(from), 3)", as: "weir_jobs") == ["5"])
            // The row is still there and still told of.
            try await #expect(harness.ask("SELECT count(*) FROM requests_default") == ["1"])
        }
    }

    @Test("making partitions is repeatable, and a jobs process may do it")
    func ensureIsIdempotent() async throws {
        try await StorageHarness.with { harness in
            try await harness.withPool("weir_jobs") { pool in
                let store = HousekeepingStore(pool: pool)
                // A copy of last month's database lacks a month.
                _ = try await store.ensurePartitions()
                try await #expect(store.ensurePartitions() == 0)
            }
            let ahead = "SELECT ensure_partitions(now() + interval '24 months', 3)"
            try await #expect(harness.ask(ahead, as: "weir_jobs") == ["6"])
            try await #expect(harness.ask(ahead, as: "weir_jobs") == ["0"])
        }
    }

    @Test("eight processes that make the same partitions make each of them once")
    func ensureIsConcurrent() async throws {
        try await StorageHarness.with { harness in
            let made = try await withThrowingTaskGroup(of: Int.self) { group in
                for _ in 0..<8 {
                    group.addTask {
                        let answer = try await harness.ask(
                            "SELECT ensure_partitions(now() + interval '24 months', 2)", as: "weir_jobs")
                        return Int(answer[0]) ?? -1
                    }
                }
                return try await group.reduce(into: []) { $0.append($1) }
            }
            #expect(made.sorted() == [0, 0, 0, 0, 0, 0, 0, 4])
        }
    }

    @Test("the lock number of a gateway is the same in the database and in the program")
    func gatewayLock() async throws {
        try await StorageHarness.with { harness in
            for gateway in [
                Seed.gateway, GatewayID(high: 1, low: 0x7FFF_FFFF_FFFF_FFFF), GatewayID(high: 1, low: .max),
            ] {
                let answer = try await harness.ask("SELECT gateway_lock('\(gateway)')")
                #expect(answer == ["\(Int64(bitPattern: gateway.low))"])
            }
        }
    }

    @Test(
        "every change of what a gateway keeps in memory advances the generation",
        arguments: [
            "UPDATE tenants SET state = 'suspended'", "UPDATE api_keys SET revoked_at = now()",
            "UPDATE subscriptions SET ends_at = now() + interval '1 h'",
            "UPDATE quotas SET amount = amount + 1", "INSERT INTO model_registry (model_name) VALUES ('m')",
            "INSERT INTO routes (model_name, address) VALUES ('m', '127.0.0.1:1')",
        ])
    func generation(change: String) async throws {
        try await StorageHarness.with { harness in
            try await harness.withPool("weir_directory") { pool in
                let store = KeyStore(pool: pool)
                let before = try await store.generation()
                try await harness.run(change, as: "weir_admin")
                try await #expect(store.generation() > before)
            }
        }
    }
}
