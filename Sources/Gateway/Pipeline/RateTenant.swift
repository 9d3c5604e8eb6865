internal import Domain
internal import Synchronization

/// What this gateway holds of one tenant's rate limits and of its keys'.
final class RateTenant: Sendable {
    let state = Mutex(State())

    struct Entry {
        var book: RateBook
        var capacity = RateCapacity()
    }

    struct State {
        var tenant = Entry(book: RateBook())
        var keys: [KeyID: Entry] = [:]
        var isAsking = false
        /// Whether somebody was told that there is something to give back.
        var isReturning = false
        var waiting: [CheckedContinuation<Void, Never>] = []
        /// Counts exchanges that have ended.
        private(set) var answerCount: UInt64 = 0
        private var tenantVerdict: RateVerdict?
        /// Of keys whose limit refused since the last upkeep.
        private var keyVerdicts: [KeyID: RateVerdict] = [:]
        /// From whom all of this is held.
        private var owner: UInt32 = 0
        /// For how many requests more the next exchange should ask; grows while what is held is used up quickly.
        private var spareCount: Int64 = 8
        private var askedAtNanoseconds: UInt64 = 0
        private var nextEpoch: UInt32 = 0
    }
}

/// A refusal, and which of the exchanges ended with it.
struct RateVerdict: Sendable {
    let refusal: RateRefusal
    let number: UInt64
}

/// What a request needs of each scope.
struct RateNeed: Sendable {
    let tenantID: TenantID
    let keyID: KeyID
    let limits: RateLimits
    let tokens: Int64
    let tenant: RateCredit
    let key: RateCredit

    init(_ principal: Principal, _ limits: RateLimits, tokens: Int64) {
        tenantID = principal.tenantID
        keyID = principal.keyID
        self.limits = limits
        self.tokens = tokens
        tenant = limits.tenant.credit(tokens: tokens)
        key = limits.key.credit(tokens: tokens)
    }

    func requested(_ unit: RateUnit) -> Int64 { unit == .tokens ? tokens : 1 }

    /// Refuses what no waiting could make possible.
    func impossible(_ metrics: RateMetrics) -> Refusal? {
        for scope in RateScope.allCases {
            guard let unit = limits[scope].impossibleUnit(tokens: tokens), let limit = limits[scope][unit] else {
                continue
            }
            return metrics.limited(
                RateRefusal(
                    scope: scope, unit: unit, limit: limit, remaining: min(limit.burst, limit.amount),
                    requested: requested(unit), waitMilliseconds: nil, resetSeconds: 0))
        }
        return nil
    }

    /// What a refusal of another request of the tenant means for this one; `nil` if this one may still have a chance.
    ///
    /// Without this, all who wait would ask one after the other. A refusal by a key's limit is told to that key's requests alone.
    func shared(_ refusal: RateRefusal) -> RateRefusal? {
        guard limits[refusal.scope][refusal.unit] == refusal.limit,
            requested(refusal.unit) >= refusal.requested || exceeds(refusal)
        else { return nil }
        return RateRefusal(
            scope: refusal.scope, unit: refusal.unit, limit: refusal.limit, remaining: refusal.remaining,
            requested: requested(refusal.unit), waitMilliseconds: refusal.waitMilliseconds,
            resetSeconds: refusal.resetSeconds)
    }

    /// Whether more is requested than was left. What is shown is cut at a minute's amount; where it was, more may have been left.
    private func exceeds(_ refusal: RateRefusal) -> Bool {
        refusal.remaining < min(refusal.limit.amount, refusal.limit.burst)
            && requested(refusal.unit) > refusal.remaining
    }
}

extension RateTenant.State {
    // MARK: Requests

    mutating func take(_ need: RateNeed, owner: UInt32, at now: UInt64) -> RateTake? {
        guard self.owner == owner else { return nil }
        let (hasTenant, hasKey) = (!need.limits.tenant.isEmpty, !need.limits.key.isEmpty)
        if hasTenant, !tenant.book.covers(need.tenant, monotonicNanoseconds: now) { return nil }
        guard hasKey else { return RateTake(tenant: hasTenant ? tenant.book.take(need.tenant) : nil, key: nil) }
        // Looked up once: a key's hash is dearer than all of its sums.
        guard let place = keys.index(forKey: need.keyID),
            keys.values[place].book.covers(need.key, monotonicNanoseconds: now)
        else { return nil }
        return RateTake(
            tenant: hasTenant ? tenant.book.take(need.tenant) : nil, key: keys.values[place].book.take(need.key))
    }

