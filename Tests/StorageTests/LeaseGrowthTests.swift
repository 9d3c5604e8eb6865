import Domain
import PostgresDriver
import Storage
import TestSupport
import Testing

@Suite("leases that grow and shrink")
struct LeaseGrowthTests {
    private func numbers(_ harness: StorageHarness, _ quota: QuotaID = Seed.tokensA) async throws -> [String] {
        try await harness.ask("SELECT settled, held FROM quota_periods WHERE quota_id = '\(quota)'")
    }

    private func granted(_ answer: LeaseAnswer) throws -> [Int64] {
        guard case .granted(let grants, _) = answer else { throw NeverHappened(description: "a grant: \(answer)") }
        return grants.map(\.slice.granted)
    }

    private func more(
        _ lease: LeaseRequest, _ minimum: Int64, wanted: Int64? = nil, quota: Quota = Seed.tokenQuotaA,
        returns: [LeaseReturn] = []
    ) -> LeaseRequest {
        LeaseRequest(
            leaseID: lease.leaseID, tenantID: Seed.tenantA,
            wants: [
                .init(quota: quota, period: Seed.period(quota), minimum: minimum, wanted: wanted ?? minimum, need: 99)
            ],
            isNew: false, returns: returns)
    }

    private func back(_ lease: LeaseRequest, _ amount: Int64, quota: QuotaID = Seed.tokensA) -> LeaseReturn {
        LeaseReturn(leaseID: lease.leaseID, quotaID: quota, amount: amount)
    }

    /// A database where tenant A may use 100 tokens.
    private func withHundred(_ body: (StorageHarness, LeaseStore) async throws -> Void) async throws {
        try await StorageHarness.with { harness in
            try await harness.run("UPDATE quotas SET amount = 100 WHERE quota_id = '\(Seed.tokensA)'")
            try await harness.withLeases { try await body(harness, $0) }
        }
    }

    @Test("an open lease grows in place, and is closed with all that was spent on it")
    func grows() async throws {
        try await withHundred { harness, leases in
            let lease = Seed.request([(Seed.tokenQuotaA, 40, 40)])
            _ = try await leases.acquire(lease)
            try await #expect(granted(leases.acquire(more(lease, 5, wanted: 1_000))) == [15])
            try await #expect(granted(leases.acquire(more(lease, 45))) == [45])
            try await #expect(numbers(harness) == ["0|100"])
            guard case .refused(let refusal) = try await leases.acquire(more(lease, 1)) else {
                throw NeverHappened(description: "a refusal")
            }
            #expect(refusal.held == 100 && refusal.requested == 99, "what the whole request needs")
            _ = try await harness.settle([Seed.settlement(input: 60, cached: 0, output: 10, lease: lease.leaseID)])
            try await leases.close([lease.leaseID])
            try await #expect(numbers(harness) == ["70|0"])
        }
    }

    @Test("what is returned is free before it is decided, and stays free when the rest is refused")
    func returns() async throws {
        try await withHundred { harness, leases in
            let old = Seed.request([(Seed.tokenQuotaA, 60, 60)])
            _ = try await leases.acquire(old)
            var new = Seed.request([(Seed.tokenQuotaA, 90, 90)])
            new.returns = [back(old, 50)]
            try await #expect(granted(leases.acquire(new)) == [90])
            try await #expect(numbers(harness) == ["0|100"])
            var refused = Seed.request([(Seed.tokenQuotaA, 41, 41)])
            refused.returns = [back(new, 40)]
            guard case .refused(let refusal) = try await leases.acquire(refused) else {
                throw NeverHappened(description: "a refusal")
            }
            #expect(refusal.held == 60)
            try await #expect(numbers(harness) == ["0|60"])
            try await leases.giveBack([back(new, 50), back(old, 10)])
            try await #expect(numbers(harness) == ["0|0"])
        }
    }

    @Test("nobody returns what a lease does not have, what another gateway's lease has, or what was given back already")
    func badReturns() async throws {
        try await withHundred { harness, leases in
            let lease = Seed.request([(Seed.tokenQuotaA, 60, 60)])
            _ = try await leases.acquire(lease)
            await #expect(throws: StoreUnavailable.self) { try await leases.giveBack([back(lease, 61)]) }
            try await harness.withLeases(gateway: Seed.otherGateway) { try await $0.giveBack([back(lease, 10)]) }
            try await #expect(numbers(harness) == ["0|60"])
            try await leases.close([lease.leaseID])
            try await leases.giveBack([back(lease, 10)])
            try await #expect(numbers(harness) == ["0|0"])
        }
    }

