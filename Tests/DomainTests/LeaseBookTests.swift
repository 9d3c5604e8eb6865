import TestSupport
import Testing

@testable import Domain

@Suite("Lease book") struct LeaseBookTests {
    static let now = Timestamp(microsecondsSince1970: 1_000_000_000)
    static let period = Period(
        start: Timestamp(microsecondsSince1970: 0), end: Timestamp(microsecondsSince1970: 2_000_000_000), id: "p")
    static let second: UInt64 = 1_000_000_000

    static func quota(_ unit: QuotaUnit, mode: QuotaMode = .hard) -> Quota {
        Quota(
            id: QuotaID(high: 0, low: unit == .tokens ? 1 : 2), unit: unit, frequency: .month, amount: 1_000, mode: mode
        )
    }

    static func lease(
        _ number: UInt64, requests: Int64? = nil, tokens: Int64? = nil, until: UInt64 = 100 * second,
        mode: QuotaMode = .hard,
        period: Period = period
    ) -> Lease {
        var slices: [Lease.Slice] = []
        if let requests { slices.append(.init(quota: quota(.requests, mode: mode), period: period, granted: requests)) }
        if let tokens { slices.append(.init(quota: quota(.tokens, mode: mode), period: period, granted: tokens)) }
        return Lease(
            id: LeaseID(high: 0, low: number), tenantID: TenantID(high: 0, low: 1), slices: slices,
            expiresAtNanoseconds: until)
    }

    func hold(_ admission: LeaseBook.Admission) -> Hold? {
        if case .held(let hold) = admission { hold } else { nil }
    }

    static let terms = QuotaTerms(quotas: [], timeZone: "UTC")

    func take(
        _ book: inout LeaseBook, _ tokens: Int64, under terms: QuotaTerms = terms,
        monotonic: UInt64 = 0
    ) -> Hold? {
        hold(book.take(tokens: tokens, under: terms, monotonicNanoseconds: monotonic))
    }

    func left(_ book: LeaseBook) -> [Int64] {
        book.remaining(monotonicNanoseconds: 0)?.slices.map(\.remaining) ?? []
    }

