public import Domain

/// What every owner of rate limits has to do, whatever it is made of.
public struct RateLimiterConformance: Sendable {
    /// Makes a gateway's way to the one owner under test. Its leases last a second.
    private let limiter: @Sendable (GatewayID) -> any RateLimiter
    /// Moves the owner's clock.
    private let advance: @Sendable (_ microseconds: Int64) async throws -> Void

    public static let leaseMilliseconds: Int64 = 1_000

    public init(
        limiter: @escaping @Sendable (GatewayID) -> any RateLimiter,
        advance: @escaping @Sendable (_ microseconds: Int64) async throws -> Void
    ) {
        self.limiter = limiter
        self.advance = advance
    }

    /// Runs everything, each part with a tenant of its own.
    /// - Returns: what is wrong, one line each.
    public func failures() async throws -> [String] {
        var all: [String] = []
        for (name, part) in [
            ("all or nothing", allOrNothing), ("refused", refusedConsumesNothing), ("slices", slices),
            ("lapse", lapse), ("broken lease", brokenLease), ("scarce", scarce), ("lowered", lowered),
            ("unlimited", unlimited), ("nothing", nothing),
        ] as [(String, (inout Check, TenantID) async throws -> Void)] {
            var check = Check()
            try await part(
                &check, TenantID(high: UInt64.random(in: 0...UInt64.max), low: UInt64.random(in: 0...UInt64.max)))
            all += check.failures.map { "\(name): \($0)" }
        }
        return all
    }

    public struct Check {
        public var failures: [String] = []

        mutating func expect(_ condition: Bool, _ text: String) { if !condition { failures.append(text) } }
    }

    private static let one = GatewayID(high: 0xA, low: 1)
    private static let two = GatewayID(high: 0xA, low: 2)
    private static let keyID = KeyID(high: 0xB, low: 1)
    /// Ten requests at once and one more each second; no spare is asked for.
    private static let ten = RateCapacity(requests: 10_000_000, concurrency: 10)

    private static func demand(
        _ capacity: RateCapacity = ten, keyID: KeyID? = nil, continuous: Bool = false, spent: RateCredit = .zero,
        kept: RateCredit = .zero, minimum: RateCredit, wanted: RateCredit? = nil
    ) -> RateDemand {
        RateDemand(
            keyID: keyID, capacity: capacity, isContinuous: continuous, spent: spent, kept: kept, minimum: minimum,
            wanted: wanted ?? minimum)
    }

    private static func requests(_ count: Int64, slots: Int64 = 0) -> RateCredit {
        RateCredit(requests: count * 1_000_000, concurrency: slots)
    }

    private func allOrNothing(_ check: inout Check, _ tenant: TenantID) async throws {
        let limiter = limiter(Self.one)
        let narrow = RateCapacity(requests: 2_000_000)
        let answer = try await limiter.exchange(
            tenant,
            [Self.demand(minimum: Self.requests(3)), Self.demand(narrow, keyID: Self.keyID, minimum: Self.requests(3))])
        check.expect(answer.shortage == .init(demand: 1, unit: .requests, waitMicroseconds: 1_000_000), "\(answer)")
        check.expect(answer.standings.map(\.held) == [.zero, .zero], "\(answer)")
        check.expect(answer.standings.map(\.free.requests) == [10_000_000, 2_000_000], "\(answer)")
    }

    private func refusedConsumesNothing(_ check: inout Check, _ tenant: TenantID) async throws {
        let (one, two) = (limiter(Self.one), limiter(Self.two))
        _ = try await one.exchange(tenant, [Self.demand(minimum: Self.requests(8, slots: 9))])
        let short = try await two.exchange(tenant, [Self.demand(minimum: Self.requests(3, slots: 1))])
        check.expect(short.shortage == .init(demand: 0, unit: .requests, waitMicroseconds: 1_000_000), "\(short)")
        let slots = try await two.exchange(tenant, [Self.demand(minimum: Self.requests(2, slots: 2))])
        check.expect(slots.shortage == .init(demand: 0, unit: .concurrency, waitMicroseconds: 0), "\(slots)")
        let fits = try await two.exchange(tenant, [Self.demand(minimum: Self.requests(2, slots: 1))])
        check.expect(fits.shortage == nil && fits.standings[0].free == .zero, "\(fits)")
    }

