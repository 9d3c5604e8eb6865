import Domain
import PostgresDriver
import Storage
import TestSupport
import Testing

@Suite("leases")
struct LeaseTests {
    private func granted(_ answer: LeaseAnswer) throws -> [Int64] {
        guard case .granted(let grants, _) = answer else { throw NeverHappened(description: "a refusal: \(answer)") }
        return grants.map(\.slice.granted)
    }

    private func refusal(_ answer: LeaseAnswer) throws -> QuotaRefusal {
        guard case .refused(let refusal) = answer else { throw NeverHappened(description: "a grant: \(answer)") }
        return refusal
    }

    @Test("a lease takes what is wanted, tells what is left, and makes its period")
    func acquire() async throws {
        try await StorageHarness.with { harness in
            try await harness.withLeases { leases in
                let request = Seed.request([(Seed.tokenQuotaA, 10, 1_000)])
                guard case .granted(let grants, _) = try await leases.acquire(request) else {
                    Issue.record("refused")
                    return
                }
                #expect(
                    grants.map(\.slice) == [
                        Lease.Slice(quota: Seed.tokenQuotaA, period: Seed.period(Seed.tokenQuotaA), granted: 1_000)
                    ])
                #expect(grants.map(\.freeAfterwards) == [999_000])
                try await #expect(harness.numbers() == ["0|1000"])
                let period = Seed.period(Seed.tokenQuotaA)
                let stored = try await harness.ask(
                    "SELECT tenant_id, extract(epoch FROM period_start)::bigint, extract(epoch FROM period_end)::bigint FROM quota_periods"
                )
                #expect(
                    stored == [
                        "\(Seed.tenantA)|\(period.start.microsecondsSince1970 / 1_000_000)|\(period.end.microsecondsSince1970 / 1_000_000)"
                    ])
            }
        }
    }

    @Test("near the limit slices shrink to what one request needs, and the last unit can be had")
    func shrinking() async throws {
        try await StorageHarness.with { harness in
            try await harness.run("UPDATE quotas SET amount = 100 WHERE quota_id = '\(Seed.tokensA)'")
            try await harness.withLeases { leases in
                var slices: [Int64] = []
                var refused: QuotaRefusal?
                while refused == nil {
                    switch try await leases.acquire(Seed.request([(Seed.tokenQuotaA, 1, 60)])) {
                    case .granted(let grants, _): slices += grants.map(\.slice.granted)
                    case .refused(let numbers): refused = numbers
                    case .lost, .elsewhen: throw NeverHappened(description: "a grant or a refusal")
                    }
                }
                #expect(slices.first == 25)
                #expect(slices.last == 1)
                #expect(slices == slices.sorted(by: >))
                #expect(slices.reduce(0, +) == 100)
                #expect(refused?.held == 100)
            }
        }
    }

    @Test("a refusal carries the numbers that decided, and takes nothing")
    func refusalNumbers() async throws {
        try await StorageHarness.with { harness in
            try await harness.run("UPDATE quotas SET amount = 100 WHERE quota_id = '\(Seed.tokensA)'")
            try await harness.withLeases { leases in
                let first = Seed.request([(Seed.tokenQuotaA, 40, 40)])
                _ = try await leases.acquire(first)
                _ = try await harness.settle([Seed.settlement(input: 30, cached: 0, output: 0, lease: first.leaseID)])
                try await leases.close([first.leaseID])
                _ = try await leases.acquire(Seed.request([(Seed.tokenQuotaA, 50, 50)]))
                let refusal = try refusal(try await leases.acquire(Seed.request([(Seed.tokenQuotaA, 21, 21)])))
                #expect(refusal.settled == 30)
                #expect(refusal.held == 50)
                #expect(refusal.requested == 21)
                // The limit is the database's, not the one that the gateway remembers.
                #expect(refusal.quota.amount == 100)
                #expect(refusal.period == Seed.period(Seed.tokenQuotaA))
                try await #expect(harness.numbers() == ["30|50"])
                try await #expect(granted(leases.acquire(Seed.request([(Seed.tokenQuotaA, 20, 20)]))) == [20])
            }
        }
    }

    @Test("two quotas are taken together or not at all, in whatever order they are named", arguments: [false, true])
    func allOrNothing(isReversed: Bool) async throws {
        try await StorageHarness.with { harness in
            try await harness.run("UPDATE quotas SET amount = 3 WHERE quota_id = '\(Seed.requestsA)'")
            try await harness.withLeases { leases in
                let wants = [(Seed.tokenQuotaA, Int64(10), Int64(100)), (Seed.requestQuotaA, Int64(1), Int64(3))]
                for _ in 0..<3 {
                    try await #expect(
                        granted(leases.acquire(Seed.request(isReversed ? wants.reversed() : wants))).sorted() == [
                            1, 100,
                        ])
                }
                let refusal = try refusal(try await leases.acquire(Seed.request(isReversed ? wants.reversed() : wants)))
                #expect(refusal.quota.id == Seed.requestsA)
                try await #expect(harness.numbers() == ["0|300"])
                try await #expect(harness.numbers(of: Seed.requestsA) == ["0|3"])
                try await #expect(harness.ask("SELECT count(*) FROM quota_leases") == ["3"])
            }
        }
    }

    @Test(
        "a soft quota is always granted, whatever is spent and whatever is asked", arguments: [10, .max / 2] as [Int64])
    func softQuota(wanted: Int64) async throws {
        try await StorageHarness.with { harness in
            try await harness.run("UPDATE quotas SET amount = 0, mode = 'soft' WHERE quota_id = '\(Seed.tokensA)'")
            try await harness.withLeases { leases in
                for _ in 0..<2 {
                    let request = Seed.request([(Seed.tokenQuotaA, 10, wanted)])
                    try await #expect(granted(leases.acquire(request)) == [wanted])
                    try await leases.close([request.leaseID])
                }
            }
        }
    }

    @Test("a tenant without quotas has leases without slices, which open and close")
    func noQuotas() async throws {
        try await StorageHarness.with { harness in
            try await harness.withLeases { leases in
                let request = Seed.request([])
                try await #expect(granted(leases.acquire(request)).isEmpty)
                try await leases.close([request.leaseID])
                try await #expect(harness.ask("SELECT state FROM quota_leases") == ["closed"])
            }
        }
    }

    @Test("a quota of another tenant cannot be leased, and nothing is left of the attempt")
    func foreignQuota() async throws {
        try await StorageHarness.with { harness in
            try await harness.withLeases { leases in
                await #expect(throws: StoreUnavailable.self) {
                    _ = try await leases.acquire(Seed.request([(Seed.tokenQuotaB, 1, 1)], tenant: Seed.tenantA))
                }
                try await #expect(harness.ask("SELECT count(*) FROM quota_periods") == ["0"])
                try await #expect(harness.ask("SELECT count(*) FROM quota_leases") == ["0"])
            }
        }
    }

    @Test("each period has its own numbers, and none is leased before or after its time")
    func periods() async throws {
        try await StorageHarness.with { harness in
            try await harness.run("UPDATE quotas SET amount = 10 WHERE quota_id = '\(Seed.requestsA)'")
            try await harness.withLeases { leases in
                let today = MachineTime().now
                try await #expect(
                    granted(leases.acquire(Seed.request([(Seed.requestQuotaA, 10, 10)], at: today))) == [10])
                _ = try refusal(try await leases.acquire(Seed.request([(Seed.requestQuotaA, 1, 1)], at: today)))
                // The same instant in another alignment is another period.
                let shifted = PeriodCalendar.utc.period(
                    containing: today, frequency: .day, anchor: today.advanced(byMilliseconds: -3_600_000))
                let other = LeaseRequest(
                    leaseID: Seed.newLeaseID(), tenantID: Seed.tenantA,
                    wants: [.init(quota: Seed.requestQuotaA, period: shifted, minimum: 10, wanted: 10)])
                try await #expect(granted(leases.acquire(other)) == [10])
                for days in [-2, 2] as [Int64] {
                    let wrong = today.advanced(byMilliseconds: days * 86_400_000)
                    guard
                        case .elsewhen(let now) = try await leases.acquire(
                            Seed.request([(Seed.requestQuotaA, 1, 1)], at: wrong))
                    else { throw NeverHappened(description: "a period that is not now was leased") }
                    #expect(abs(now.milliseconds(since: today)) < 60_000)
                }
                try await #expect(harness.ask("SELECT count(*) FROM quota_periods") == ["2"])
            }
        }
    }

    @Test("closing books exactly what the ledger says: tokens for tokens, requests for requests, and frees the rest")
    func closing() async throws {
        try await StorageHarness.with { harness in
            try await harness.withLeases { leases in
                let request = Seed.request([(Seed.tokenQuotaA, 10, 1_000), (Seed.requestQuotaA, 1, 20)])
                _ = try await leases.acquire(request)
                let other = Seed.request([(Seed.tokenQuotaA, 10, 500)])
                _ = try await leases.acquire(other)
                _ = try await harness.settle(
                    (1...4).map { Seed.settlement(input: $0 * 10, cached: 3, output: 5, lease: request.leaseID) }
                        + [Seed.settlement(outcome: .failed), Seed.settlement(lease: other.leaseID)])
                try await leases.close([request.leaseID])
                try await #expect(harness.numbers() == ["120|500"])
                try await #expect(harness.numbers(of: Seed.requestsA) == ["4|0"])
                let slices = try await harness.ask(
                    "SELECT granted, spent FROM quota_lease_slices WHERE lease_id = '\(request.leaseID)' ORDER BY quota_id"
                )
                #expect(slices == ["1000|120", "20|4"])
                // Closing twice books once.
                try await leases.close([request.leaseID])
                try await #expect(harness.numbers() == ["120|500"])
            }
        }
    }

    @Test("a gateway neither closes nor renews the lease of another")
    func foreignLease() async throws {
        try await StorageHarness.with { harness in
            let request = Seed.request([(Seed.tokenQuotaA, 10, 1_000)])
            try await harness.withLeases { _ = try await $0.acquire(request) }
            try await harness.withLeases(gateway: Seed.otherGateway) { others in
                try await others.close([request.leaseID])
                try await #expect(others.renew([request.leaseID]).open.isEmpty)
            }
            try await #expect(harness.ask("SELECT state FROM quota_leases") == ["open"])
            try await #expect(harness.numbers() == ["0|1000"])
        }
    }

    @Test("renewing moves the end; after the end, after closing and for an unknown lease it is refused")
    func renewing() async throws {
        try await StorageHarness.with { harness in
            try await harness.withLeases(milliseconds: 3_600_000) { leases in
                var requests: [LeaseRequest] = []
                for _ in 0..<3 {
                    requests.append(Seed.request([(Seed.tokenQuotaA, 10, 100)]))
                    _ = try await leases.acquire(requests[requests.count - 1])
                }
                try await harness.run(
                    """
                    UPDATE quota_leases SET expires_at = now() + interval '1 minute' WHERE lease_id = '\(requests[0].leaseID)';
                    UPDATE quota_leases SET expires_at = now() - interval '1 ms' WHERE lease_id = '\(requests[1].leaseID)';
                    """)
                try await leases.close([requests[2].leaseID])
                let renewed = try await leases.renew(requests.map(\.leaseID) + [Seed.newLeaseID()])
                #expect(renewed.open == [requests[0].leaseID] && renewed.scarce.isEmpty)
                let far = try await harness.ask(
                    "SELECT lease_id FROM quota_leases WHERE expires_at > now() + interval '50 minutes' AND state = 'open'"
                )
                #expect(far == ["\(requests[0].leaseID)"])
            }
        }
    }

    @Test("what can be had is never more than the limit, with eight gateways that take, spend, close and die")
    func neverAboveTheLimit() async throws {
        try await StorageHarness.with { harness in
            try await harness.run("UPDATE quotas SET amount = 5000 WHERE quota_id = '\(Seed.tokensA)'")
            let isDone = DoneFlag()
            let violations = try await withThrowingTaskGroup(of: Int.self) { group in
                for number in 0..<8 {
                    group.addTask {
                        let gateway = GatewayID(high: Seed.gateway.high, low: Seed.gateway.low + UInt64(number))
                        try await harness.withLeases(gateway: gateway, connections: 1) { leases in
                            try await Self.live(leases, gateway: gateway, harness: harness)
                        }
                        return 0
                    }
                }
                group.addTask {
                    // Watches meanwhile, and reaps what the dead gateways left.
                    var seen = 0
                    while !isDone.isSet {
                        let above = try await harness.ask(
                            "SELECT settled, held FROM quota_periods WHERE settled + held > 5000")
                        seen += above.count
                        _ = try await harness.ask("SELECT reap_lease(claim_overdue_lease())", as: "weir_jobs")
                    }
                    return seen
                }
                var sum = 0
                var count = 0
                for try await part in group {
                    sum += part
                    count += 1
                    if count == 8 { isDone.set() }
                }
                return sum
            }
            #expect(violations == 0)
            try await harness.run("UPDATE quota_leases SET expires_at = now() - interval '1 ms' WHERE state = 'open'")
            while try await !harness.ask("SELECT reap_lease(claim_overdue_lease())", as: "weir_jobs").isEmpty {}
            let spent = try await harness.ask("SELECT sum(input_tokens + output_tokens) FROM ledger")
            try await #expect(harness.numbers() == ["\(spent[0])|0"])
            try #require(Int(spent[0]).map { $0 > 0 && $0 <= 5_000 } == true)
        }
    }

    /// One gateway's life: takes leases of random sizes, spends a part of each, gives some back and forgets others.
    private static func live(_ leases: LeaseStore, gateway: GatewayID, harness: StorageHarness) async throws {
        var generator = SystemRandomNumberGenerator()
        for _ in 0..<12 {
            let minimum = Int64.random(in: 1...40, using: &generator)
            let request = Seed.request([
                (Seed.tokenQuotaA, minimum, minimum * Int64.random(in: 1...20, using: &generator))
            ])
            guard case .granted(let grants, _) = try await leases.acquire(request), let slice = grants.first?.slice
            else {
                continue
            }
            #expect(slice.granted >= minimum)
            let spent = Int64.random(in: 0...slice.granted, using: &generator)
            _ = try await harness.settle(
                [Seed.settlement(input: spent / 2, cached: 0, output: spent - spent / 2, lease: request.leaseID)],
                gateway: gateway)
            switch Int.random(in: 0..<3, using: &generator) {
            case 0: try await leases.close([request.leaseID])
            case 1:
                // Its owner died.
                try await harness.run(
                    "UPDATE quota_leases SET expires_at = now() - interval '1 ms' WHERE lease_id = '\(request.leaseID)'"
                )
            default: break
            }
        }
    }
}
