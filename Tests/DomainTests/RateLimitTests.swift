import TestSupport
import Testing

@testable import Domain

@Suite("Rate limits as values") struct RateLimitTests {
    @Test(
        "units become time rounded up, and time becomes units rounded down",
        arguments: [
            (60, 1, 1_000_000), (600, 1, 100_000), (7, 1, 8_571_429), (1_000_000_000, 1, 1), (1, 3, 180_000_000),
            (60, 0, 0), (0, 1, RateLimit.creditLimit), (1, RateLimit.amountLimit, RateLimit.creditLimit),
            (1, .max, RateLimit.creditLimit), (5, RateLimit.amountLimit, RateLimit.creditLimit),
            (1, 200_000_000_000, RateLimit.creditLimit), (.max, .max, 60_000_000),
        ] as [(Int64, Int64, Int64)])
    func conversion(amount: Int64, units: Int64, microseconds: Int64) {
        let limit = RateLimit(amount: amount)
        #expect(limit.microseconds(for: units) == microseconds)
        if microseconds < RateLimit.creditLimit, amount > 0 { #expect(limit.units(in: microseconds) >= units) }
    }

    @Test("what was asked for is never less after both ways")
    func roundTrip() {
        var random = SeededRandom(seed: 11)
        for _ in 0..<20_000 {
            let limit = RateLimit(amount: Int64.random(in: 1...RateLimit.amountLimit, using: &random))
            let units = Int64.random(in: 0...10_000_000, using: &random)
            let time = limit.microseconds(for: units)
            #expect(time == RateLimit.creditLimit || limit.units(in: time) >= units)
            #expect(time == 0 || limit.units(in: time - 1) < max(units, 1))
        }
        #expect(RateLimit(amount: 5).units(in: .max) > 0 && RateLimit(amount: 0).units(in: 9) == 0)
        #expect(RateLimit(amount: RateLimit.amountLimit).units(in: .max) == .max)
    }

    @Test("the burst is a minute's amount where nothing else is said; rules become limits, lifted ones none")
    func rules() throws {
        #expect(RateLimit(amount: 600).burst == 600 && RateLimit(amount: 600, burst: 5).burst == 5)
        #expect(RateLimits([]) == nil)
        #expect(RateLimits([RateLimitRule(scope: .key, unit: .tokens, amount: nil)]) == nil)
        let limits = try #require(
            RateLimits([
                RateLimitRule(scope: .tenant, unit: .requests, amount: 60, burst: 2),
                RateLimitRule(scope: .key, unit: .concurrency, amount: 3),
            ]))
        #expect(limits.tenant == ScopeLimits(requests: RateLimit(amount: 60, burst: 2)))
        #expect(limits.key.concurrency?.amount == 3 && limits.key.tokens == nil)
        #expect(limits.tenant.credit(tokens: 9) == RateCredit(requests: 1_000_000))
        #expect(limits.tenant.capacity == RateCapacity(requests: 2_000_000))
        #expect(limits.key.credit(tokens: 9) == RateCredit(concurrency: 1))
    }

    @Test("what no waiting makes possible is told apart")
    func impossible() {
        let limits = ScopeLimits(tokens: RateLimit(amount: 1_000, burst: 100))
        #expect(limits.impossibleUnit(tokens: 100) == nil && limits.impossibleUnit(tokens: 101) == .tokens)
        #expect(ScopeLimits(requests: RateLimit(amount: 0)).impossibleUnit(tokens: 1) == .requests)
        #expect(ScopeLimits(concurrency: RateLimit(amount: 0)).impossibleUnit(tokens: 1) == .concurrency)
        #expect(ScopeLimits(tokens: RateLimit(amount: 0)).impossibleUnit(tokens: 0) == .tokens)
    }

    @Test("the names of the policies are distinct")
    func policies() {
        let names = RateScope.allCases.flatMap { scope in RateUnit.allCases.map { RateLimits.policy(scope, $0) } }
        #expect(Set(names) == ["rpm", "tpm", "concurrency", "key-rpm", "key-tpm", "key-concurrency"])
    }
}

@Suite("The cell rate algorithm") struct GCRATests {
    /// The definition, told slowly: something is admitted if, in every window that ends with it, what was admitted is at most the burst and
    /// what the limit allows in the window's length.
    private struct Windows {
        var admitted: [(at: Int64, amount: Int64)] = []

        mutating func take(_ amount: Int64, at now: Int64, tolerance: Int64) -> Bool {
            var sum = amount
            guard sum <= tolerance else { return false }
            for earlier in admitted.reversed() {
                sum += earlier.amount
                guard sum <= tolerance + now - earlier.at else { return false }
            }
            admitted.append((now, amount))
            return true
        }
    }

    @Test("agrees with the definition on random traffic", arguments: 0..<40 as Range<UInt64>)
    func windows(seed: UInt64) {
        var random = SeededRandom(seed: seed)
        let limit = RateLimit(
            amount: Int64.random(in: 1...6_000, using: &random), burst: Int64.random(in: 1...50, using: &random))
        let tolerance = limit.microseconds(for: limit.burst)
        var bucket = GCRA()
        var model = Windows()
        var now: Int64 = 1_772_366_400_000_000
        var admissions = 0
        for step in 0..<600 {
            let pause = limit.microseconds(for: 3)
            now += Bool.random(using: &random) ? 0 : Int64.random(in: 0...pause, using: &random)
            let amount = limit.microseconds(for: Int64.random(in: 1...4, using: &random))
            let wait = bucket.wait(for: amount, at: now, tolerance: tolerance)
            let isAdmitted = bucket.take(amount, at: now, tolerance: tolerance) == 0
            #expect(isAdmitted == model.take(amount, at: now, tolerance: tolerance), "seed \(seed), step \(step)")
            #expect(isAdmitted == (wait == 0))
            if !isAdmitted, amount <= tolerance {
                #expect(bucket.wait(for: amount, at: now + wait, tolerance: tolerance) == 0, "the wait is enough")
                #expect(bucket.wait(for: amount, at: now + wait - 1, tolerance: tolerance) == 1, "and not too long")
            }
            admissions += isAdmitted ? 1 : 0
        }
        #expect(admissions > 20)
    }

    @Test("a clock that was set back does not block for longer than the burst")
    func clockSetBack() {
        var bucket = GCRA(theoreticalArrival: 9_000_000_000)
        bucket.charge(0, at: 1_000, ceiling: 1_000 + 500)
        #expect(bucket.level(at: 1_000) == 500)
    }
}
