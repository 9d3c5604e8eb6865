import Domain
import PostgresDriver
import Storage
import TestSupport
import Testing

@Suite("usage and its roll-up")
struct RollUpTests {
    private static let ledgerByGroup = """
        SELECT tenant_id, usage_bucket(occurred_at), key_id, model, tier_version_id, sum(requests), sum(input_tokens),
            sum(cached_input_tokens), sum(output_tokens) FROM ledger GROUP BY 1, 2, 3, 4, 5 ORDER BY 1, 2, 3, 4, 5
        """
    private static let usageByGroup = """
        SELECT tenant_id, bucket_start, key_id, model, tier_version_id, requests_count, input_tokens, cached_input_tokens, output_tokens
        FROM usage ORDER BY 1, 2, 3, 4, 5
        """

    /// Entries of both tenants, some keys and models, over some hours.
    private func fill(_ harness: StorageHarness, count: Int) async throws {
        let now = MachineTime().now
        try await harness.run("SELECT ensure_partitions(now() - interval '2 months', 2)")
        let batch = (0..<count).map { number in
            let isA = number % 3 != 0
            return Seed.settlement(
                tenant: isA ? Seed.tenantA : Seed.tenantB,
                key: isA ? (number % 2 == 0 ? Seed.keyA : Seed.keyA2) : Seed.keyB,
                model: number % 5 == 0 ? "iris" : "other", at: now.advanced(byMilliseconds: -Int64(number) * 413_000),
                input: Int64(number), cached: Int64(number / 2), output: Int64(number % 7))
        }
        _ = try await harness.settle(batch)
    }

    private func wholeTime(_ tenant: TenantID, byKey: Bool = false) -> UsageQuery {
        let now = MachineTime().now
        return UsageQuery(
            tenantID: tenant,
            days: [
                UsageQuery.Stretch(
                    start: now.advanced(byMilliseconds: -90 * 86_400_000), end: now.advanced(byMilliseconds: 86_400_000)
                )
            ],
            groupsByKey: byKey, rowLimit: 1_000)
    }

