import Domain
import PostgresDriver
import Storage
import TestSupport
import Testing

@Suite("thresholds that use crosses")
struct QuotaWatchTests {
    /// Tenant A's tokens: 1,000 a month.
    private static let quota = Seed.tokenQuotaA.with(amount: 1_000)

    private func withWatch(
        mode: String = "hard", _ body: (StorageHarness, HousekeepingStore, LeaseStore) async throws -> Void
    ) async throws {
        try await StorageHarness.with { harness in
            try await harness.run(
                "UPDATE quotas SET amount = 1000, mode = '\(mode)' WHERE quota_id = '\(Seed.tokensA)'")
            try await harness.withPool("weir_jobs") { pool in
                try await harness.withLeases { leases in
                    try await body(harness, HousekeepingStore(pool: pool), leases)
                }
            }
        }
    }

    /// Looks at once, however short ago somebody looked.
    private func look(_ harness: StorageHarness, _ store: HousekeepingStore) async throws -> [QuotaEvent] {
        try await harness.run(
            "UPDATE quota_watch SET looked_at = looked_at - interval '2 seconds' WHERE isfinite(looked_at)")
        return try await store.raiseEvents(try await store.lookAtQuotas())
    }

    /// How many a look sees that wants an hour between two: the usual pause may pass while a busy machine does something else.
    private func patientLook(_ harness: StorageHarness) async throws -> Int {
        try await harness.ask("SELECT quota FROM look_at_quotas(3600000, 60000)", as: "weir_jobs").count
    }

    private func spend(_ harness: StorageHarness, _ tokens: Int64, on lease: LeaseRequest) async throws {
        let refused = try await harness.settle([
            Seed.settlement(input: tokens, cached: 0, output: 0, lease: lease.leaseID)
        ])
        #expect(refused.isEmpty)
    }

    @Test("a threshold raises its event when the ledger has crossed it, once, on open leases and on closed ones")
    func once() async throws {
        try await withWatch { harness, store, leases in
            let first = Seed.request([(Self.quota, 990, 990)])
            _ = try await leases.acquire(first)
            try await #expect(look(harness, store).isEmpty, "all of it is held and nothing is used")
            try await spend(harness, 499, on: first)
            try await #expect(look(harness, store).isEmpty)
            try await spend(harness, 1, on: first)
            let half = try await look(harness, store)
            #expect(half.map(\.thresholdPercent) == [50])
            #expect(half.first?.used == 500 && half.first?.allowed == 1_000 && half.first?.crossedAt != nil)
            #expect(half.first?.tenantID == Seed.tenantA && half.first?.mode == .hard)
            try await #expect(look(harness, store).isEmpty)
            try await spend(harness, 490, on: first)
            try await leases.close([first.leaseID])
            // Two thresholds at once, one of them just not: 990 of 1,000.
            try await #expect(look(harness, store).map(\.thresholdPercent) == [80])
            try await #expect(look(harness, store).isEmpty)
            let rows = try await harness.ask("SELECT threshold_percent, used FROM quota_events ORDER BY 1")
            #expect(rows == ["50|500", "80|990"])
        }
    }

    @Test("of many that look at once one sees, and each event is raised once")
    func concurrent() async throws {
        try await withWatch { harness, store, leases in
            let lease = Seed.request([(Self.quota, 990, 990)])
            _ = try await leases.acquire(lease)
            try await spend(harness, 900, on: lease)
            try await harness.run("UPDATE quota_watch SET looked_at = '-infinity'")
            let seen = try await withThrowingTaskGroup(of: Int.self) { group in
                for _ in 0..<8 { group.addTask { try await patientLook(harness) } }
                return try await group.reduce(0, +)
            }
            #expect(seen == 1)
            // A process that died after looking raised nothing: the next look sees it again, and raising twice is raising once.
            try await harness.run("UPDATE quota_watch SET looked_at = '-infinity'")
            let standings = try await store.lookAtQuotas()
            let raised = try await withThrowingTaskGroup(of: [QuotaEvent].self) { group in
                for _ in 0..<8 { group.addTask { try await store.raiseEvents(standings) } }
                return try await group.reduce(into: []) { $0 += $1 }
            }
            #expect(raised.map(\.thresholdPercent).sorted() == [50, 80])
            try await #expect(harness.ask("SELECT count(*) FROM quota_events") == ["2"])
        }
    }

