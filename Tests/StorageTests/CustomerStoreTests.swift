import Domain
import PostgresDriver
import Storage
import TestSupport
import Testing

@Suite("a customer's reads")
struct CustomerStoreTests {
    /// Ten requests of tenant A, oldest first: every third one failed, every second one of model "b".
    private func fill(_ harness: StorageHarness) async throws -> [RequestID] {
        let now = MachineTime().now
        let settlements: [Settlement] = (0..<10).map { (number: Int64) -> Settlement in
            let outcome: Settlement.Outcome = number % 3 == 0 ? .failed : .completed
            return Seed.settlement(
                model: number % 2 == 0 ? "a" : "b", outcome: outcome, at: now.advanced(byMilliseconds: number))
        }
        _ = try await harness.settle(settlements + [Seed.settlement(tenant: Seed.tenantB, key: Seed.keyB)])
        return settlements.map(\.requestID)
    }

    private func query(
        limit: Int = 100, after: RequestID? = nil, before: RequestID? = nil, status: String? = nil, model: String? = nil
    ) -> RequestQuery {
        RequestQuery(tenantID: Seed.tenantA, limit: limit, after: after, before: before, status: status, model: model)
    }

    @Test("pages go from the newest to the oldest and back, without a gap or a repetition")
    func pages() async throws {
        try await StorageHarness.with { harness in
            let ids = try await fill(harness)
            let newestFirst = Array(ids.reversed())
            try await harness.withPool("weir_reader") { pool in
                let store = CustomerStore(pool: pool)
                try await #expect(store.requests(query()).rows.map(\.id) == newestFirst)
                var forwards: [RequestID] = []
                while true {
                    let page = try await store.requests(query(limit: 3, after: forwards.last)).rows.map(\.id)
                    guard !page.isEmpty else { break }
                    forwards += page
                }
                #expect(forwards == newestFirst)
                // The page nearest to the given one, still newest first.
                try await #expect(
                    store.requests(query(limit: 3, before: ids[2])).rows.map(\.id) == [ids[5], ids[4], ids[3]])
                try await #expect(store.requests(query(limit: 3, before: ids[9])).rows.isEmpty)
                try await #expect(store.requests(query(limit: 3, after: ids[0])).rows.isEmpty)
            }
        }
    }

    @Test("filters hold in both directions")
    func filters() async throws {
        try await StorageHarness.with { harness in
            let ids = try await fill(harness)
            try await harness.withPool("weir_reader") { pool in
                let store = CustomerStore(pool: pool)
                try await #expect(
                    store.requests(query(status: "failed")).rows.map(\.id) == [ids[9], ids[6], ids[3], ids[0]])
                try await #expect(
                    store.requests(query(model: "b")).rows.map(\.id) == [ids[9], ids[7], ids[5], ids[3], ids[1]])
                try await #expect(
                    store.requests(query(status: "failed", model: "b")).rows.map(\.id) == [ids[9], ids[3]])
                try await #expect(
                    store.requests(query(before: ids[3], status: "completed", model: "a")).rows.map(\.id) == [
                        ids[8], ids[4],
                    ])
                try await #expect(store.requests(query(model: "nothing")).rows.isEmpty)
            }
        }
    }

    @Test("one request with what was billed and kept")
    func one() async throws {
        try await StorageHarness.with { harness in
            let settlement = Seed.settlement(prompt: "p", result: #"{"y":1}"#)
            let failed = Seed.settlement(outcome: .failed)
            _ = try await harness.settle([settlement, failed])
            try await harness.withPool("weir_reader") { pool in
                let store = CustomerStore(pool: pool)
                let row = try #require(try await store.request(settlement.requestID, tenantID: Seed.tenantA))
                #expect(row.billed == Usage(inputTokens: 7, cachedInputTokens: 2, outputTokens: 3, source: .worker))
                #expect(row.result == #"{"y":1}"#)
                #expect(row.createdAt == settlement.createdAt)
                #expect(row.completedAt == settlement.completedAt)
                #expect(row.keyID == Seed.keyA)
                #expect(row.tierVersionID == Seed.tier)
                #expect(row.status == "completed")
                #expect(row.processingMicroseconds == 1_234)
                let other = try #require(try await store.request(failed.requestID, tenantID: Seed.tenantA))
                #expect(other.billed == nil)
                #expect(other.errorCode == "worker_failed")
                #expect(other.httpStatus == 502)
                #expect(other.result == nil)
            }
        }
    }

    @Test("another tenant's request and an unknown one are the same nothing")
    func foreign() async throws {
        try await StorageHarness.with { harness in
            let mine = Seed.settlement()
            _ = try await harness.settle([mine])
            try await harness.withPool("weir_reader") { pool in
                let store = CustomerStore(pool: pool)
                try await #expect(store.request(mine.requestID, tenantID: Seed.tenantB) == nil)
                try await #expect(store.request(Seed.newRequestID(), tenantID: Seed.tenantA) == nil)
                try await #expect(store.request(mine.requestID, tenantID: Seed.tenantA) != nil)
            }
        }
    }

    @Test("a read leaves no tenant behind on its connection")
    func nothingLeftBehind() async throws {
        try await StorageHarness.with { harness in
            _ = try await harness.settle([Seed.settlement()])
            try await harness.withPool("weir_reader", connections: 1) { pool in
                try await #expect(CustomerStore(pool: pool).requests(query()).rows.count == 1)
                let left = try await pool.execute(
                    DatabaseQuestion("SELECT count(*), coalesce(max(current_tenant()::text), '') FROM requests"))
                #expect(left == ["0|"])
            }
        }
    }

    @Test("a quota shows what is settled and held, with the ledger of open leases in it")
    func quotaStates() async throws {
        try await StorageHarness.with { harness in
            let periods = [
                (Seed.tokensA, Seed.period(Seed.tokenQuotaA)), (Seed.requestsA, Seed.period(Seed.requestQuotaA)),
            ]
            try await harness.withPool("weir_reader") { pool in
                let store = CustomerStore(pool: pool)
                func states() async throws -> [QuotaState] {
                    try await store.quotaStates(tenantID: Seed.tenantA, periods: periods).sorted {
                        $0.quota.id < $1.quota.id
                    }
                }
                try await #expect(
                    states() == [
                        QuotaState(quota: Seed.tokenQuotaA, settled: 0, held: 0),
                        QuotaState(quota: Seed.requestQuotaA, settled: 0, held: 0),
                    ])
                try await harness.withLeases { leases in
                    let request = Seed.request([(Seed.tokenQuotaA, 10, 100), (Seed.requestQuotaA, 1, 5)])
                    _ = try await leases.acquire(request)
                    _ = try await harness.settle([
                        Seed.settlement(lease: request.leaseID), Seed.settlement(lease: request.leaseID),
                    ])
                    try await #expect(
                        states() == [
                            QuotaState(quota: Seed.tokenQuotaA, settled: 20, held: 80),
                            QuotaState(quota: Seed.requestQuotaA, settled: 2, held: 3),
                        ])
                    try await leases.close([request.leaseID])
                }
                try await #expect(
                    states() == [
                        QuotaState(quota: Seed.tokenQuotaA, settled: 20, held: 0),
                        QuotaState(quota: Seed.requestQuotaA, settled: 2, held: 0),
                    ])
                // Another tenant asks for the same quotas.
                try await #expect(store.quotaStates(tenantID: Seed.tenantB, periods: periods).isEmpty)
            }
        }
    }

    @Test("a soft quota that is overdrawn holds nothing, not less than nothing")
    func overdrawnSoftQuota() async throws {
        try await StorageHarness.with { harness in
            try await harness.run("UPDATE quotas SET mode = 'soft' WHERE quota_id = '\(Seed.tokensA)'")
            try await harness.withLeases { leases in
                let overdrawn = Seed.request([(Seed.tokenQuotaA, 10, 10)])
                let idle = Seed.request([(Seed.tokenQuotaA, 50, 50)])
                _ = try await leases.acquire(overdrawn)
                _ = try await leases.acquire(idle)
                _ = try await harness.settle([
                    Seed.settlement(input: 500, cached: 0, output: 0, lease: overdrawn.leaseID)
                ])
                try await harness.withPool("weir_reader") { pool in
                    let states = try await CustomerStore(pool: pool).quotaStates(
                        tenantID: Seed.tenantA, periods: [(Seed.tokensA, Seed.period(Seed.tokenQuotaA))])
                    #expect(states.map(\.settled) == [500])
                    #expect(states.map(\.held) == [50])
                }
                try await leases.close([overdrawn.leaseID])
                try await #expect(harness.ask("SELECT settled, held FROM quota_periods") == ["500|50"])
            }
        }
    }
}