    @Test("a lease that has ended, was closed or is another's does not grow, and nothing is taken for it")
    func lost() async throws {
        try await withHundred { harness, leases in
            let closed = Seed.request([(Seed.tokenQuotaA, 10, 10)])
            let ended = Seed.request([(Seed.tokenQuotaA, 10, 10)])
            let others = Seed.request([(Seed.tokenQuotaA, 10, 10)])
            for request in [closed, ended] { _ = try await leases.acquire(request) }
            try await harness.withLeases(gateway: Seed.otherGateway) { _ = try await $0.acquire(others) }
            try await leases.close([closed.leaseID])
            try await harness.run(
                "UPDATE quota_leases SET expires_at = now() - interval '1 ms' WHERE lease_id = '\(ended.leaseID)'")
            for request in [closed, ended, others, Seed.request([])] {
                guard case .lost = try await leases.acquire(more(request, 5)) else {
                    throw NeverHappened(description: "the lease is lost")
                }
            }
            try await #expect(numbers(harness) == ["0|20"])
        }
    }

    @Test("a lease does not grow by a quota that it has not counted from its beginning")
    func noNewSlices() async throws {
        try await withHundred { harness, leases in
            let lease = Seed.request([(Seed.tokenQuotaA, 10, 10)])
            _ = try await leases.acquire(lease)
            await #expect(throws: StoreUnavailable.self) {
                _ = try await leases.acquire(more(lease, 1, quota: Seed.requestQuotaA))
            }
            try await #expect(numbers(harness, Seed.requestsA) == [])
        }
    }

    @Test("a renewal tells of leases with more of a hard quota than is free")
    func scarce() async throws {
        try await withHundred { harness, leases in
            let small = Seed.request([(Seed.tokenQuotaA, 20, 20)])
            let large = Seed.request([(Seed.tokenQuotaA, 45, 45)])
            for request in [small, large] { _ = try await leases.acquire(request) }
            let ids = [small.leaseID, large.leaseID]
            try await #expect(leases.renew(ids).scarce == [large.leaseID])
            try await harness.run("UPDATE quotas SET mode = 'soft' WHERE quota_id = '\(Seed.tokensA)'")
            try await #expect(leases.renew(ids).scarce.isEmpty)
        }
    }

    @Test("a limit that was lowered below what is held lets nothing more be taken, and one that was raised does")
    func changedLimit() async throws {
        try await withHundred { harness, leases in
            let lease = Seed.request([(Seed.tokenQuotaA, 60, 60)])
            _ = try await leases.acquire(lease)
            try await harness.run("UPDATE quotas SET amount = 50 WHERE quota_id = '\(Seed.tokensA)'")
            guard case .refused(let refusal) = try await leases.acquire(more(lease, 1, returns: [back(lease, 5)]))
            else {
                throw NeverHappened(description: "a refusal")
            }
            #expect(refusal.quota.amount == 50 && refusal.held == 55)
            try await harness.run("UPDATE quotas SET amount = 56 WHERE quota_id = '\(Seed.tokensA)'")
            try await #expect(granted(leases.acquire(more(lease, 1))) == [1])
        }
    }

    @Test("a lease that cannot be booked is put off, and the others are reaped meanwhile")
    func unbookable() async throws {
        try await withHundred { harness, leases in
            let broken = Seed.request([(Seed.requestQuotaA, 5, 5)])
            let sound = (0..<3).map { _ in Seed.request([(Seed.tokenQuotaA, 10, 10)]) }
            for request in [broken] + sound { _ = try await leases.acquire(request) }
            // Less is held than the lease would give back, which the table does not allow; and it is the oldest of all.
            try await harness.run(
                """
                UPDATE quota_periods SET held = 1 WHERE quota_id = '\(Seed.requestsA)';
                UPDATE quota_leases SET expires_at = now() - interval '1 minute';
                UPDATE quota_leases SET expires_at = now() - interval '1 hour' WHERE lease_id = '\(broken.leaseID)';
                """)
            try await harness.withPool("weir_jobs") { pool in
                let store = HousekeepingStore(pool: pool)
                var reapings: [LeaseReaping] = []
                while let reaping = try await store.reapLease(), reapings.count < 10 { reapings.append(reaping) }
                guard case .failed? = reapings.first?.outcome else {
                    throw NeverHappened(description: "a failure first: \(reapings)")
                }
                #expect(Set(reapings.filter { $0.outcome == .closed }.map(\.leaseID)) == Set(sound.map(\.leaseID)))
                try await #expect(numbers(harness) == ["0|0"])
                // It comes again, later each time, and is booked once that is possible.
                try await harness.run(
                    """
                    UPDATE quota_periods SET held = 5 WHERE quota_id = '\(Seed.requestsA)';
                    UPDATE quota_leases SET reap_after = now() - interval '1 ms', reap_attempts = 9 WHERE state = 'open';
                    """)
                try await #expect(
                    store.reapLease() == LeaseReaping(leaseID: broken.leaseID, outcome: .closed))
                try await #expect(store.reapLease() == nil)
                let pauses = try await harness.ask(
                    "SELECT reap_after BETWEEN now() + interval '50 s' AND now() + interval '65 s' FROM quota_leases WHERE reap_attempts = 10"
                )
                #expect(pauses == ["true"])
            }
        }
    }

    @Test("with gateways that grow, return, spend, close and die at once, what can be had is never more than the limit")
    func neverAboveTheLimit() async throws {
        try await StorageHarness.with { harness in
            let limit = 3_000
            try await harness.run("UPDATE quotas SET amount = \(limit) WHERE quota_id = '\(Seed.tokensA)'")
            let isDone = DoneFlag()
            let violations = try await withThrowingTaskGroup(of: Int.self) { group in
                for number in 0..<6 {
                    group.addTask {
                        let gateway = GatewayID(high: Seed.gateway.high, low: Seed.gateway.low + UInt64(number))
                        try await harness.withLeases(gateway: gateway, connections: 1) { leases in
                            try await live(leases, gateway: gateway, harness: harness)
                        }
                        return 0
                    }
                }
                group.addTask {
                    var seen = 0
                    while !isDone.isSet {
                        seen += try await harness.ask(
                            """
                            SELECT 1 FROM quota_periods p JOIN quotas q USING (quota_id)
                            WHERE p.settled + p.held > q.amount OR p.held <> (SELECT coalesce(sum(s.granted), 0) FROM quota_lease_slices s
                                JOIN quota_leases l USING (lease_id) WHERE l.state = 'open' AND s.quota_id = p.quota_id)
                            """
                        ).count
                        _ = try await harness.ask("SELECT reap_lease(claim_overdue_lease())", as: "weir_jobs")
                    }
                    return seen
                }
                var sum = 0
                for count in 1...7 {
                    sum += try await group.next() ?? 0
                    if count == 6 { isDone.set() }
                }
                return sum
            }
            #expect(violations == 0)
            try await harness.run(
                "UPDATE quota_leases SET expires_at = now() - interval '1 ms', reap_after = NULL WHERE state = 'open'")
            while try await !harness.ask("SELECT reap_lease(claim_overdue_lease())", as: "weir_jobs").isEmpty {}
            let spent = try await harness.ask("SELECT sum(input_tokens + output_tokens) FROM ledger")
            try await #expect(numbers(harness) == ["\(spent[0])|0"])
            try #require(Int(spent[0]).map { $0 > 0 && $0 <= limit } == true)
        }
    }

    /// One gateway's life: one lease after the other, grown and given back in part, spent in part, closed or forgotten.
    private func live(_ leases: LeaseStore, gateway: GatewayID, harness: StorageHarness) async throws {
        var generator = SystemRandomNumberGenerator()
        for _ in 0..<6 {
            let request = Seed.request([(Seed.tokenQuotaA, Int64.random(in: 1...40, using: &generator), 200)])
            guard case .granted(let grants, _) = try await leases.acquire(request),
                var left = grants.first?.slice.granted
            else { continue }
            for _ in 0..<6 {
                let returned = Int64.random(in: 0...left, using: &generator)
                left -= returned
                let wanted = Int64.random(in: 1...60, using: &generator)
                if case .granted(let grants, _) = try await leases.acquire(
                    more(request, wanted, wanted: wanted * 2, returns: returned > 0 ? [back(request, returned)] : [])),
                    let slice = grants.first?.slice
                {
                    left += slice.granted
                }
                let spent = Int64.random(in: 0...left, using: &generator)
                let refused = try await harness.settle(
                    [Seed.settlement(input: spent / 2, cached: 0, output: spent - spent / 2, lease: request.leaseID)],
                    gateway: gateway)
                if refused.isEmpty { left -= spent }
            }
            switch Int.random(in: 0..<3, using: &generator) {
            case 0: try await leases.close([request.leaseID])
            case 1:
                try await harness.run(
                    "UPDATE quota_leases SET expires_at = now() - interval '1 ms' WHERE lease_id = '\(request.leaseID)'"
                )
            default: break
            }
        }
    }
}