    @Test("a look comes no sooner than a moment after the last one, whoever made it")
    func pause() async throws {
        try await withWatch { harness, store, leases in
            let lease = Seed.request([(Self.quota, 990, 990)])
            _ = try await leases.acquire(lease)
            try await spend(harness, 900, on: lease)
            try await #expect(store.lookAtQuotas().count == 1)
            try await harness.run("UPDATE quota_watch SET looked_at = clock_timestamp()")
            try await #expect(patientLook(harness) == 0)
            // A clock that was set back does not end the watch.
            try await harness.run("UPDATE quota_watch SET looked_at = clock_timestamp() + interval '1 day'")
            try await #expect(patientLook(harness) == 1)
        }
    }

    @Test(
        "a limit that is lowered below the use raises its thresholds, also where no lease is open; a raise takes none back"
    )
    func changedLimit() async throws {
        try await withWatch { harness, store, leases in
            let lease = Seed.request([(Self.quota, 400, 400)])
            _ = try await leases.acquire(lease)
            try await spend(harness, 400, on: lease)
            try await leases.close([lease.leaseID])
            try await #expect(look(harness, store).isEmpty)
            // Long after the lease was closed.
            try await harness.run("UPDATE quota_leases SET closed_at = now() - interval '1 hour'")
            try await #expect(look(harness, store).isEmpty)
            try await harness.run("UPDATE quotas SET amount = 450 WHERE quota_id = '\(Seed.tokensA)'")
            let lowered = try await look(harness, store)
            #expect(lowered.map(\.thresholdPercent).sorted() == [50, 80])
            #expect(Set(lowered.map(\.amount)) == [450])
            try await harness.run("UPDATE quotas SET amount = 1000000 WHERE quota_id = '\(Seed.tokensA)'")
            try await #expect(look(harness, store).isEmpty)
            try await harness.run("UPDATE quotas SET amount = 300 WHERE quota_id = '\(Seed.tokensA)'")
            try await #expect(look(harness, store).map(\.thresholdPercent) == [100], "the others were raised before")
            try await #expect(harness.ask("SELECT count(*) FROM quota_events") == ["3"])
        }
    }

    @Test("a raise of the period counts, and the next period raises anew")
    func periods() async throws {
        try await withWatch { harness, store, leases in
            let lease = Seed.request([(Self.quota, 600, 600)])
            _ = try await leases.acquire(lease)
            try await spend(harness, 600, on: lease)
            try await harness.run(
                """
                INSERT INTO quota_raises (raise_id, quota_id, tenant_id, amount, starts_at, ends_at)
                SELECT gen_random_uuid(), quota_id, tenant_id, 1000, period_start, period_end FROM quota_periods
                """)
            try await #expect(look(harness, store).isEmpty)
            try await spend(harness, 0, on: lease)
            try await harness.run("UPDATE quota_raises SET amount = 100")
            let raised = try await look(harness, store)
            #expect(raised.map(\.thresholdPercent) == [50])
            #expect(raised.first?.amount == 1_000 && raised.first?.allowed == 1_100)
            // The month before, as it would be seen just after its end.
            try await harness.run(
                """
                INSERT INTO quota_periods (quota_id, period_start, period_end, tenant_id, settled)
                SELECT quota_id, period_start - interval '1 month', clock_timestamp() - interval '1 minute', tenant_id, 600 FROM quota_periods;
                UPDATE quota_watch SET swept_at = '-infinity'
                """)
            try await #expect(look(harness, store).map(\.thresholdPercent) == [50])
            try await #expect(harness.ask("SELECT count(*) FROM quota_events") == ["2"])
        }
    }