    private func slices(_ check: inout Check, _ tenant: TenantID) async throws {
        let (one, two) = (limiter(Self.one), limiter(Self.two))
        let wanted = RateCredit(requests: 100_000_000, concurrency: 100)
        let first = try await one.exchange(tenant, [Self.demand(minimum: Self.requests(2, slots: 2), wanted: wanted)])
        check.expect(
            first.standings[0].held == RateCredit(requests: 4_000_000, concurrency: 4), "a quarter more: \(first)")
        // Two spent, one kept, the rest goes back.
        let second = try await one.exchange(
            tenant,
            [Self.demand(continuous: true, spent: Self.requests(2), kept: Self.requests(1), minimum: Self.requests(1))])
        check.expect(second.standings[0].free == RateCredit(requests: 7_000_000, concurrency: 10), "\(second)")
        try await advance(500_000)
        let other = try await two.exchange(tenant, [Self.demand(minimum: Self.requests(0))])
        check.expect(other.standings[0].free.requests == 7_500_000, "half a second earns half a request: \(other)")
    }

    private func lapse(_ check: inout Check, _ tenant: TenantID) async throws {
        let (one, two) = (limiter(Self.one), limiter(Self.two))
        _ = try await one.exchange(tenant, [Self.demand(minimum: Self.requests(6, slots: 10))])
        try await advance(999_999)
        let before = try await two.exchange(tenant, [Self.demand(minimum: Self.requests(1, slots: 1))])
        check.expect(before.shortage?.unit == .concurrency, "\(before)")
        try await advance(1)
        let after = try await two.exchange(tenant, [Self.demand(minimum: Self.requests(0))])
        check.expect(
            after.standings[0].free == RateCredit(requests: 4_000_000, concurrency: 10), "it counts as spent: \(after)")
        try await advance(2_500_000)
        let later = try await two.exchange(
            tenant, [Self.demand(continuous: true, minimum: Self.requests(6, slots: 10))])
        check.expect(later.shortage == nil && later.standings[0].free.requests == 500_000, "\(later)")
    }

    private func brokenLease(_ check: inout Check, _ tenant: TenantID) async throws {
        let one = limiter(Self.one)
        _ = try await one.exchange(tenant, [Self.demand(minimum: Self.requests(4, slots: 3))])
        let again = try await one.exchange(
            tenant, [Self.demand(kept: RateCredit(concurrency: 3), minimum: Self.requests(1, slots: 3))])
        check.expect(
            again.standings[0].free == RateCredit(requests: 5_000_000, concurrency: 7),
            "what it held and did not account for counts as spent: \(again)")
        let kept = try await one.exchange(
            tenant,
            [
                Self.demand(
                    RateCapacity(requests: 10_000_000, concurrency: 2), continuous: true,
                    kept: RateCredit(concurrency: 3), minimum: RateCredit(concurrency: 3))
            ])
        check.expect(
            kept.shortage == nil && kept.standings[0].free.concurrency == -1, "what runs is a fact: \(kept)")
    }

    private func scarce(_ check: inout Check, _ tenant: TenantID) async throws {
        let (one, two) = (limiter(Self.one), limiter(Self.two))
        _ = try await one.exchange(tenant, [Self.demand(minimum: Self.requests(4))])
        _ = try await two.exchange(tenant, [Self.demand(minimum: Self.requests(7))])
        let wanted = RateCredit(requests: 100_000_000)
        let exact = try await two.exchange(
            tenant, [Self.demand(continuous: true, minimum: Self.requests(1), wanted: wanted)])
        check.expect(exact.standings[0].held == Self.requests(1), "nothing is set aside where it is scarce: \(exact)")
        try await advance(1_000_000)
        let wide = try await two.exchange(
            tenant,
            [
                Self.demand(
                    continuous: true, spent: Self.requests(1), minimum: Self.requests(1), wanted: wanted)
            ])
        check.expect(wide.standings[0].held.requests > 1_000_000, "\(wide)")
    }

    private func lowered(_ check: inout Check, _ tenant: TenantID) async throws {
        let one = limiter(Self.one)
        _ = try await one.exchange(
            tenant, [Self.demand(spent: Self.requests(9), minimum: Self.requests(0))])
        let low = RateCapacity(requests: 3_000_000)
        let answer = try await one.exchange(tenant, [Self.demand(low, continuous: true, minimum: Self.requests(1))])
        check.expect(
            answer.shortage == .init(demand: 0, unit: .requests, waitMicroseconds: 1_000_000),
            "no longer than the lower limit's own burst: \(answer)")
        check.expect(answer.standings[0].free.requests == 0, "\(answer)")
    }

    private func unlimited(_ check: inout Check, _ tenant: TenantID) async throws {
        let one = limiter(Self.one)
        let answer = try await one.exchange(
            tenant,
            [Self.demand(RateCapacity(tokens: 5), minimum: RateCredit(requests: 99, tokens: 5, concurrency: 99))])
        check.expect(answer.shortage == nil && answer.standings[0].held == RateCredit(tokens: 5), "\(answer)")
    }

    private func nothing(_ check: inout Check, _ tenant: TenantID) async throws {
        let answer = try await limiter(Self.one).exchange(tenant, [])
        check.expect(answer == RateAnswer(shortage: nil, standings: []), "\(answer)")
    }
}
