import TestSupport
import Testing

@testable import Domain

extension LeaseBookTests {
    func ask(
        _ book: inout LeaseBook, _ tokens: Int64, under terms: QuotaTerms, covering count: Int64 = 10, new: UInt64 = 99,
        monotonic: UInt64 = 0
    ) -> LeaseRequest? {
        book.ask(
            tokens: tokens, under: terms, tenantID: TenantID(high: 0, low: 1), covering: count,
            newLease: LeaseID(high: 0, low: new), monotonicNanoseconds: monotonic
        ) { _ in Self.period }
    }

    private static let both = QuotaTerms(quotas: [quota(.requests), quota(.tokens)], timeZone: "UTC")

    /// A book with one open lease under ``both``.
    private func opened(requests: Int64, tokens: Int64) -> LeaseBook {
        var book = LeaseBook()
        book.add(
            Self.lease(1, requests: requests, tokens: tokens), under: Self.both, at: Self.now, monotonicNanoseconds: 0)
        return book
    }

    @Test("an empty book asks for a new lease of all the quotas")
    func askNew() throws {
        var book = LeaseBook()
        let request = try #require(ask(&book, 7, under: Self.both))
        #expect(request.isNew && request.leaseID == LeaseID(high: 0, low: 99) && request.returns.isEmpty)
        #expect(request.wants.map(\.minimum) == [1, 7] && request.wants.map(\.wanted) == [10, 70])
    }

    @Test("an open lease asks for what it lacks and for nothing else, and grows by what it is given")
    func askMore() throws {
        var book = opened(requests: 5, tokens: 10)
        let request = try #require(ask(&book, 15, under: Self.both))
        #expect(!request.isNew && request.leaseID == LeaseID(high: 0, low: 1) && request.returns.isEmpty)
        #expect(request.wants.map(\.quota.unit) == [.tokens])
        #expect(request.wants.map(\.minimum) == [5] && request.wants.map(\.need) == [15])
        #expect(request.wants.map(\.wanted) == [140])
        book.grow(request.leaseID, by: [Lease.Slice(quota: Self.quota(.tokens), period: Self.period, granted: 5)])
        #expect(left(book) == [5, 15])
        #expect(take(&book, 15, under: Self.both) != nil)
        #expect(ask(&book, 0, under: Self.both) == nil, "the book covers it")
    }