    @Test("what goes back of one lease and quota is named once")
    func summedReturns() {
        func part(_ lease: UInt64, _ quota: UInt64, _ amount: Int64) -> LeaseReturn {
            LeaseReturn(leaseID: LeaseID(high: 0, low: lease), quotaID: QuotaID(high: 0, low: quota), amount: amount)
        }
        #expect(
            [part(1, 1, 5), part(2, 1, 1), part(1, 1, 7), part(1, 2, 3)].summed
                == [part(1, 1, 12), part(2, 1, 1), part(1, 2, 3)])
        #expect([LeaseReturn]().summed.isEmpty)
    }

    func exceeded(_ book: LeaseBook) -> [Bool] {
        book.remaining(monotonicNanoseconds: 0)?.slices.map(\.isExceeded) ?? []
    }

    @Test("an empty book holds nothing")
    func empty() {
        var book = LeaseBook()
        #expect(book.take(tokens: 0, under: Self.terms, monotonicNanoseconds: 0) == .needsLease)
        #expect(book.isEmpty && book.inFlight == 0 && left(book).isEmpty)
        #expect(book.drain().isEmpty)
    }

    @Test("a hold takes one request and its tokens, and no more than there is")
    func bound() {
        var book = LeaseBook()
        book.add(Self.lease(1, requests: 2, tokens: 10), under: Self.terms, at: Self.now, monotonicNanoseconds: 0)
        #expect(take(&book, 11) == nil)
        #expect(take(&book, 6) != nil)
        #expect(take(&book, 5) == nil)
        #expect(take(&book, 4) != nil)
        #expect(take(&book, 0) == nil, "the requests are used up")
        #expect(left(book) == [0, 0])
        #expect(book.inFlight == 2)
    }

    @Test("what a request did not use goes back, what it used does not")
    func settle() throws {
        var book = LeaseBook()
        book.add(Self.lease(1, requests: 5, tokens: 100), under: Self.terms, at: Self.now, monotonicNanoseconds: 0)
        let first = try #require(take(&book, 60))
        book.settle(first, usedTokens: 10)
        #expect(left(book) == [4, 90])
        let second = try #require(take(&book, 60))
        book.void(second)
        #expect(left(book) == [4, 90])
        let third = try #require(take(&book, 60))
        book.settle(third, usedRequests: 0, usedTokens: 5)
        #expect(left(book) == [4, 85])
        #expect(book.inFlight == 0)
    }

    @Test("a lease that has ended by our clock admits nothing")
    func expiry() throws {
        var book = LeaseBook()
        book.add(
            Self.lease(1, tokens: 100, until: 10 * Self.second), under: Self.terms, at: Self.now,
            monotonicNanoseconds: 0)
        #expect(take(&book, 1, monotonic: 10 * Self.second - 1) != nil)
        #expect(take(&book, 1, monotonic: 10 * Self.second) == nil)
        book.renewed([LeaseID(high: 0, low: 1)], untilNanoseconds: 20 * Self.second)
        #expect(take(&book, 1, monotonic: 10 * Self.second) != nil)
    }

    @Test("a lease admits only within its period")
    func period() {
        var book = LeaseBook()
        // A thousand seconds are left of the period when the lease is asked for.
        book.add(
            Self.lease(1, tokens: 100, until: 5_000 * Self.second), under: Self.terms, at: Self.now,
            monotonicNanoseconds: 7 * Self.second)
        #expect(take(&book, 1, monotonic: 7 * Self.second) != nil)
        #expect(take(&book, 1, monotonic: 1_007 * Self.second - 1) != nil)
        #expect(take(&book, 1, monotonic: 1_007 * Self.second) == nil)
        #expect(
            book.remaining(monotonicNanoseconds: 1_006 * Self.second)?.now.milliseconds(since: Self.period.end)
                == -1_000)
    }

    @Test("a lease that was granted when its period had just ended admits nothing")
    func overAtOnce() {
        var book = LeaseBook()
        book.add(
            Self.lease(1, tokens: 100), under: Self.terms,
            at: Self.period.end.advanced(byMilliseconds: 1), monotonicNanoseconds: 0)
        #expect(take(&book, 1) == nil)
    }

    @Test("a period that lasts for ever does not overflow the clock")
    func endless() {
        let clock = DatabaseClock(at: Self.now, nanoseconds: 7)
        #expect(clock.nanoseconds(of: Timestamp(microsecondsSince1970: .max)) == .max)
        #expect(clock.nanoseconds(of: Timestamp(microsecondsSince1970: 253_402_300_800_000_000)) == .max)
        #expect(clock.nanoseconds(of: Timestamp(microsecondsSince1970: .min)) == 7)
        #expect(clock.nanoseconds(of: Self.now.advanced(byMilliseconds: 2)) == 2_000_007)
        #expect(clock.now(monotonicNanoseconds: 0) == Self.now)
        #expect(clock.now(monotonicNanoseconds: 3_000_007) == Self.now.advanced(byMilliseconds: 3))
    }

    @Test("no more is spent on a lease than it was granted, also where the limit does not refuse: it grows")
    func soft() throws {
        for mode in [QuotaMode.soft, .payAsYouGo] {
            var book = LeaseBook()
            let terms = QuotaTerms(
                quotas: [Self.quota(.requests, mode: mode), Self.quota(.tokens, mode: mode)], timeZone: "UTC")
            book.add(
                Self.lease(1, requests: 2, tokens: 10, mode: mode), under: terms, at: Self.now, monotonicNanoseconds: 0)
            #expect(take(&book, 9, under: terms) != nil)
            #expect(take(&book, 9, under: terms) == nil)
            let request = try #require(ask(&book, 9, under: terms))
            #expect(!request.isNew && request.wants.map(\.quota.unit) == [.tokens])
            #expect(request.wants.map(\.minimum) == [8])
        }
    }

    @Test("a limit that does not refuse is exceeded by what was spent, not by what is in flight")
    func exceeded() throws {
        for (mode, isTold) in [(QuotaMode.hard, false), (.soft, true), (.payAsYouGo, true)] {
            var book = LeaseBook()
            let quota = Self.quota(.tokens, mode: mode)
            book.add(Self.lease(1, tokens: 500, mode: mode), under: Self.terms, at: Self.now, monotonicNanoseconds: 0)
            book.told(LeaseID(high: 0, low: 1), of: quota, settled: 900, isExceeded: false)
            let first = try #require(take(&book, 300))
            #expect(exceeded(book) == [false], "nothing is spent yet")
            book.settle(first, usedTokens: 100)
            #expect(exceeded(book) == [false], "all of it is used and no more")
            let second = try #require(take(&book, 10))
            book.settle(second, usedTokens: 1)
            #expect(exceeded(book) == [isTold])
            // What goes back was not spent.
            _ = book.surrender(quota.id)
            #expect(exceeded(book) == [isTold])
        }
    }

    @Test("a renewal tells which limits are exceeded, and takes it back when they no longer are")
    func exceededElsewhere() {
        var book = LeaseBook()
        let id = LeaseID(high: 0, low: 1)
        book.add(
            Self.lease(1, requests: 5, tokens: 5, mode: .soft), under: Self.terms, at: Self.now, monotonicNanoseconds: 0
        )
        for quotas in [[], [Self.quota(.tokens).id], []] as [Set<QuotaID>] {
            let renewal = LeaseRenewal(open: [id], scarce: [], exceeded: [id: quotas])
            #expect(book.renewed([id], as: renewal, untilNanoseconds: 1).isEmpty)
            #expect(exceeded(book) == [false, !quotas.isEmpty])
        }
        #expect(
            book.renewed([id], as: LeaseRenewal(open: [id], scarce: [id]), untilNanoseconds: 1).map(\.amount) == [5, 5])
        _ = book.renewed([id], as: LeaseRenewal(open: [], scarce: []), untilNanoseconds: 1)
        #expect(book.isEmpty, "it is lost")
    }

    @Test("a newer lease replaces the older one, which is given back once nothing is in flight")
    func replaced() throws {
        var book = LeaseBook()
        book.add(Self.lease(1, tokens: 10), under: Self.terms, at: Self.now, monotonicNanoseconds: 0)
        let old = try #require(take(&book, 4))
        book.add(Self.lease(2, tokens: 50), under: Self.terms, at: Self.now, monotonicNanoseconds: 0)
        #expect(take(&book, 1)?.leaseID == LeaseID(high: 0, low: 2))
        #expect(book.tick(monotonicNanoseconds: 0, idleAfterNanoseconds: .max).close.isEmpty)
        book.settle(old, usedTokens: 4)
        let upkeep = book.tick(monotonicNanoseconds: 0, idleAfterNanoseconds: .max)
        #expect(upkeep.close == [LeaseID(high: 0, low: 1)])
        #expect(upkeep.renew == [LeaseID(high: 0, low: 2)])
    }

    @Test("an idle lease is closed, one in use renewed")
    func idle() throws {
        var book = LeaseBook()
        book.add(Self.lease(1, tokens: 10), under: Self.terms, at: Self.now, monotonicNanoseconds: 0)
        let used = try #require(take(&book, 4, monotonic: Self.second))
        book.settle(used, usedTokens: 1)
        let early = book.tick(
            monotonicNanoseconds: 6 * Self.second - 1, idleAfterNanoseconds: 5 * Self.second)
        #expect(early.renew.count == 1 && early.close.isEmpty)
        let late = book.tick(monotonicNanoseconds: 6 * Self.second, idleAfterNanoseconds: 5 * Self.second)
        #expect(late.renew.isEmpty && late.close.count == 1)
        #expect(book.isEmpty)
    }

    @Test("a lease with a request in flight is renewed however long that takes, even past its period")
    func inFlight() throws {
        var book = LeaseBook()
        book.add(Self.lease(1, tokens: 10), under: Self.terms, at: Self.now, monotonicNanoseconds: 0)
        let hold = try #require(take(&book, 4))
        let upkeep = book.tick(
            monotonicNanoseconds: 1_090 * Self.second, idleAfterNanoseconds: Self.second)
        #expect(upkeep.renew == [hold.leaseID] && upkeep.close.isEmpty)
        book.settle(hold, usedTokens: 4)
        #expect(
            book.tick(monotonicNanoseconds: 1_000 * Self.second, idleAfterNanoseconds: .max).close == [hold.leaseID])
    }

    @Test("a lost lease admits nothing, and is forgotten with its last request")
    func lost() throws {
        var book = LeaseBook()
        book.add(Self.lease(1, tokens: 10), under: Self.terms, at: Self.now, monotonicNanoseconds: 0)
        let hold = try #require(take(&book, 4))
        book.lost([hold.leaseID])
        book.renewed([hold.leaseID], untilNanoseconds: 500 * Self.second)
        #expect(take(&book, 1) == nil)
        #expect(book.inFlight == 1)
        book.void(hold)
        book.lost([hold.leaseID])
        #expect(book.isEmpty)
    }

    @Test("a settlement of a lease that the book has forgotten changes nothing")
    func forgotten() {
        var book = LeaseBook()
        book.add(Self.lease(1, tokens: 10), under: Self.terms, at: Self.now, monotonicNanoseconds: 0)
        book.settle(Hold(leaseID: LeaseID(high: 9, low: 9), tokens: 5), usedTokens: 1)
        book.renewed([LeaseID(high: 9, low: 9)], untilNanoseconds: 1)
        #expect(left(book) == [10] && book.inFlight == 0)
    }

    @Test("draining gives back what is idle and keeps what is in flight until it has settled")
    func drain() throws {
        var book = LeaseBook()
        book.add(Self.lease(1, tokens: 10), under: Self.terms, at: Self.now, monotonicNanoseconds: 0)
        let hold = try #require(take(&book, 4))
        #expect(book.drain().isEmpty)
        #expect(take(&book, 1) == nil)
        book.settle(hold, usedTokens: 4)
        #expect(book.drain() == [hold.leaseID])
        #expect(book.isEmpty)
    }
}

extension LeaseBook {
    /// The slices of the open lease with what is left of them, and the time by the database.
    func remaining(
        monotonicNanoseconds: UInt64
    ) -> (slices: [(slice: Lease.Slice, remaining: Int64, isExceeded: Bool)], now: Timestamp)? {
        var found: (slices: [(slice: Lease.Slice, remaining: Int64, isExceeded: Bool)], now: Timestamp)?
        forEachRemaining(monotonicNanoseconds: monotonicNanoseconds) { slice, standing, now in
            found = ((found?.slices ?? []) + [(slice, standing.remaining, standing.isExceeded)], now)
        }
        return found
    }
}
