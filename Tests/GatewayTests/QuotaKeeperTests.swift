import Domain
import TestSupport
import Testing

@testable import Gateway

@Suite("Quota keeper") struct QuotaKeeperTests {
    /// Lease ids for a test, never the same twice.
    private static func leaseID() -> LeaseID {
        var random = SystemRandomNumberGenerator()
        return LeaseID(high: random.next(), low: random.next())
    }

    private func hold(_ parts: Installation, _ tokens: Int64, _ principal: Principal = Installation.principal())
        async throws(Refusal) -> Hold?
    {
        try await parts.quota.hold(tokens: tokens, for: principal, makeLeaseID: Self.leaseID)
    }

    private func refusal(_ parts: Installation, _ tokens: Int64, _ principal: Principal = Installation.principal())
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
    private func waiters(_ parts: Installation, count: Int) async {
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

    @Test("tenants do not share leases or waiting")
    func tenants() async throws {
        let parts = await Installation()
        let other = TenantID(high: 7, low: 7)
        _ = try await hold(parts, 10)
        _ = try await hold(parts, 10, Installation.principal(tenant: other))
        #expect(parts.ledger.requests.map(\.tenantID) == [Installation.tenant, other])
    }

    @Test("a lease that nobody renews admits nothing after its time")
    func expiry() async throws {
        let time = ManualTime(Installation.noon)
        let parts = await Installation(time: time)
        _ = try await hold(parts, 10)
        time.advance(milliseconds: 9_999)
        _ = try await hold(parts, 10)
        #expect(parts.ledger.requests.count == 1)
        time.advance(milliseconds: 1)
        _ = try await hold(parts, 10)
        #expect(parts.ledger.requests.count == 2)
    }

    @Test("a lease in use is renewed, one that idles is given back")
    func keep() async throws {
        let time = ManualTime(Installation.noon)
        let parts = await Installation(time: time)
        let held = try #require(try await hold(parts, 10))
        for _ in 0..<5 {
            time.advance(milliseconds: 4_000)
            await parts.quota.keep()
        }
        #expect(parts.ledger.renewed.count == 5 && parts.ledger.closed.isEmpty)
        _ = try await hold(parts, 10)
        #expect(parts.ledger.requests.count == 1, "a renewed lease admits on")
        parts.quota.settle(held, usedTokens: 1, of: Installation.tenant)
        let second = try #require(try await hold(parts, 1))
        parts.quota.void(second, of: Installation.tenant)
        await parts.quota.keep()
        #expect(parts.ledger.closed.isEmpty, "one request is still in flight")
    }

    @Test("a lease is given back half a lease's time after its last use")
    func idle() async throws {
        let time = ManualTime(Installation.noon)
        let parts = await Installation(time: time)
        let held = try #require(try await hold(parts, 10))
        parts.quota.settle(held, usedTokens: 10, of: Installation.tenant)
        time.advance(milliseconds: 4_999)
        await parts.quota.keep()
        #expect(parts.ledger.closed.isEmpty)
        time.advance(milliseconds: 1)
        await parts.quota.keep()
        #expect(parts.ledger.closed == [held.leaseID])
    }

    @Test("a lease that the ledger has forgotten is asked for anew")
    func lost() async throws {
        let time = ManualTime(Installation.noon)
        let parts = await Installation(time: time)
        let held = try #require(try await hold(parts, 10))
        parts.ledger.lose(held.leaseID)
        time.advance(milliseconds: 3_000)
        await parts.quota.keep()
        _ = try await hold(parts, 10)
        #expect(parts.ledger.requests.map(\.isNew) == [true, true])
        parts.quota.lost(held, of: Installation.tenant)
    }

    @Test("a ledger that is away at renewal does no harm: the lease ends by its own time")
    func keepAway() async throws {
        let time = ManualTime(Installation.noon)
        let parts = await Installation(time: time)
        _ = try await hold(parts, 10)
        parts.ledger.isAway = true
        time.advance(milliseconds: 4_000)
        await parts.quota.keep()
        #expect(await refusal(parts, 10) == nil)
        time.advance(milliseconds: 6_000)
        #expect(await refusal(parts, 10)?.code == .meteringUnavailable)
    }

    @Test("draining gives back what is idle")
    func drain() async throws {
        let parts = await Installation()
        let held = try #require(try await hold(parts, 10))
        await parts.quota.drain()
        #expect(parts.ledger.closed.isEmpty)
        parts.quota.settle(held, usedTokens: 10, of: Installation.tenant)
        await parts.quota.drain()
        #expect(parts.ledger.closed == [held.leaseID])
        await parts.quota.drain()
        #expect(parts.ledger.closed.count == 1)
    }

    @Test("a lease that is used up grows in place by what is missing")
    func grows() async throws {
        let parts = await Installation()
        parts.ledger.limitSlices(to: 30)
        let principal = Installation.principal(quotas: [Installation.quota(.tokens, 100)])
        let first = try #require(try await hold(parts, 20, principal))
        let second = try #require(try await hold(parts, 25, principal))
        #expect(first.leaseID == second.leaseID && parts.ledger.openLeases.count == 1)
        #expect(parts.ledger.requests.map(\.isNew) == [true, false])
        #expect(parts.ledger.requests.last?.wants.map(\.minimum) == [15])
    }

    @Test("a request is not refused where what is left of the lease and what is free cover it together")
    func remainderAndFree() async throws {
        let parts = await Installation()
        let quota = Installation.quota(.tokens, 100)
        let principal = Installation.principal(quotas: [quota])
        parts.ledger.limitSlices(to: 60)
        let first = try #require(try await hold(parts, 10, principal))
        parts.quota.settle(first, usedTokens: 10, of: Installation.tenant)
        // 50 are left in the lease and 40 are free.
        #expect(try await hold(parts, 90, principal) != nil)
        #expect(await refusal(parts, 1, principal)?.code == .quotaExceeded)
        #expect(parts.ledger.held(of: quota.id) == 100)
    }

    @Test("what another key of the tenant has left in this process is taken before a request is refused")
    func otherKeysRemainder() async throws {
        let parts = await Installation()
        let tenants = Installation.quota(.tokens, 100)
        let own = Quota(
            id: QuotaID(high: 2, low: 1), unit: .tokens, frequency: .month, amount: 1_000, mode: .hard, level: .key)
        let first = Installation.principal(quotas: [tenants])
        let second = Installation.principal(quotas: [tenants, own])
        let held = try #require(try await hold(parts, 10, first))
        #expect(parts.ledger.held(of: tenants.id) == 100, "the first key's lease has all of it")
        let other = try #require(try await hold(parts, 90, second))
        #expect(held.leaseID != other.leaseID && held.account != other.account)
        #expect(parts.ledger.givenBack.map(\.leaseID) == [held.leaseID])
        #expect(await refusal(parts, 1, first)?.quota?.quota.id == tenants.id)
        parts.quota.void(other, of: Installation.tenant)
        parts.quota.settle(held, usedTokens: 10, of: Installation.tenant)
        #expect(try await hold(parts, 90, first) != nil)
    }

    @Test("quotas of tenant and key are taken together or not at all")
    func levels() async throws {
        let parts = await Installation()
        let tenants = Installation.quota(.requests, 100)
        let own = Quota(
            id: QuotaID(high: 2, low: 1), unit: .requests, frequency: .day, amount: 2, mode: .hard, level: .key)
        let bounded = Installation.principal(quotas: [tenants, own])
        for _ in 0..<2 { #expect(await refusal(parts, 1, bounded) == nil) }
        let refused = try #require(await refusal(parts, 1, bounded))
        #expect(refused.quota?.quota.policy == "key-requests-day")
        #expect(await refusal(parts, 1, Installation.principal(quotas: [tenants])) == nil)
    }

    @Test("a limit that was lowered below what is held stops admission at once, one that was raised lets it go on")
    func changedLimit() async throws {
        let parts = await Installation()
        func principal(_ amount: Int64) -> Principal {
            Installation.principal(quotas: [Installation.quota(.requests, amount)])
        }
        for _ in 0..<5 { #expect(await refusal(parts, 1, principal(100)) == nil) }
        #expect(await refusal(parts, 1, principal(4))?.quota?.held == 5, "what was left is given back")
        #expect(await refusal(parts, 1, principal(5))?.code == .quotaExceeded)
        #expect(await refusal(parts, 1, principal(6)) == nil)
        #expect(await refusal(parts, 1, principal(6))?.code == .quotaExceeded)
        #expect(await refusal(parts, 1, principal(1_000)) == nil)
    }

    @Test("what is idle in a lease is given back when it is missed elsewhere, and the lease goes on")
    func scarce() async throws {
        let time = ManualTime(Installation.noon)
        let parts = await Installation(time: time)
        let quota = Installation.quota(.tokens, 1_000)
        let principal = Installation.principal(quotas: [quota])
        let held = try #require(try await hold(parts, 10, principal))
        #expect(parts.ledger.held(of: quota.id) == 160)
        parts.ledger.makeScarce(held.leaseID)
        time.advance(milliseconds: 3_000)
        await parts.quota.keep()
        #expect(parts.ledger.held(of: quota.id) == 10)
        #expect(try await hold(parts, 10, principal)?.leaseID == held.leaseID)
    }

    @Test("a lease that is not open any more when it is to grow is replaced")
    func lostWhileGrowing() async throws {
        let parts = await Installation()
        parts.ledger.limitSlices(to: 10)
        let principal = Installation.principal(quotas: [Installation.quota(.tokens, 1_000)])
        let held = try #require(try await hold(parts, 10, principal))
        parts.ledger.lose(held.leaseID)
        let next = try #require(try await hold(parts, 10, principal))
        #expect(next.leaseID != held.leaseID)
        #expect(parts.ledger.requests.map(\.isNew) == [true, false, true])
    }

    @Test(
        "a wall clock that is wrong opens no other period: the database's time counts",
        arguments: [3_600, -3_600, -86_400, 30 * 86_400] as [Int64])
    func wrongClock(seconds: Int64) async throws {
        let time = ManualTime(Installation.noon)
        let right = time.now
        let parts = await Installation(time: time)
        parts.ledger.databaseTime = right
        time.setWallClock(right.advanced(byMilliseconds: seconds * 1_000))
        let principal = Installation.principal(quotas: [Installation.quota(.requests, 2, frequency: .hour)])
        for _ in 0..<2 { #expect(try await hold(parts, 1, principal) != nil) }
        #expect(await refusal(parts, 1, principal)?.quota?.period.id == "2026-03-15T12Z")
        #expect(parts.ledger.requests.count <= 4)
        // Time goes on by the monotonic clock, whatever the wall clock does next.
        time.advance(milliseconds: 3_600_000)
        parts.ledger.databaseTime = right.advanced(byMilliseconds: 3_600_000)
        time.setWallClock(right)
        #expect(try await hold(parts, 1, principal) != nil)
        #expect(parts.ledger.requests.last?.wants.first?.period.id == "2026-03-15T13Z")
    }

    @Test(
        "a lease ends with its period by the database's clock, wherever the wall clock jumps meanwhile",
        arguments: [3_600, -3_600, -86_400, 86_400] as [Int64],
        ["2028-02-29T23:59:50Z", "2026-02-28T23:59:50Z", "2026-12-31T23:59:50Z"])
    func jumpAtTheEnd(seconds: Int64, start: String) async throws {
        let (right, wrong, database) = (ManualTime(start), ManualTime(start), ManualTime(start))
        let ledger = FakeQuotaLedger()
        let keepers = [right, wrong].map {
            QuotaKeeper(ledger: ledger, configuration: .init(), time: $0, logger: Installation.logger)
        }
        let quota = Installation.quota(.requests, 1_000)
        let principal = Principal(
            tenantID: Installation.tenant, keyID: Installation.keyID, userID: nil, scopes: [.predict],
            allowedModels: nil, environment: .live, tierVersionID: Installation.tier, quotas: [quota],
            timeZone: "UTC", retention: .none)
        let calendar = PeriodCalendar.utc
        let months = [
            calendar.period(containing: right.now, of: quota),
            calendar.period(containing: right.now.advanced(byMilliseconds: 20_000), of: quota),
        ]
        #expect(months[0].end == months[1].start)
        var next: UInt64 = 0
        for step in 0..<20 {
            ledger.databaseTime = database.now
            if step == 3 { wrong.setWallClock(database.now.advanced(byMilliseconds: seconds * 1_000)) }
            for keeper in keepers {
                let hold = try #require(
                    try await keeper.hold(tokens: 1, for: principal) {
                        next += 1
                        return LeaseID(high: 9, low: next)
                    })
                let period = ledger.period(of: hold.leaseID)
                #expect(period == months[step < 10 ? 0 : 1], "second \(step)")
                #expect(keeper.readings(for: principal).allSatisfy { ($0.resetSeconds ?? 0) >= 0 })
                keeper.settle(hold, usedTokens: 1, of: principal.tenantID)
                await keeper.keep()
            }
            for clock in [right, wrong, database] { clock.advance(milliseconds: 1_000) }
        }
        // No instant of any clock was in a third period.
        #expect(Set(ledger.requests.flatMap(\.wants).map(\.period)).subtracting(months).count <= 1)
        #expect(ledger.periods.isSubset(of: Set(months)))
    }

    @Test("a lease whose periods are no longer the database's is given up when it has to grow")
    func databaseSteps() async throws {
        let time = ManualTime(Installation.noon)
        let parts = await Installation(time: time)
        parts.ledger.databaseTime = time.now
        parts.ledger.limitSlices(to: 1)
        let principal = Installation.principal(quotas: [Installation.quota(.requests, 100, frequency: .hour)])
        #expect(try await hold(parts, 1, principal) != nil)
        parts.ledger.databaseTime = time.now.advanced(byMilliseconds: 3_600_000)
        #expect(try await hold(parts, 1, principal) != nil)
        #expect(parts.ledger.requests.last?.wants.first?.period.id == "2026-03-15T13Z")
        #expect(parts.ledger.requests.last?.isNew == true)
    }

    @Test("an account that is unused makes room for another key's")
    func reusedAccounts() async throws {
        let parts = await Installation()
        for number in 0..<50 as Range<UInt64> {
            let own = Quota(
                id: QuotaID(high: 2, low: number), unit: .requests, frequency: .day, amount: 2, mode: .hard, level: .key
            )
            let held = try #require(try await hold(parts, 1, Installation.principal(quotas: [own])))
            #expect(held.account == 0)
            parts.quota.settle(held, usedTokens: 1, of: Installation.tenant)
            await parts.quota.drain()
        }
    }

    @Test("a new period asks for a new lease")
    func period() async throws {
        let time = ManualTime("2026-03-15T12:00:59Z")
        let parts = await Installation(time: time)
        let principal = Installation.principal(quotas: [Installation.quota(.requests, 1, frequency: .minute)])
        #expect(try await hold(parts, 1, principal) != nil)
        #expect(await refusal(parts, 1, principal)?.retryAfterSeconds == 1)
        time.advance(milliseconds: 1_000)
        #expect(try await hold(parts, 1, principal) != nil)
        #expect(parts.ledger.requests.last?.wants.first?.period.id == "2026-03-15T12:01Z")
    }

    @Test("the numbers for the headers are what the lease has left and what was free beside it")
    func readings() async throws {
        let parts = await Installation()
        parts.ledger.limitSlices(to: 200)
        let principal = Installation.principal(quotas: [
            Installation.quota(.requests, 1_000), Installation.quota(.tokens, 5_000),
        ])
        let held = try #require(try await hold(parts, 100, principal))
        #expect(parts.quota.readings(for: principal).map(\.remaining) == [999, 4_900])
        parts.quota.settle(held, usedTokens: 40, of: Installation.tenant)
        #expect(parts.quota.readings(for: principal).map(\.remaining) == [999, 4_960])
        let reading = try #require(parts.quota.readings(for: principal).first)
        #expect(reading.resetSeconds == Int64(16 * 86_400 + 10 * 3_600))
        #expect(reading.windowSeconds == Int64(31 * 86_400 - 3_600))
        #expect(parts.quota.readings(for: Installation.principal(quotas: [])).isEmpty)
    }
}
