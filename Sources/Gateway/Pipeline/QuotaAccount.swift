internal import Domain

/// What the keeper knows of one tenant under one set of quotas. Keys that have to pass the same quotas share it; a key with quotas of its
/// own has an account of its own, whose leases hold parts of the tenant's quotas as well.
struct QuotaAccount: Sendable {
    let quotas: [QuotaID]
    var book = LeaseBook()
    var isAsking = false
    var waiting: [CheckedContinuation<Refusal?, Never>] = []
    /// By quota: what was free beside our own slices when quota was last granted.
    var freeElsewhere: [QuotaID: Int64] = [:]
    private var pace = LeasePace()

    init(quotas: [QuotaID]) { self.quotas = quotas }

    /// Whether nothing would be missed if it were forgotten.
    var isUnused: Bool { book.isEmpty && !isAsking && waiting.isEmpty }

    mutating func take(
        tokens: Int64, under terms: QuotaTerms, monotonicNanoseconds: UInt64
    ) -> Hold? {
        guard
            case .held(let hold) = book.take(
                tokens: tokens, under: terms, monotonicNanoseconds: monotonicNanoseconds)
        else { return nil }
        pace.admitted += 1
        return hold
    }

    /// For how many requests the next quota that is asked for should last.
    mutating func covering(monotonicNanoseconds: UInt64) -> Int64 { pace.next(monotonicNanoseconds) }
}

/// How much quota to ask for: as much as was used in the last second, and twice as much each time it did not last for half of one.
struct LeasePace: Sendable {
    private static let range: ClosedRange<Int64> = 16...65_536
    private static let horizonNanoseconds: UInt64 = 1_000_000_000

    var admitted: Int64 = 0
    private var count = range.lowerBound / 2
    private var askedAtNanoseconds: UInt64 = 0

    mutating func next(_ now: UInt64) -> Int64 {
        let age = max(now &- askedAtNanoseconds, 1)
        if age < Self.horizonNanoseconds / 2 || askedAtNanoseconds == 0 {
            count = min(count * 2, Self.range.upperBound)
        } else {
            // Below 2⁵³ requests in a lease, so the product of whole milliseconds does not overflow.
            let perHorizon = admitted * 1_000 / Int64(clamping: max(age / 1_000_000, 1))
            count = min(max(perHorizon, Self.range.lowerBound), Self.range.upperBound)
        }
        admitted = 0
        askedAtNanoseconds = now
        return count
    }
}

/// The accounts of one tenant, and the time by which their periods are found.
struct TenantAccounts: Sendable {
    private(set) var accounts: [QuotaAccount] = []
    /// Used once there are several accounts; the common tenant has one.
    private var places: [[QuotaID]: Int] = [:]
    /// The database's clock, once it has answered: all gateways find the same period by it, whatever their own clocks say.
    private var databaseClock: DatabaseClock?

    subscript(place: Int) -> QuotaAccount {
        get { accounts[place] }
        _modify { yield &accounts[place] }
    }

    /// The account of these terms. One that nothing is in makes room for it.
    mutating func place(of terms: QuotaTerms) -> Int {
        if !accounts.isEmpty, terms.names(accounts[0].quotas) { return 0 }
        let ids = terms.ids
        if let known = places[ids] { return known }
        let place = accounts.firstIndex(where: \.isUnused) ?? accounts.count
        if place == accounts.count {
            accounts.append(QuotaAccount(quotas: ids))
        } else {
            places[accounts[place].quotas] = nil
            accounts[place] = QuotaAccount(quotas: ids)
        }
        places[ids] = place
        return place
    }

    /// What our own lease still has and what was free elsewhere when it was granted, one for each quota.
    mutating func readings(of terms: QuotaTerms, monotonicNanoseconds: UInt64) -> [LimitReading] {
        let place = place(of: terms)
        var readings: [LimitReading] = []
        readings.reserveCapacity(terms.quotas.count)
        accounts[place].book.forEachRemaining(monotonicNanoseconds: monotonicNanoseconds) { slice, standing, now in
            let free = accounts[place].freeElsewhere[slice.quota.id] ?? 0
            readings.append(
                LimitReading(
                    quota: slice.quota, remaining: max(0, free + standing.remaining),
                    resetSeconds: max(0, (slice.period.end.milliseconds(since: now) + 999) / 1_000),
                    windowSeconds: slice.period.end.milliseconds(since: slice.period.start) / 1_000,
                    isExceeded: standing.isExceeded))
        }
        return readings
    }

    func now(wallClock: Timestamp, monotonicNanoseconds: UInt64) -> Timestamp {
        databaseClock?.now(monotonicNanoseconds: monotonicNanoseconds) ?? wallClock
    }

    /// From now on time is the database's, carried on by the monotonic clock.
    mutating func correct(to time: Timestamp, monotonicNanoseconds: UInt64) {
        databaseClock = DatabaseClock(at: time, nanoseconds: monotonicNanoseconds)
    }

    /// Everything that is left of a quota in any account of the tenant.
    mutating func surrender(_ quota: QuotaID) -> [LeaseReturn] {
        var returns: [LeaseReturn] = []
        for place in accounts.indices { returns += accounts[place].book.surrender(quota) }
        return returns
    }
}
