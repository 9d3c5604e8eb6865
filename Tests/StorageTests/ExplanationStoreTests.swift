import Domain
import PostgresDriver
import Storage
import TestSupport
import Testing

@Suite("what is kept to explain requests")
struct ExplanationStoreTests {
    private func refusal(
        _ tenant: TenantID = Seed.tenantA, at instant: Timestamp = MachineTime().now, quota: Bool = true
    ) -> RefusalRecord {
        RefusalRecord(
            requestID: Seed.newRequestID(at: instant), tenantID: tenant, keyID: Seed.keyA, model: "iris",
            code: quota ? .quotaExceeded : .rateLimited, refusedAt: instant,
            numbers: RefusalRecord.Numbers(
                policy: quota ? "tokens-month" : "rpm", unit: quota ? .tokens : .requests, limit: 100,
                settled: quota ? 90 : nil, held: quota ? 5 : nil, remaining: 5, requested: 20,
                retryAfterMilliseconds: quota ? nil : 70, periodStart: quota ? instant : nil,
                periodEnd: quota ? instant.advanced(byMilliseconds: 1_000) : nil))
    }

    @Test("refusals are read as they were written, by their tenant alone, and twice is once")
    func refusals() async throws {
        try await StorageHarness.with { harness in
            let all = [refusal(), refusal(quota: false), refusal(Seed.tenantB)]
            try await harness.withPool("weir_writer") { pool in
                let table = RefusalTable(pool: pool)
                try await table.keep(all)
                try await table.keep(all)
                try await table.keep([])
            }
            try await harness.withPool("weir_reader") { pool in
                let store = CustomerStore(pool: pool)
                for known in all {
                    for tenant in [Seed.tenantA, Seed.tenantB] {
                        let read = try await store.refusal(of: known.requestID, tenantID: tenant)
                        #expect(read == (tenant == known.tenantID ? known : nil))
                    }
                }
                try await #expect(store.explanation(of: all[0].requestID, tenantID: Seed.tenantA) == nil)
            }
        }
    }

    @Test("old refusals go in batches, young ones stay")
    func oldRefusals() async throws {
        try await StorageHarness.with { harness in
            let now = MachineTime().now
            let old = (1...5).map { refusal(at: now.advanced(byMilliseconds: -48 * 3_600_000 - 60_000 * $0)) }
            let young = [refusal(), refusal(at: now.advanced(byMilliseconds: -47 * 3_600_000))]
            try await harness.withPool("weir_writer") { try await RefusalTable(pool: $0).keep(old + young) }
            try await harness.withPool("weir_jobs") { pool in
                let store = HousekeepingStore(pool: pool)
                try await #expect(store.removeRefusals(keepHours: 48, limit: 3) == 3)
                try await #expect(store.removeRefusals(keepHours: 48, limit: 3) == 2)
                try await #expect(store.removeRefusals(keepHours: 48, limit: 3) == 0)
            }
            try await #expect(
                Set(harness.ask("SELECT request_id FROM refusals")) == Set(young.map { "\($0.requestID)" }))
        }
    }

    @Test(
        "leases that were closed long ago go with their slices, in batches; periods stay, and so does the explanation's rest"
    )
    func oldLeases() async throws {
        try await StorageHarness.with { harness in
            let requests = (0..<5).map { _ in Seed.request([(Seed.tokenQuotaA, 10, 10), (Seed.requestQuotaA, 1, 1)]) }
            let charged = Seed.settlement(lease: requests[0].leaseID)
            try await harness.withLeases { leases in
                for request in requests { _ = try await leases.acquire(request) }
                _ = try await harness.settle([charged])
                try await leases.close(requests[0..<4].map(\.leaseID))
            }
            try await harness.run(
                """
                UPDATE quota_leases SET closed_at = now() - interval '49 hours'
                WHERE state = 'closed' AND lease_id <> '\(requests[3].leaseID)'
                """)
            let periods = try await harness.ask("SELECT quota_id, settled FROM quota_periods ORDER BY 1")
            try await harness.withPool("weir_jobs") { pool in
                let store = HousekeepingStore(pool: pool)
                try await #expect(store.removeClosedLeases(keepHours: 48, limit: 2) == 2)
                try await #expect(store.removeClosedLeases(keepHours: 48, limit: 2) == 1)
                try await #expect(store.removeClosedLeases(keepHours: 48, limit: 2) == 0)
            }
            let left = try await harness.ask("SELECT DISTINCT lease_id FROM quota_lease_slices ORDER BY 1")
            #expect(Set(left) == Set(requests[3...].map { "\($0.leaseID)" }))
            try await #expect(harness.ask("SELECT quota_id, settled FROM quota_periods ORDER BY 1") == periods)
            try await harness.withPool("weir_reader") { pool in
                let told = try #require(
                    try await CustomerStore(pool: pool).explanation(of: charged.requestID, tenantID: Seed.tenantA))
                #expect(told.leaseID == requests[0].leaseID && told.policies.isEmpty)
                #expect(told.heldTokens == 10 && told.row.billed != nil)
            }
        }
    }

    @Test("a charged request is told to lie within the limit or beyond it, where that is sure")
    func parts() async throws {
        try await StorageHarness.with { harness in
            try await harness.run(
                "UPDATE quotas SET amount = 10, mode = 'pay_as_you_go' WHERE quota_id = '\(Seed.tokensA)'")
            let quota = Quota(id: Seed.tokensA, unit: .tokens, frequency: .month, amount: 10, mode: .payAsYouGo)
            try await harness.withPool("weir_reader") { pool in
                let store = CustomerStore(pool: pool)
                func part(_ id: RequestID) async throws -> RequestExplanation.Part? {
                    try await store.explanation(of: id, tenantID: Seed.tenantA)?.policies.first?.part
                }
                let lease = Seed.request([(quota, 10, 10)])
                let first = Seed.settlement(input: 4, cached: 0, output: 0, lease: lease.leaseID)
                try await harness.withLeases { leases in
                    _ = try await leases.acquire(lease)
                    _ = try await harness.settle([first])
                    try await #expect(part(first.requestID) == .included, "not more is held than there is")
                    let more = Seed.request([(quota, 10, 10)])
                    _ = try await leases.acquire(more)
                    try await #expect(part(first.requestID) == nil, "it may lie on either side")
                    _ = try await harness.settle([Seed.settlement(input: 6, cached: 0, output: 0, lease: more.leaseID)])
                    try await harness.withPool("weir_jobs") { jobs in
                        let watch = HousekeepingStore(pool: jobs)
                        let raised = try await watch.raiseEvents(try await watch.lookAtQuotas())
                        #expect(raised.map(\.thresholdPercent).sorted() == [50, 80, 100])
                    }
                    let beyond = Seed.settlement(input: 3, cached: 0, output: 0, lease: more.leaseID)
                    _ = try await harness.settle([beyond])
                    try await #expect(part(beyond.requestID) == .overage)
                    try await #expect(part(first.requestID) == nil)
                }
            }
        }
    }
}
