import Domain
import TestSupport
import Testing

@testable import Gateway

extension QuotaKeeperTests {
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
