import Domain
import PostgresDriver
import Storage
import TestSupport
import Testing

@Suite("closing leases")
struct LeaseClosingTests {
    @Test("a lease that ran out is closed with what was spent on it, and one that did not is left alone")
    func reaping() async throws {
        try await StorageHarness.with { harness in
            try await harness.withLeases { leases in
                let dead = Seed.request([(Seed.tokenQuotaA, 10, 1_000)])
                let alive = Seed.request([(Seed.tokenQuotaA, 10, 300)])
                _ = try await leases.acquire(dead)
                _ = try await leases.acquire(alive)
                _ = try await harness.settle([
                    Seed.settlement(lease: dead.leaseID), Seed.settlement(lease: alive.leaseID),
                ])
                try await harness.withPool("weir_jobs") { pool in
                    let store = HousekeepingStore(pool: pool)
                    try await #expect(store.reapLease() == nil)
                    try await harness.run(
                        "UPDATE quota_leases SET expires_at = now() - interval '1 ms' WHERE lease_id = '\(dead.leaseID)'"
                    )
                    try await #expect(store.reapLease() == LeaseReaping(leaseID: dead.leaseID, outcome: .closed))
                    try await #expect(store.reapLease() == nil)
                }
                try await #expect(harness.numbers() == ["10|300"])
                try await #expect(
                    harness.ask("SELECT lease_id FROM quota_leases WHERE state = 'open'") == ["\(alive.leaseID)"])
            }
        }
    }

    @Test("eight reapers close each of many leases once")
    func manyReapers() async throws {
        try await StorageHarness.with { harness in
            try await harness.withLeases { leases in
                for _ in 0..<40 { _ = try await leases.acquire(Seed.request([(Seed.tokenQuotaA, 10, 10)])) }
            }
            try await harness.run("UPDATE quota_leases SET expires_at = now() - interval '1 ms'")
            try await harness.withPool("weir_jobs", connections: 8) { pool in
                let store = HousekeepingStore(pool: pool)
                let reaped = try await withThrowingTaskGroup(of: [LeaseID].self) { group in
                    for _ in 0..<8 {
                        group.addTask {
                            var mine: [LeaseID] = []
                            while let reaping = try await store.reapLease() {
                                if reaping.outcome == .closed { mine.append(reaping.leaseID) }
                            }
                            return mine
                        }
                    }
                    return try await group.reduce(into: []) { $0 += $1 }
                }
                #expect(reaped.count == 40)
                #expect(Set(reaped).count == 40)
            }
            try await #expect(harness.numbers() == ["0|0"])
        }
    }

    @Test("the reaper waits for a settlement of that gateway that is in flight, and books it")
    func reaperWaits() async throws {
        try await StorageHarness.with { harness in
            let request = Seed.request([(Seed.tokenQuotaA, 10, 1_000)])
            try await harness.withLeases { _ = try await $0.acquire(request) }
            let reaped = try await harness.onSession("weir_writer") { settling in
                try settling.begin()
                _ = try SettlementText.write(
                    [Seed.settlement(lease: request.leaseID)], gateway: Seed.gateway, on: settling)
                let owner = PostgresSession(configuration: try harness.configuration(nil))
                try owner.connect()
                defer { owner.close() }
                try owner.run(script: "UPDATE quota_leases SET expires_at = now() - interval '1 ms'")
                let waiting = try SecondSession(harness.configuration("weir_jobs")).start {
                    try $0.execute(DatabaseQuestion("SELECT reap_lease('\(request.leaseID)')"))
                }
                #expect(!waiting.isFinished(withinMilliseconds: 200))
                try settling.commit()
                return try waiting.result()
            }
            #expect(reaped == ["\(request.leaseID)"])
            try await #expect(harness.numbers() == ["10|0"])
        }
    }

    @Test("the reaper does not wait for another gateway's settlements")
    func reaperPassesOthers() async throws {
        try await StorageHarness.with { harness in
            let request = Seed.request([(Seed.tokenQuotaA, 10, 1_000)])
            try await harness.withLeases { _ = try await $0.acquire(request) }
            try await harness.run("UPDATE quota_leases SET expires_at = now() - interval '1 ms'")
            try await harness.onSession("weir_writer") { settling in
                try settling.begin()
                _ = try SettlementText.write([Seed.settlement()], gateway: Seed.otherGateway, on: settling)
                let waiting = try SecondSession(harness.configuration("weir_jobs")).start {
                    try $0.execute(DatabaseQuestion("SELECT reap_lease('\(request.leaseID)')"))
                }
                try #expect(waiting.result() == ["\(request.leaseID)"])
                try settling.rollback()
            }
        }
    }

    @Test("closing waits for a settlement on the lease that the gateway has lost sight of, and books it")
    func closingWaits() async throws {
        try await StorageHarness.with { harness in
            let request = Seed.request([(Seed.tokenQuotaA, 10, 1_000)])
            try await harness.withLeases { _ = try await $0.acquire(request) }
            try await harness.onSession("weir_writer") { settling in
                try settling.begin()
                _ = try SettlementText.write(
                    [Seed.settlement(lease: request.leaseID)], gateway: Seed.gateway, on: settling)
                let waiting = try SecondSession(harness.configuration("weir_writer")).start {
                    try $0.execute(
                        DatabaseQuestion("SELECT close_leases('\(Seed.gateway)', ARRAY['\(request.leaseID)']::uuid[])"))
                }
                #expect(!waiting.isFinished(withinMilliseconds: 200))
                try settling.commit()
                try #expect(waiting.result() == ["1"])
            }
            try await #expect(harness.numbers() == ["10|0"])
        }
    }

    @Test("two gateways that close leases of the same tenants in opposite order do not wait for each other")
    func closingInOppositeOrder() async throws {
        try await StorageHarness.with { harness in
            // The order of the leases' numbers is opposite to the order of their quotas for the second gateway.
            for round in 0..<20 {
                func lease(_ number: Int, _ quota: Quota, _ tenant: TenantID) -> LeaseRequest {
                    let id = LeaseID(high: UInt64(round) << 32 | UInt64(number), low: 0x8000_0000_0000_0000)
                    return LeaseRequest(
                        leaseID: id, tenantID: tenant,
                        wants: [LeaseRequest.Want(quota: quota, period: Seed.period(quota), minimum: 1, wanted: 10)])
                }
                let first = [lease(1, Seed.tokenQuotaA, Seed.tenantA), lease(2, Seed.tokenQuotaB, Seed.tenantB)]
                let second = [lease(3, Seed.tokenQuotaB, Seed.tenantB), lease(4, Seed.tokenQuotaA, Seed.tenantA)]
                try await harness.withLeases { leases in
                    try await harness.withLeases(gateway: Seed.otherGateway) { others in
                        for request in first { _ = try await leases.acquire(request) }
                        for request in second { _ = try await others.acquire(request) }
                        async let one: Void = leases.close(first.map(\.leaseID))
                        async let two: Void = others.close(second.map(\.leaseID))
                        _ = try await (one, two)
                    }
                }
            }
            try await #expect(harness.ask("SELECT count(*) FROM quota_leases WHERE state = 'open'") == ["0"])
            try await #expect(harness.numbers() == ["0|0"])
        }
    }
}