    @Test(
        "use goes on beyond a limit that does not refuse, and leases are told", arguments: ["soft", "pay_as_you_go"])
    func exceeded(mode: String) async throws {
        try await withWatch(mode: mode) { harness, store, leases in
            let quota = Quota(
                id: Seed.tokensA, unit: .tokens, frequency: .month, amount: 1_000,
                mode: try #require(QuotaMode(rawValue: mode)))
            let lease = Seed.request([(quota, 5_000, 5_000)])
            guard case .granted(let grants, _) = try await leases.acquire(lease) else {
                Issue.record("refused")
                return
            }
            #expect(grants.map(\.isExceeded) == [false] && grants.map(\.freeAfterwards) == [-4_000])
            try await spend(harness, 1_000, on: lease)
            try await #expect(look(harness, store).map(\.thresholdPercent).sorted() == [50, 80, 100])
            try await #expect(leases.renew([lease.leaseID]).exceeded.isEmpty, "all of it is used, and no more")
            try await spend(harness, 1, on: lease)
            try await #expect(look(harness, store).isEmpty)
            try await #expect(leases.renew([lease.leaseID]).exceeded == [lease.leaseID: [Seed.tokensA]])
            guard case .granted(let more, _) = try await leases.acquire(Seed.request([(quota, 10, 10)])) else {
                Issue.record("refused")
                return
            }
            #expect(more.map(\.isExceeded) == [true])
            // Once it is known, no look reads the ledger for it again.
            try await harness.run("UPDATE quota_watch SET looked_at = '-infinity'")
            try await #expect(store.lookAtQuotas().isEmpty)
            try await harness.run("UPDATE quotas SET amount = 9000 WHERE quota_id = '\(Seed.tokensA)'")
            try await #expect(leases.renew([lease.leaseID]).exceeded.isEmpty)
        }
    }

    @Test("what is crossed is shown to its tenant with the quota, and to the operator as a feed")
    func shown() async throws {
        try await withWatch(mode: "pay_as_you_go") { harness, store, leases in
            let lease = Seed.request([(Self.quota, 5_000, 5_000)])
            _ = try await leases.acquire(lease)
            try await spend(harness, 1_200, on: lease)
            let events = try await look(harness, store)
            try await harness.withPool("weir_reader") { pool in
                let states = try await CustomerStore(pool: pool).quotaStates(
                    tenantID: Seed.tenantA, periods: [(Seed.tokensA, Seed.period(Seed.tokenQuotaA))])
                #expect(states.first?.crossed.map(\.percent) == [50, 80, 100])
                #expect(states.first?.settled == 1_200 && states.first?.quota.mode == .payAsYouGo)
                #expect(states.first?.thresholds == .standard)
            }
            try await harness.withPool("weir_admin") { pool in
                let admin = AdministrationStore(pool: pool, reports: pool, pepper: [], time: MachineTime())
                let all = try await admin.quotaEvents(of: nil, PageRequest(limit: 10))
                #expect(Set(all.elements.map(\.event.id)) == Set(events.map(\.id)) && !all.hasMore)
                #expect(all.elements.map(\.event.id) == all.elements.map(\.event.id).sorted(by: >))
                let first = try await admin.quotaEvents(of: Seed.tenantA, PageRequest(limit: 2))
                #expect(first.elements.count == 2 && first.hasMore)
                let rest = try await admin.quotaEvents(
                    of: Seed.tenantA, PageRequest(limit: 2, after: first.elements.last?.event.id))
                #expect(rest.elements.count == 1 && !rest.hasMore)
                #expect(Set((first.elements + rest.elements).map(\.event.thresholdPercent)) == [50, 80, 100])
                try await #expect(admin.quotaEvents(of: Seed.tenantB, PageRequest(limit: 2)).elements.isEmpty)
            }
        }
    }

    @Test(
        "a list of thresholds that is none is not stored",
        arguments: ["{0}", "{1001}", "{80,50}", "{50,50}", "{1,NULL}", "{1,2,3,4,5,6,7,8,9,10,11}", "{{50},{80}}"])
    func checks(list: String) async throws {
        try await StorageHarness.with { harness in
            let state = try await harness.sqlState(of: "UPDATE quotas SET thresholds_percent = '\(list)'")
            #expect(state == "23514")
            try await harness.run("UPDATE quotas SET thresholds_percent = '{}'")
            try await harness.run("UPDATE quotas SET thresholds_percent = '{1,1000}', mode = 'pay_as_you_go'")
        }
    }
}