    mutating func change(_ take: RateTake, _ keyID: KeyID, _ body: (inout RateBook, RateBook.Take) -> Void) {
        if let part = take.tenant { body(&tenant.book, part) }
        if let part = take.key, let place = keys.index(forKey: keyID) { body(&keys.values[place].book, part) }
    }

    private func fresh() -> RateTenant.Entry { RateTenant.Entry(book: RateBook(epoch: nextEpoch)) }

    // MARK: Exchanges

    /// What to ask of each scope that limits the request, the tenant's first.
    mutating func demands(
        _ need: RateNeed, owner: UInt32, isQuickNanoseconds: UInt64, at now: UInt64
    ) -> [RateDemand] {
        adopt(owner)
        let isQuick = now &- askedAtNanoseconds < isQuickNanoseconds
        spareCount = isQuick ? min(spareCount * 2, 65_536) : max(spareCount / 2, 4)
        askedAtNanoseconds = now
        var demands: [RateDemand] = []
        if !need.limits.tenant.isEmpty {
            tenant.capacity = need.limits.tenant.capacity
            demands.append(
                tenant.book.demand(
                    need.tenant, spareCount: spareCount, keyID: nil, capacity: tenant.capacity,
                    monotonicNanoseconds: now))
        }
        if !need.limits.key.isEmpty {
            var entry = keys[need.keyID] ?? fresh()
            entry.capacity = need.limits.key.capacity
            demands.append(
                entry.book.demand(
                    need.key, spareCount: spareCount, keyID: need.keyID, capacity: entry.capacity,
                    monotonicNanoseconds: now))
            keys[need.keyID] = entry
        }
        return demands
    }

    /// What to say to learn how much is free, without asking for any of it.
    mutating func lookDemands(_ limits: RateLimits, _ keyID: KeyID, owner: UInt32, at now: UInt64) -> [RateDemand] {
        adopt(owner)
        var demands: [RateDemand] = []
        if !limits.tenant.isEmpty {
            tenant.capacity = limits.tenant.capacity
            demands.append(
                tenant.book.demand(
                    .zero, spareCount: 0, keyID: nil, capacity: tenant.capacity, monotonicNanoseconds: now))
        }
        if !limits.key.isEmpty {
            var entry = keys[keyID] ?? fresh()
            entry.capacity = limits.key.capacity
            demands.append(
                entry.book.demand(
                    .zero, spareCount: 0, keyID: keyID, capacity: entry.capacity, monotonicNanoseconds: now))
            keys[keyID] = entry
        }
        return demands
    }

    /// Ends an exchange, with the refusal that it came to for this key's request.
    mutating func end(_ refusal: RateRefusal?, _ keyID: KeyID?) {
        isAsking = false
        isReturning = false
        answerCount &+= 1
        guard let refusal, let keyID else { return }
        let verdict = RateVerdict(refusal: refusal, number: answerCount)
        if refusal.scope == .tenant { tenantVerdict = verdict } else { keyVerdicts[keyID] = verdict }
    }

    /// What an exchange that ended after so many says of a request that was there by then; `nil` if it may still have a chance.
    func refusal(_ need: RateNeed, after count: UInt64) -> RateRefusal? {
        for verdict in [tenantVerdict, keyVerdicts[need.keyID]] {
            if let verdict, verdict.number > count, let refusal = need.shared(verdict.refusal) { return refusal }
        }
        return nil
    }

    /// Whether there is nothing to tell and nothing to forget.
    var isIdle: Bool { tenant.book.isEmpty && keys.isEmpty }