    @Test("another limit, another zone or another mode ends admission, and what is left goes back with the question")
    func otherTerms() throws {
        let changes = [
            QuotaTerms(quotas: [Self.quota(.requests), Self.quota(.tokens).with(amount: 999)], timeZone: "UTC"),
            QuotaTerms(quotas: Self.both.quotas, timeZone: "Europe/Berlin"),
            QuotaTerms(quotas: [Self.quota(.requests, mode: .soft), Self.quota(.tokens)], timeZone: "UTC"),
        ]
        for changed in changes {
            var book = opened(requests: 5, tokens: 10)
            let held = try #require(take(&book, 4, under: Self.both))
            #expect(take(&book, 1, under: changed) == nil)
            let request = try #require(ask(&book, 1, under: changed))
            #expect(request.isNew)
            #expect(
                request.returns == [
                    LeaseReturn(leaseID: held.leaseID, quotaID: Self.quota(.requests).id, amount: 4),
                    LeaseReturn(leaseID: held.leaseID, quotaID: Self.quota(.tokens).id, amount: 6),
                ])
            #expect(take(&book, 1, under: Self.both) == nil, "it was given back")
            book.settle(held, usedTokens: 1)
            // What the request did not use goes back with the next question.
            #expect(try #require(ask(&book, 1, under: changed)).returns.map(\.amount) == [3])
        }
    }

    @Test("a lease that has admitted many is replaced")
    func rotation() throws {
        var book = opened(requests: 1_000_000, tokens: 0)
        for _ in 0..<LeaseBook.admissionLimit {
            let hold = try #require(take(&book, 0, under: Self.both))
            book.settle(hold, usedTokens: 0)
        }
        #expect(take(&book, 0, under: Self.both) == nil)
        let request = try #require(ask(&book, 0, under: Self.both))
        #expect(request.isNew && request.returns.map(\.amount) == [1_000_000 - Int64(LeaseBook.admissionLimit)])
    }

    @Test("what is surrendered admits nothing, and holds in flight are not surrendered")
    func surrender() throws {
        var book = opened(requests: 5, tokens: 10)
        let held = try #require(take(&book, 4, under: Self.both))
        let tokens = Self.quota(.tokens).id
        #expect(book.surrender(tokens) == [LeaseReturn(leaseID: held.leaseID, quotaID: tokens, amount: 6)])
        #expect(book.surrender(tokens).isEmpty && left(book) == [4, 0])
        #expect(book.surrender([held.leaseID]).map(\.amount) == [4])
        #expect(take(&book, 0, under: Self.both) == nil)
        book.void(held)
        #expect(left(book) == [1, 4])
    }

    @Test("a lease of which it is not known whether it grew admits no more")
    func retired() throws {
        var book = opened(requests: 5, tokens: 10)
        book.retire(LeaseID(high: 0, low: 1))
        #expect(take(&book, 1, under: Self.both) == nil)
        #expect(book.tick(monotonicNanoseconds: 0, idleAfterNanoseconds: .max).close.count == 1)
    }

    @Test("a lease is renewed only when its end comes near")
    func renewal() throws {
        var book = LeaseBook()
        book.add(
            Self.lease(1, tokens: 10, until: 10 * Self.second), under: Self.terms, at: Self.now, monotonicNanoseconds: 0
        )
        func renewed(at now: UInt64) -> Int {
            book.tick(
                monotonicNanoseconds: now, idleAfterNanoseconds: .max,
                renewWithinNanoseconds: 7 * Self.second
            ).renew.count
        }
        #expect(renewed(at: 3 * Self.second - 1) == 0)
        #expect(renewed(at: 3 * Self.second) == 1)
        #expect(renewed(at: 11 * Self.second) == 1)
    }

    /// The same rules written a second time, as sums over everything that ever happened.
    private struct Model {
        var granted: [LeaseID: Int64] = [:]
        var used: [LeaseID: Int64] = [:]
        var held: [(hold: Hold, at: LeaseID)] = []
        var gone: Set<LeaseID> = []

        func promised(_ lease: LeaseID) -> Int64 {
            used[lease, default: 0] + held.filter { $0.at == lease }.reduce(0) { $0 + $1.hold.tokens }
        }
    }

    @Test(
        "whatever happens in whatever order, no lease promises more than it was granted and nothing is lost",
        arguments: 1...40)
    func anyOrder(seed: Int) throws {
        var random = SeededRandom(seed: UInt64(seed))
        var book = LeaseBook()
        var model = Model()
        var clock: UInt64 = 0
        var next: UInt64 = 1
        for step in 0..<600 {
            clock += UInt64.random(in: 0...Self.second, using: &random)
            switch Int.random(in: 0..<100, using: &random) {
            case 0..<45:
                let tokens = Int64.random(in: 0...30, using: &random)
                guard let hold = take(&book, tokens, monotonic: clock) else { break }
                #expect(hold.tokens == tokens)
                #expect(!model.gone.contains(hold.leaseID), "step \(step): a lease that was given back admits")
                model.held.append((hold, hold.leaseID))
                #expect(model.promised(hold.leaseID) <= model.granted[hold.leaseID, default: 0], "step \(step)")
            case 45..<75:
                guard let index = model.held.indices.randomElement(using: &random) else { break }
                let (hold, lease) = model.held.remove(at: index)
                let used = Int64.random(in: 0...hold.tokens, using: &random)
                book.settle(hold, usedTokens: used)
                model.used[lease, default: 0] += used
            case 75..<82:
                guard let index = model.held.indices.randomElement(using: &random) else { break }
                book.void(model.held.remove(at: index).hold)
            case 82..<88:
                let granted = Int64.random(in: 0...200, using: &random)
                let lease = Self.lease(next, tokens: granted, until: clock + 20 * Self.second)
                next += 1
                model.granted[lease.id] = granted
                book.add(lease, under: Self.terms, at: Self.now, monotonicNanoseconds: clock)
                #expect(left(book) == [granted])
            case 88..<96:
                let upkeep = book.tick(monotonicNanoseconds: clock, idleAfterNanoseconds: 5 * Self.second)
                #expect(Set(upkeep.renew).isDisjoint(with: upkeep.close))
                for lease in upkeep.close {
                    #expect(!model.held.contains { $0.at == lease }, "step \(step): closed with a request in flight")
                    model.gone.insert(lease)
                }
                book.renewed(upkeep.renew, untilNanoseconds: clock + 20 * Self.second)
            case 96..<98:
                guard let lease = model.granted.keys.sorted().randomElement(using: &random) else { break }
                book.lost([lease])
                model.gone.insert(lease)
            default:
                for lease in book.drain() {
                    #expect(!model.held.contains { $0.at == lease })
                    model.gone.insert(lease)
                }
            }
            #expect(book.inFlight == model.held.count, "step \(step)")
            if let open = book.remaining(monotonicNanoseconds: clock)?.slices.first {
                #expect(open.remaining >= 0 && open.remaining <= open.slice.granted)
            }
        }
        for (hold, _) in model.held { book.void(hold) }
        #expect(book.inFlight == 0)
        _ = book.tick(monotonicNanoseconds: clock + 1_000 * Self.second, idleAfterNanoseconds: 0)
        #expect(book.isEmpty, "everything is given back in the end")
    }
}
