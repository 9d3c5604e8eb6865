import TestSupport
import Testing

@testable import Domain

/// Several gateways with random traffic on one account: what they admit together is held to the limit, counted from outside.
@Suite("Rate limits shared by gateways") struct RateAccountTests {
    private static let limits = ScopeLimits(
        requests: RateLimit(amount: 6_000, burst: 60), tokens: RateLimit(amount: 60_000, burst: 900),
        concurrency: RateLimit(amount: 12))
    private static let lifetime: Int64 = 400_000
    private static let start: Int64 = 1_772_366_400_000_000

    private struct Running {
        let gateway: Int
        let take: RateBook.Take
        let index: Int
        let used: Int64
        let endsAt: Int64
    }

    private struct Simulation {
        var random: SeededRandom
        var account = [RateAccount()]
        var books: [RateBook]
        var now = RateAccountTests.start
        var running: [Running] = []
        /// When each request was admitted, and how many tokens it turned out to use; a bound until that is known.
        var admitted: [(at: Int64, tokens: Int64)] = []
        var dead: Set<Int> = []
        var refusals = 0
        var exchanges = 0

        init(seed: UInt64, gateways: Int) {
            random = SeededRandom(seed: seed)
            books = (0..<gateways).map { _ in RateBook() }
        }

        var monotonic: UInt64 { UInt64(now) * 1_000 }

        mutating func exchange(_ gateway: Int, _ need: RateCredit, spare: Int64, givesBack: Bool = false) -> RateAnswer
        {
            exchanges += 1
            let demand = books[gateway].demand(
                need, spareCount: spare, givesBack: givesBack, keyID: nil, capacity: RateAccountTests.limits.capacity,
                monotonicNanoseconds: monotonic)
            let answer = RateAccount.exchange(
                [demand], &account, of: GatewayID(high: 0, low: UInt64(gateway) + 1),
                lifetimeMicroseconds: RateAccountTests.lifetime, at: now)
            books[gateway].answered(
                answer.standings[0], sentAtNanoseconds: monotonic,
                lifetimeNanoseconds: UInt64(RateAccountTests.lifetime) * 1_000, atNanoseconds: monotonic)
            return answer
        }

        /// - Returns: whether it was admitted.
        mutating func request(_ gateway: Int, bound: Int64, used: Int64, for duration: Int64, isVoid: Bool) -> Bool {
            let need = RateAccountTests.limits.credit(tokens: bound)
            if !books[gateway].covers(need, monotonicNanoseconds: monotonic) {
                guard exchange(gateway, need, spare: 8).shortage == nil else {
                    refusals += 1
                    return false
                }
            }
            #expect(books[gateway].covers(need, monotonicNanoseconds: monotonic))
            let take = books[gateway].take(need)
            if isVoid {
                books[gateway].giveBack(take)
                return true
            }
            books[gateway].admit(take)
            running.append(
                Running(gateway: gateway, take: take, index: admitted.count, used: used, endsAt: now + duration))
            admitted.append((now, bound))
            return true
        }

        mutating func finish() {
            for ended in running where ended.endsAt <= now && !dead.contains(ended.gateway) {
                let tokens = RateAccountTests.limits.tokens?.microseconds(for: ended.used) ?? 0
                books[ended.gateway].settle(ended.take, usedTokens: tokens)
                admitted[ended.index].tokens = ended.used
            }
            running.removeAll { $0.endsAt <= now }
        }

        mutating func upkeep(_ gateway: Int) {
            guard !dead.contains(gateway), let isUnused = books[gateway].upkeep else { return }
            _ = exchange(gateway, .zero, spare: 0, givesBack: isUnused)
        }

        /// Every window, from every admission to every later one.
        func expectWithinLimits() {
            let (requests, tokens) = (RateAccountTests.limits.requests, RateAccountTests.limits.tokens)
            guard let requests, let tokens else { return }
            let (requestRoom, tokenRoom) = (
                requests.microseconds(for: requests.burst), tokens.microseconds(for: tokens.burst)
            )
            for first in admitted.indices {
                var (count, sum): (Int64, Int64) = (0, 0)
                for last in admitted[first...] {
                    count += 1
                    sum += last.tokens
                    let length = last.at - admitted[first].at
                    if requests.microseconds(for: count) > requestRoom + length {
                        Issue.record("\(count) requests in \(length) µs")
                        return
                    }
                    if tokens.microseconds(for: sum) > tokenRoom + length {
                        Issue.record("\(sum) tokens in \(length) µs")
                        return
                    }
                }
            }
        }
    }