    @Test("the roll-up equals the ledger, and a second one adds nothing")
    func equalsLedger() async throws {
        try await StorageHarness.with { harness in
            try await fill(harness, count: 200)
            try await harness.withPool("weir_jobs") { pool in
                let store = HousekeepingStore(pool: pool)
                var added: Int64 = 0
                try await eventually("all of it is rolled up") {
                    added += try await store.rollUpUsage()
                    return added >= 200
                }
                #expect(added == 200)
                try await #expect(store.rollUpUsage() == 0)
            }
            let usage = try await harness.ask(Self.usageByGroup)
            try await #expect(usage == harness.ask(Self.ledgerByGroup))
            #expect(usage.count > 50)
            let models = try await harness.ask(
                "SELECT model_name, time_window, request_count, token_count FROM model_usage_metrics ORDER BY 1, 2")
            try await #expect(
                models
                    == harness.ask(
                        """
                        SELECT model, usage_bucket(occurred_at), sum(requests), sum(input_tokens + output_tokens) FROM ledger
                        GROUP BY 1, 2 ORDER BY 1, 2
                        """))
        }
    }

    @Test("emptied and rebuilt, it is the same")
    func rebuilt() async throws {
        try await StorageHarness.with { harness in
            try await fill(harness, count: 100)
            try await harness.rollUpAll()
            try await fill(harness, count: 50)
            try await harness.rollUpAll()
            let before = try await harness.ask(Self.usageByGroup)
            try await harness.run(
                "DELETE FROM usage; DELETE FROM model_usage_metrics; UPDATE rollup_watermark SET position = '0'",
                as: "weir_jobs")
            try await harness.rollUpAll()
            try await #expect(harness.ask(Self.usageByGroup) == before)
        }
    }

    @Test("a transaction that began early and commits late is not skipped")
    func lateCommit() async throws {
        try await StorageHarness.with { harness in
            let late = Seed.settlement(model: "late")
            try await harness.onSession("weir_writer") { slow in
                try slow.begin()
                _ = try SettlementText.write([late], gateway: Seed.gateway, on: slow)
                let other = PostgresSession(configuration: try harness.configuration("weir_writer"))
                let jobs = PostgresSession(configuration: try harness.configuration("weir_jobs"))
                try other.connect()
                try jobs.connect()
                _ = try SettlementText.write([Seed.settlement(model: "early")], gateway: Seed.otherGateway, on: other)
                // The later transaction is committed, the earlier is not: neither may be passed.
                try #expect(jobs.execute(DatabaseQuestion("SELECT roll_up_usage()")) == ["0"])
                try slow.commit()
                other.close()
                jobs.close()
            }
            try await harness.rollUpAll()
            try await #expect(harness.ask("SELECT model FROM usage ORDER BY 1") == ["early", "late"])
        }
    }

    @Test("it is exact after many commits at once, with a long transaction open and four roll-ups at a time")
    func concurrent() async throws {
        try await StorageHarness.with { harness in
            try await withThrowingTaskGroup(of: Void.self) { group in
                for number in 0..<4 {
                    group.addTask {
                        for _ in 0..<25 {
                            _ = try await harness.settle(
                                (0..<3).map { _ in Seed.settlement(model: "m\(number)") },
                                gateway: GatewayID(high: 1, low: UInt64(number) | 1 << 63))
                        }
                    }
                    group.addTask {
                        for _ in 0..<25 { _ = try await harness.ask("SELECT roll_up_usage()", as: "weir_jobs") }
                    }
                }
                group.addTask {
                    try await harness.onSession("weir_writer") { slow in
                        for _ in 0..<5 {
                            try slow.begin()
                            _ = try SettlementText.write(
                                [Seed.settlement(model: "slow")], gateway: Seed.gateway, on: slow)
                            try slow.run(script: "SELECT pg_sleep(0.05)")
                            try slow.commit()
                        }
                    }
                }
                try await group.waitForAll()
            }
            try await harness.rollUpAll()
            try await #expect(harness.ask("SELECT sum(requests_count) FROM usage") == ["305"])
            try await #expect(harness.ask(Self.usageByGroup) == harness.ask(Self.ledgerByGroup))
        }
    }

    @Test("what a customer reads is the ledger at every moment, while it grows and is rolled up")
    func usageAtEveryMoment() async throws {
        try await StorageHarness.with { harness in
            let isDone = DoneFlag()
            try await withThrowingTaskGroup(of: Void.self) { group in
                for number in 0..<2 {
                    group.addTask {
                        for _ in 0..<40 {
                            _ = try await harness.settle(
                                (0..<2).map { _ in Seed.settlement() },
                                gateway: GatewayID(high: 1, low: UInt64(number) | 1 << 63))
                        }
                    }
                }
                group.addTask {
                    while !isDone.isSet { _ = try await harness.ask("SELECT roll_up_usage()", as: "weir_jobs") }
                }
                group.addTask {
                    try await harness.withPool("weir_reader") { pool in
                        let store = CustomerStore(pool: pool)
                        var last: Int64 = 0
                        while last < 160 {
                            let before =
                                try await harness.ask("SELECT count(*) FROM ledger").first.flatMap { Int64($0) } ?? 0
                            let rows = try await store.usage(wholeTime(Seed.tenantA))
                            let after =
                                try await harness.ask("SELECT count(*) FROM ledger").first.flatMap { Int64($0) } ?? 0
                            let seen = rows.reduce(0) { $0 + $1.requests }
                            #expect(
                                (before...after).contains(seen),
                                "the ledger had \(before) to \(after), usage said \(seen)")
                            #expect(rows.reduce(0) { $0 + $1.inputTokens } == seen * 7)
                            last = after
                        }
                        isDone.set()
                    }
                }
                try await group.waitForAll()
            }
        }
    }

    @Test("groups: by model and price version always, by key when asked; nothing of another tenant")
    func groups() async throws {
        try await StorageHarness.with { harness in
            _ = try await harness.settle([
                Seed.settlement(key: Seed.keyA, model: "a"), Seed.settlement(key: Seed.keyA2, model: "a"),
                Seed.settlement(key: Seed.keyA, model: "b"),
                Seed.settlement(tenant: Seed.tenantB, key: Seed.keyB, model: "a"),
            ])
            _ = try await harness.ask("SELECT roll_up_usage()", as: "weir_jobs")
            _ = try await harness.settle([
                Seed.settlement(key: Seed.keyA, model: "a"),
                Seed.settlement(key: Seed.keyA, model: "a", tier: Seed.draftTier),
            ])
            try await harness.withPool("weir_reader") { pool in
                let store = CustomerStore(pool: pool)
                func row(_ model: String, _ tier: TierVersionID, _ key: KeyID?, _ count: Int64) -> UsageRow {
                    UsageRow(
                        day: 0, model: model, tierVersionID: tier, keyID: key, requests: count, inputTokens: count * 7,
                        cachedInputTokens: count * 2, outputTokens: count * 3)
                }
                try await #expect(
                    store.usage(wholeTime(Seed.tenantA)) == [
                        row("a", Seed.tier, nil, 3), row("a", Seed.draftTier, nil, 1), row("b", Seed.tier, nil, 1),
                    ])
                try await #expect(
                    store.usage(wholeTime(Seed.tenantA, byKey: true)) == [
                        row("a", Seed.tier, Seed.keyA, 2), row("a", Seed.tier, Seed.keyA2, 1),
                        row("a", Seed.draftTier, Seed.keyA, 1),
                        row("b", Seed.tier, Seed.keyA, 1),
                    ])
                try await #expect(store.usage(wholeTime(Seed.tenantB)).map(\.requests) == [1])
            }
        }
    }

    @Test("days are cut at the instants that are asked for, rolled up or not", arguments: [false, true])
    func days(isRolledUp: Bool) async throws {
        try await StorageHarness.with { harness in
            let quarter: Int64 = 900_000_000
            let midnight = Timestamp(
                microsecondsSince1970: MachineTime().now.microsecondsSince1970 / quarter * quarter - 40 * quarter)
            func at(_ microseconds: Int64) -> Timestamp {
                Timestamp(microsecondsSince1970: midnight.microsecondsSince1970 + microseconds)
            }
            try await harness.run("SELECT ensure_partitions(now() - interval '1 month', 1)")
            _ = try await harness.settle([
                Seed.settlement(at: at(-1)), Seed.settlement(at: at(0)), Seed.settlement(at: at(4 * quarter - 1)),
                Seed.settlement(at: at(4 * quarter)), Seed.settlement(at: at(8 * quarter)),
            ])
            if isRolledUp { _ = try await harness.ask("SELECT roll_up_usage()", as: "weir_jobs") }
            try await harness.withPool("weir_reader") { pool in
                let rows = try await CustomerStore(pool: pool).usage(
                    UsageQuery(
                        tenantID: Seed.tenantA,
                        days: [
                            UsageQuery.Stretch(start: at(0), end: at(4 * quarter)),
                            UsageQuery.Stretch(start: at(4 * quarter), end: at(8 * quarter)),
                        ], groupsByKey: false, rowLimit: 1_000))
                #expect(rows.map(\.day) == [0, 1])
                #expect(rows.map(\.requests) == [2, 1])
            }
        }
    }
}
