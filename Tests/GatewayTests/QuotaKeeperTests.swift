import Domain
import TestSupport
import Testing

@testable import Gateway

@Suite("Quota keeper") struct QuotaKeeperTests {
    /// Lease ids for a test, never the same twice.
    static func leaseID() -> LeaseID {
        var random = SystemRandomNumberGenerator()
        return LeaseID(high: random.next(), low: random.next())
    }

    func hold(_ parts: Installation, _ tokens: Int64, _ principal: Principal = Installation.principal())
        async throws(Refusal) -> Hold?
    {
        try await parts.quota.hold(tokens: tokens, for: principal, makeLeaseID: Self.leaseID)
    }

    func refusal(_ parts: Installation, _ tokens: Int64, _ principal: Principal = Installation.principal())
        async -> Refusal?
    {
        do throws(Refusal) {
            _ = try await hold(parts, tokens, principal)
            return nil
        } catch {
            return error
        }
    }

    @Test("a tenant without quotas holds nothing and asks nobody")
    func noQuotas() async throws {
        let parts = await Installation()
        #expect(try await hold(parts, 5, Installation.principal(quotas: [])) == nil)
        #expect(parts.ledger.requests.isEmpty)
    }

    @Test("one lease serves many requests")
    func amortised() async throws {
        let parts = await Installation()
        for _ in 0..<10 { #expect(try await hold(parts, 100)?.tokens == 100) }
        #expect(parts.ledger.requests.count == 1)
        let request = try #require(parts.ledger.requests.first)
        #expect(request.tenantID == Installation.tenant)
        #expect(request.wants.map(\.minimum) == [1, 100])
        #expect(request.wants.map(\.period.id) == ["2026-03@Europe/Berlin", "2026-03@Europe/Berlin"])
        #expect(request.wants.allSatisfy { $0.wanted >= $0.minimum })
    }

    @Test("a hundred requests at once ask for one lease")
    func singleFlight() async {
        let parts = await Installation(ledger: FakeQuotaLedger(gate: Gate()))
        let principal = Installation.principal(quotas: [Installation.quota(.requests, 1_000)])
        await withTaskGroup(of: Refusal?.self) { group in
            for _ in 0..<10 { group.addTask { await refusal(parts, 1, principal) } }
            await parts.ledger.gate.arrivals(1)
            parts.ledger.gate.open()
            for await refusal in group { #expect(refusal == nil) }
        }
        #expect(parts.ledger.requests.count == 1)
    }

    @Test("of many requests at once exactly as many are admitted as there are units", arguments: [1, 7, 40])
    func exact(units: Int64) async {
        let parts = await Installation()
        parts.ledger.limitSlices(to: 3)
        let principal = Installation.principal(quotas: [Installation.quota(.requests, units)])
        let admitted = await withTaskGroup(of: Bool.self) { group in
            for _ in 0..<200 { group.addTask { await refusal(parts, 1, principal) == nil } }
            return await group.reduce(0) { $0 + ($1 ? 1 : 0) }
        }
        #expect(admitted == units)
    }

    @Test("a refusal carries the numbers that decided it")
    func numbers() async throws {
        let parts = await Installation()
        let quota = Installation.quota(.tokens, 100)
        let principal = Installation.principal(quotas: [quota])
        parts.ledger.settle(60, of: quota.id)
        #expect(try await hold(parts, 30, principal) != nil)
        let refusal = try #require(await self.refusal(parts, 20, principal))
        #expect(refusal.code == .quotaExceeded)
        let numbers = try #require(refusal.quota)
        // What was left of the lease was given back before it was decided.
        #expect(numbers.quota == quota && numbers.settled == 60 && numbers.held == 30 && numbers.requested == 20)
        // From noon of 15 March to the end of the month in Berlin, which has summer time by then.
        #expect(refusal.retryAfterSeconds == 16 * 86_400 + 10 * 3_600)
        #expect(refusal.detail.contains("tokens-month") && refusal.detail.contains("2026-03@Europe/Berlin"))
    }

    @Test("a quota of nothing admits nothing")
    func zero() async {
        let parts = await Installation()
        #expect(
            await refusal(parts, 1, Installation.principal(quotas: [Installation.quota(.requests, 0)]))?.code
                == .quotaExceeded)
    }

    @Test("a soft quota of nothing admits everything")
    func soft() async {
        let parts = await Installation()
        let principal = Installation.principal(quotas: [Installation.quota(.tokens, 0, mode: .soft)])
        for _ in 0..<50 { #expect(await refusal(parts, 1_000, principal) == nil) }
    }

    @Test("a quota that does not refuse tells that it is exceeded, as soon as it is and not before")
    func exceeded() async throws {
        for mode in [QuotaMode.soft, .payAsYouGo] {
            let parts = await Installation()
            let principal = Installation.principal(quotas: [Installation.quota(.requests, 2, mode: mode)])
            for number in 1...4 {
                let held = try #require(try await hold(parts, 1, principal))
                parts.quota.settle(held, usedTokens: 1, of: Installation.tenant)
                let reading = try #require(parts.quota.readings(for: principal).first)
                #expect(reading.remaining == max(0, 2 - Int64(number)))
                #expect(reading.isExceeded == (number > 2))
            }
        }
    }

    @Test("what others have used beyond a limit is told with the grant and with the renewal of a lease")
    func exceededElsewhere() async throws {
        let time = ManualTime(Installation.noon)
        let parts = await Installation(time: time)
        let quota = Installation.quota(.requests, 1_000, mode: .soft)
        let principal = Installation.principal(quotas: [quota])
        _ = try await hold(parts, 1, principal)
        #expect(parts.quota.readings(for: principal).map(\.isExceeded) == [false])
        parts.ledger.exceed(quota.id)
        time.advance(milliseconds: 4_000)
        _ = try await hold(parts, 1, principal)
        await parts.quota.keep()
        #expect(parts.quota.readings(for: principal).map(\.isExceeded) == [true])
        let other = await Installation(time: time, ledger: parts.ledger)
        _ = try await hold(other, 1, principal)
        #expect(other.quota.readings(for: principal).map(\.isExceeded) == [true])
    }

    @Test("renewing costs as much as there are leases, not leases times tenants", .timeLimit(.minutes(1)))
    func linearUpkeep() async throws {
        let time = ManualTime(Installation.noon)
        let parts = await Installation(time: time)
        let count = 5_000
        for number in 1...count {
            let quota = Quota(
                id: QuotaID(high: 2, low: UInt64(number)), unit: .requests, frequency: .month, amount: 10, mode: .hard)
            let principal = Installation.principal(quotas: [quota], tenant: TenantID(high: 3, low: UInt64(number)))
            _ = try await hold(parts, 1, principal)
        }
        time.advance(milliseconds: 3_000)
        await parts.quota.keep()
        let renewed = parts.ledger.renewed
        #expect(renewed.map(\.count).reduce(0, +) == count)
        #expect(renewed.allSatisfy { $0.count <= 1_000 })
        #expect(Set(renewed.joined()) == parts.ledger.openLeases)
    }

    @Test("of two quotas the one that is used up decides, and nothing of the other is kept")
    func two() async throws {
        let parts = await Installation()
        let principal = Installation.principal(quotas: [
            Installation.quota(.requests, 10), Installation.quota(.tokens, 50),
        ])
        #expect(await refusal(parts, 60, principal)?.quota?.quota.unit == .tokens)
        #expect(parts.ledger.openLeases.isEmpty)
        #expect(try await hold(parts, 50, principal) != nil)
    }

    @Test("what a request gives back can be taken by the next, settled or voided")
    func returned() async throws {
        let parts = await Installation()
        let principal = Installation.principal(quotas: [Installation.quota(.tokens, 100)])
        let first = try #require(try await hold(parts, 100, principal))
        #expect(await refusal(parts, 1, principal)?.code == .quotaExceeded)
        parts.quota.void(first, of: Installation.tenant)
        let second = try #require(try await hold(parts, 100, principal))
        parts.quota.settle(second, usedTokens: 30, of: Installation.tenant)
        #expect(await refusal(parts, 71, principal)?.code == .quotaExceeded)
        #expect(try await hold(parts, 70, principal) != nil)
    }

    @Test("with the ledger away everybody who waits learns it from one question")
    func away() async {
        let parts = await Installation(ledger: FakeQuotaLedger(gate: Gate()))
        parts.ledger.isAway = true
        await withTaskGroup(of: Refusal?.self) { group in
            group.addTask { await refusal(parts, 1) }
            await parts.ledger.gate.arrivals(1)
            for _ in 0..<50 { group.addTask { await refusal(parts, 1) } }
            // All fifty wait behind the first before it is answered: the limit of those who may wait is found exceeded only then.
            await waiters(parts, count: 50)
            parts.ledger.gate.open()
            for await refusal in group {
                #expect(refusal?.code == .meteringUnavailable)
                #expect(refusal?.retryAfterSeconds == 2)
            }
        }
        #expect(parts.ledger.requests.count == 1)
    }

    @Test("a request that wants less than the one that was refused gets a chance of its own")
    func smaller() async throws {
        let parts = await Installation(ledger: FakeQuotaLedger(gate: Gate()))
        let principal = Installation.principal(quotas: [Installation.quota(.tokens, 100)])
        async let large = refusal(parts, 200, principal)
        await parts.ledger.gate.arrivals(1)
        async let small = refusal(parts, 100, principal)
        async let larger = refusal(parts, 300, principal)
        await waiters(parts, count: 2)
        parts.ledger.gate.open()
        #expect(await large?.quota?.requested == 200)
        #expect(await small == nil)
        #expect(await larger?.quota?.requested == 300)
    }

    /// Returns once so many requests wait for the lease of the tenant.
    func waiters(_ parts: Installation, count: Int) async {
        while parts.quota.waitingCount(of: Installation.tenant) < count { await Task.yield() }
    }

    @Test("more than the bound do not wait")
    func waitingBound() async {
        let parts = await Installation(ledger: FakeQuotaLedger(gate: Gate()), waitingLimit: 2)
        await withTaskGroup(of: Void.self) { group in
            group.addTask { #expect(await refusal(parts, 1) == nil) }
            await parts.ledger.gate.arrivals(1)
            for _ in 0..<2 { group.addTask { #expect(await refusal(parts, 1) == nil) } }
            await waiters(parts, count: 2)
            let overloaded = await refusal(parts, 1)
            #expect(overloaded?.code == .overloaded && overloaded?.retryAfterSeconds == 1)
            parts.ledger.gate.open()
        }
    }
}