    @Test(
        "never more than the burst and the rate in any window, never more under way, through crashes",
        arguments: 0..<12 as Range<UInt64>)
    func neverMore(seed: UInt64) {
        var run = Simulation(seed: seed, gateways: 3)
        let crashes = seed.isMultiple(of: 2)
        for step in 0..<1_000 {
            run.now += Int64.random(in: 0...8_000, using: &run.random)
            run.finish()
            let gateway = Int.random(in: 0..<3, using: &run.random)
            if step % 10 == 0 { for other in 0..<3 { run.upkeep(other) } }
            guard !run.dead.contains(gateway) else { continue }
            let bound = Int64.random(in: 1...60, using: &run.random)
            _ = run.request(
                gateway, bound: bound, used: Int64.random(in: 0...bound, using: &run.random),
                for: Int64.random(in: 0...200_000, using: &run.random),
                isVoid: Int.random(in: 0..<10, using: &run.random) == 0)
            let underWay = run.running.count { !run.dead.contains($0.gateway) }
            #expect(underWay <= 12)
            if crashes, step == 700 { run.dead.insert(gateway) }
        }
        #expect(run.refusals > 50 && run.admitted.count > 200)
        run.expectWithinLimits()
    }

    @Test("nearly all of a limit can be used, from several gateways that ask for more than there is")
    func nearlyAllUsable() {
        var run = Simulation(seed: 5, gateways: 3)
        // Requests are the limit that decides: 100 a second, after a burst of 60.
        for step in 0..<10_000 {
            run.now += 2_000
            run.finish()
            if step % 50 == 0 { for gateway in 0..<3 { run.upkeep(gateway) } }
            _ = run.request(step % 3, bound: 2, used: 2, for: 5_000, isVoid: false)
        }
        let seconds = 20
        #expect(run.admitted.count >= (60 + 100 * seconds) * 98 / 100, "\(run.admitted.count)")
        run.expectWithinLimits()
    }

    @Test("what is far from a limit is admitted without asking for each request")
    func fewExchanges() {
        var run = Simulation(seed: 6, gateways: 1)
        for step in 0..<2_000 {
            run.now += 40_000
            run.finish()
            if step % 3 == 0 { run.upkeep(0) }
            #expect(run.request(0, bound: 2, used: 1, for: 1_000, isVoid: false) == true)
        }
        #expect(run.exchanges < 1_100, "\(run.exchanges)")
    }

    @Test("what a dead gateway held is free again after its lease: slots at once, the rest at the limit's pace")
    func deadGateway() {
        var run = Simulation(seed: 7, gateways: 2)
        for _ in 0..<12 { _ = run.request(0, bound: 10, used: 10, for: .max / 2, isVoid: false) }
        #expect(run.request(1, bound: 10, used: 10, for: 0, isVoid: false) == false)
        run.dead.insert(0)
        run.now += Self.lifetime - 1
        #expect(run.request(1, bound: 10, used: 10, for: 0, isVoid: false) == false)
        run.now += 1
        for _ in 0..<12 { #expect(run.request(1, bound: 10, used: 10, for: .max / 2, isVoid: false) == true) }
    }

    @Test("a lease that was lost is not given back by what was taken from it, but its slots are")
    func lostLease() {
        var book = RateBook()
        let need = Self.limits.credit(tokens: 10)
        var accounts = [RateAccount()]
        func ask(_ book: inout RateBook, at now: Int64, _ need: RateCredit) -> RateAnswer {
            let demand = book.demand(
                need, spareCount: 0, keyID: nil, capacity: Self.limits.capacity,
                monotonicNanoseconds: UInt64(now) * 1_000)
            let answer = RateAccount.exchange(
                [demand], &accounts, of: GatewayID(high: 0, low: 1), lifetimeMicroseconds: Self.lifetime, at: now)
            book.answered(
                answer.standings[0], sentAtNanoseconds: UInt64(now) * 1_000,
                lifetimeNanoseconds: UInt64(Self.lifetime) * 1_000, atNanoseconds: UInt64(now) * 1_000)
            return answer
        }
        _ = ask(&book, at: Self.start, need)
        let take = book.take(need)
        book.admit(take)
        book.lose()
        let answer = ask(&book, at: Self.start, .zero)
        #expect(answer.standings[0].held == RateCredit(concurrency: 1), "the slot is in use still")
        #expect(answer.standings[0].free.requests == 600_000 - 10_000, "the rest counts as spent")
        #expect(answer.standings[0].free.tokens == 900_000 - 10_000)
        book.settle(take, usedTokens: 0)
        #expect(book.upkeep != nil)
        let last = ask(&book, at: Self.start, .zero)
        #expect(last.standings[0].free.tokens == 900_000 - 10_000, "nothing is given back of a lease that is gone")
        let rest = book.demand(
            .zero, spareCount: 0, givesBack: true, keyID: nil, capacity: Self.limits.capacity,
            monotonicNanoseconds: UInt64(Self.start) * 1_000)
        #expect(rest.kept == .zero)
    }
}