    /// What has to be told without a request that asks for anything; forgets keys of which nothing is left.
    mutating func upkeep(owner: UInt32, givesBack: Bool, at now: UInt64) -> [RateDemand] {
        adopt(owner)
        isReturning = false
        keyVerdicts = [:]
        var demands: [RateDemand] = []
        if let isUnused = tenant.book.upkeep {
            demands.append(
                tenant.book.demand(
                    .zero, spareCount: 0, givesBack: givesBack || isUnused || tenant.book.isHoarding, keyID: nil,
                    capacity: tenant.capacity,
                    monotonicNanoseconds: now))
        }
        for (keyID, entry) in keys {
            guard let isUnused = entry.book.upkeep else {
                nextEpoch = max(nextEpoch, entry.book.nextEpoch)
                keys[keyID] = nil
                continue
            }
            var entry = entry
            demands.append(
                entry.book.demand(
                    .zero, spareCount: 0, givesBack: givesBack || isUnused || entry.book.isHoarding, keyID: keyID,
                    capacity: entry.capacity,
                    monotonicNanoseconds: now))
            keys[keyID] = entry
        }
        return demands
    }

    /// Whether what is left here may be missing elsewhere, and nobody was told yet.
    mutating func beginsReturning(_ keyID: KeyID?) -> Bool {
        guard !isReturning, !isAsking else { return false }
        isReturning = tenant.book.isHoarding || keyID.flatMap { keys[$0]?.book.isHoarding } ?? false
        return isReturning
    }

    mutating func answered(
        _ demands: [RateDemand], _ answer: RateAnswer, sentAt: UInt64, lifetime: UInt64, at now: UInt64
    ) {
        for (demand, standing) in zip(demands, answer.standings) {
            if let keyID = demand.keyID {
                keys[keyID]?.book.answered(
                    standing, sentAtNanoseconds: sentAt, lifetimeNanoseconds: lifetime, atNanoseconds: now)
            } else {
                tenant.book.answered(
                    standing, sentAtNanoseconds: sentAt, lifetimeNanoseconds: lifetime, atNanoseconds: now)
            }
        }
    }

    mutating func loseAll() {
        tenant.book.lose()
        for keyID in keys.keys { keys[keyID]?.book.lose() }
    }

    private mutating func adopt(_ owner: UInt32) {
        guard self.owner != owner else { return }
        self.owner = owner
        loseAll()
    }

    // MARK: Numbers

    func reading(
        _ scope: RateScope, _ unit: RateUnit, _ limit: RateLimit, _ keyID: KeyID, at now: UInt64
    ) -> LimitReading {
        let (remaining, reset) = standing(scope, unit, limit, keyID, at: now)
        let isTimed = unit != .concurrency
        return LimitReading(
            policy: RateLimits.policy(scope, unit), unit: unit, limit: limit.amount, remaining: remaining,
            resetSeconds: isTimed ? reset : nil, windowSeconds: isTimed ? 60 : nil)
    }

    func refusal(
        _ shortage: RateAnswer.Shortage, _ demands: [RateDemand], _ need: RateNeed, at now: UInt64
    ) -> RateRefusal {
        let scope: RateScope = demands[shortage.demand].keyID == nil ? .tenant : .key
        let limit = need.limits[scope][shortage.unit] ?? RateLimit(amount: 0)
        let (remaining, reset) = standing(scope, shortage.unit, limit, need.keyID, at: now)
        let wait = shortage.unit == .concurrency ? 1_000 : max(1, (shortage.waitMicroseconds + 999) / 1_000)
        return RateRefusal(
            scope: scope, unit: shortage.unit, limit: limit, remaining: remaining,
            requested: need.requested(shortage.unit), waitMilliseconds: wait, resetSeconds: max(1, reset))
    }

    /// Units left for everybody, never more than a minute's, and seconds until the whole burst is there again.
    private func standing(
        _ scope: RateScope, _ unit: RateUnit, _ limit: RateLimit, _ keyID: KeyID, at now: UInt64
    ) -> (remaining: Int64, resetSeconds: Int64) {
        let book = scope == .tenant ? tenant.book : keys[keyID]?.book ?? RateBook()
        guard unit != .concurrency else {
            return (book.remaining(unit, capacity: limit.amount, monotonicNanoseconds: now), 1)
        }
        let capacity = limit.microseconds(for: limit.burst)
        let left = book.remaining(unit, capacity: capacity, monotonicNanoseconds: now)
        return (min(limit.units(in: left), limit.burst, limit.amount), (capacity - left + 999_999) / 1_000_000)
    }
}
