/// What one gateway knows of one tenant's leases under one set of quotas: a pure state machine. It is told of requests, grants, settlements
/// and time, and answers what to do; it does no I/O and reads no clock.
///
/// At the most one lease admits. It grows in place when it is used up, and is replaced when a period ends, a limit is changed or it has
/// admitted many; the older ones drain: what is left of them is given back with the next request for quota, and they are closed when the
/// last request in flight has settled.
public struct LeaseBook: Sendable {
    /// The answer to ``take(tokens:under:monotonicNanoseconds:)``.
    public enum Admission: Equatable, Sendable {
        case held(Hold)
        /// Nothing in the book covers the request; a lease of at least these amounts has to be asked for.
        case needsLease
    }

    /// What the keeper has to tell the database after ``tick(monotonicNanoseconds:idleAfterNanoseconds:renewWithinNanoseconds:)``.
    public struct Upkeep: Sendable {
        public var renew: [LeaseID] = []
        public var close: [LeaseID] = []

        public init() {}
    }

    /// The state of one slice. Numbers alone, because each request changes them: nothing is counted or copied beside them.
    fileprivate struct Share: Sendable {
        let countsTokens: Bool
        let refuses: Bool
        var remaining: Int64
        /// What was granted and is not given back; with the remainder and what is in flight it tells what was spent.
        var granted: Int64
        /// How much of its quota's limit closed leases had not booked when the database last told.
        var room = Int64.max
        /// The database has said that a limit that does not refuse is exceeded.
        var isExceeded = false

        init(_ slice: Lease.Slice) {
            countsTokens = slice.quota.unit == .tokens
            refuses = slice.quota.mode.refuses
            remaining = slice.granted
            granted = slice.granted
        }

        func need(tokens: Int64) -> Int64 { countsTokens ? tokens : 1 }
    }

    fileprivate struct Entry: Sendable {
        let lease: Lease
        let terms: QuotaTerms
        /// By slice.
        var shares: [Share]
        var inFlight = 0
        var inFlightTokens: Int64 = 0
        var admitted = 0
        var expiresAtNanoseconds: UInt64
        var lastUsedNanoseconds: UInt64
        let clock: DatabaseClock
        /// When the first of its periods ends, by the database's clock carried on by the monotonic one. A wall clock that is set while the
        /// lease is open can neither shorten the period nor let its quota be used after it.
        let endsAtNanoseconds: UInt64
        /// Replaced: takes no more, is closed when the last request in flight has settled.
        var isDraining = false

        init(
            _ lease: Lease, under terms: QuotaTerms, clock: DatabaseClock, endsAtNanoseconds: UInt64,
            monotonicNanoseconds: UInt64
        ) {
            self.lease = lease
            self.terms = terms
            self.clock = clock
            self.endsAtNanoseconds = endsAtNanoseconds
            shares = lease.slices.map { Share($0) }
            expiresAtNanoseconds = lease.expiresAtNanoseconds
            lastUsedNanoseconds = monotonicNanoseconds
        }
    }

    /// A lease that has admitted so many is replaced: closing it sums what was spent on it, while settlements of the gateway wait.
    public static let admissionLimit = 16_384

    private var entries: [Entry] = []

    public init() {}

    public var isEmpty: Bool { entries.isEmpty }
    public var inFlight: Int { entries.reduce(0) { $0 + $1.inFlight } }

    /// Holds one request and `tokens` tokens in the lease that is open, in its periods, under these terms and large enough.
    public mutating func take(tokens: Int64, under terms: QuotaTerms, monotonicNanoseconds: UInt64) -> Admission {
        var index = entries.count
        while index > 0 {
            index -= 1
            if let hold = entries[index].take(tokens: tokens, under: terms, monotonicNanoseconds) { return .held(hold) }
        }
        return .needsLease
    }

    /// What to ask the database for, so that a request of `tokens` tokens can be held: more in the open lease where there is one, else a
    /// new one. What is left of draining leases goes back in the same step: from now on nothing is admitted from it.
    /// - Parameters:
    ///   - covering: for how many requests of this size the lease should last.
    ///   - newLease: the id of a lease that has to be made.
    ///   - period: the period of a quota that is now.
    /// - Returns: `nil` if the book covers the request by now.
    public mutating func ask(
        tokens: Int64, under terms: QuotaTerms, tenantID: TenantID, covering count: Int64, newLease: LeaseID,
        monotonicNanoseconds: UInt64, period: (Quota) -> Period
    ) -> LeaseRequest? {
        let open = entries.lastIndex { $0.admits(under: terms, monotonicNanoseconds) }
        if let open {
            let wants = entries[open].lacks(tokens: tokens, covering: count)
            guard !wants.isEmpty else { return nil }
            return LeaseRequest(
                leaseID: entries[open].lease.id, tenantID: tenantID, wants: wants, isNew: false,
                returns: surrender { $0.isDraining })
        }
        for index in entries.indices { entries[index].isDraining = true }
        let wants = terms.quotas.map { quota in
            let need = quota.need(tokens: tokens)
            return LeaseRequest.Want(
                quota: quota, period: period(quota), minimum: need, wanted: max(need, 1) * count, need: need)
        }
        return LeaseRequest(
            leaseID: newLease, tenantID: tenantID, wants: wants, returns: surrender { $0.isDraining })
    }

    /// Adds a granted lease and stops admitting from the older ones, whose remainder is given back.
    /// - Parameters:
    ///   - databaseTime: what the database's clock said when it granted the lease.
    ///   - monotonicNanoseconds: before the lease was asked for, so that its periods end here no later than in the database.
    public mutating func add(
        _ lease: Lease, under terms: QuotaTerms, at databaseTime: Timestamp, monotonicNanoseconds: UInt64
    ) {
        let clock = DatabaseClock(at: databaseTime, nanoseconds: monotonicNanoseconds)
        let end = lease.slices.reduce(UInt64.max) { min($0, clock.nanoseconds(of: $1.period.end)) }
        for index in entries.indices { entries[index].isDraining = true }
        entries.append(
            Entry(lease, under: terms, clock: clock, endsAtNanoseconds: end, monotonicNanoseconds: monotonicNanoseconds)
        )
    }

    /// The database granted more in a lease. One that the book has forgotten meanwhile stays forgotten: its end closes it.
    public mutating func grow(_ id: LeaseID, by slices: [Lease.Slice]) {
        guard let index = entries.firstIndex(where: { $0.lease.id == id }) else { return }
        for slice in slices {
            guard let place = entries[index].lease.slices.firstIndex(where: { $0.quota.id == slice.quota.id }) else {
                continue
            }
            entries[index].shares[place].remaining += slice.granted
            entries[index].shares[place].granted += slice.granted
        }
    }

    /// The database said, with a grant, what is booked of a quota and whether a limit that does not refuse is exceeded.
    public mutating func told(_ id: LeaseID, of quota: Quota, settled: Int64, isExceeded: Bool) {
        guard let index = entries.firstIndex(where: { $0.lease.id == id }),
            let place = entries[index].lease.slices.firstIndex(where: { $0.quota.id == quota.id })
        else { return }
        entries[index].shares[place].room = quota.amount.subtractingReportingOverflow(settled).partialValue
        entries[index].shares[place].isExceeded = isExceeded
    }

    /// Whether a lease grew is not known: it admits no more, so that it is soon closed and gives back whatever it has.
    public mutating func retire(_ id: LeaseID) {
        guard let index = entries.firstIndex(where: { $0.lease.id == id }) else { return }
        entries[index].isDraining = true
    }

    /// The request is settled: what it did not use of its hold returns to the lease.
    /// - Parameter usedRequests: 1 or 0.
    public mutating func settle(_ hold: Hold, usedRequests: Int64 = 1, usedTokens: Int64) {
        release(hold, requests: 1 - usedRequests, tokens: hold.tokens - usedTokens)
    }

    /// The request came to nothing: the whole hold returns to the lease.
    public mutating func void(_ hold: Hold) {
        release(hold, requests: 1, tokens: hold.tokens)
    }

    private mutating func release(_ hold: Hold, requests: Int64, tokens: Int64) {
        guard let index = entries.firstIndex(where: { $0.lease.id == hold.leaseID }) else { return }
        entries[index].release(hold, requests: requests, tokens: tokens)
    }

    /// The database extended these leases; the new end counts from before the renewal was sent.
    public mutating func renewed(_ leases: some Sequence<LeaseID>, untilNanoseconds: UInt64) {
        for id in leases {
            guard let index = entries.firstIndex(where: { $0.lease.id == id }) else { continue }
            entries[index].expiresAtNanoseconds = untilNanoseconds
        }
    }

    /// The database answered a renewal of these leases of this book: those that are open last until then, the others are lost.
    /// - Returns: what is idle in those of which it is missed elsewhere; nothing more is admitted from that.
    public mutating func renewed(
        _ leases: [LeaseID], as renewal: LeaseRenewal, untilNanoseconds: UInt64
    ) -> [LeaseReturn] {
        renewed(leases.filter { renewal.open.contains($0) }, untilNanoseconds: untilNanoseconds)
        lost(leases.filter { !renewal.open.contains($0) })
        for id in leases {
            guard let index = entries.firstIndex(where: { $0.lease.id == id }) else { continue }
            let exceeded = renewal.exceeded[id]
            for (place, slice) in entries[index].lease.slices.enumerated() {
                entries[index].shares[place].isExceeded = exceeded?.contains(slice.quota.id) ?? false
            }
        }
        let scarce = Set(leases.filter { renewal.scarce.contains($0) })
        return scarce.isEmpty ? [] : surrender(scarce)
    }

    /// The database no longer knows these leases as open. Requests in flight learn it at settlement.
    public mutating func lost(_ leases: some Sequence<LeaseID>) {
        for id in leases {
            guard let index = entries.firstIndex(where: { $0.lease.id == id }) else { continue }
            entries[index].isDraining = true
            entries[index].expiresAtNanoseconds = 0
            if entries[index].inFlight == 0 { entries.remove(at: index) }
        }
    }

    /// Stops admitting from what is left of one quota, or of some leases, so that it can be given back. The leases stay open, and grow again
    /// when they are asked to.
    public mutating func surrender(_ quota: QuotaID) -> [LeaseReturn] { surrender(quota) { _ in true } }
    public mutating func surrender(_ leases: Set<LeaseID>) -> [LeaseReturn] {
        surrender { leases.contains($0.lease.id) }
    }

    private mutating func surrender(_ quota: QuotaID? = nil, where isMeant: (Entry) -> Bool) -> [LeaseReturn] {
        var returns: [LeaseReturn] = []
        for index in entries.indices where isMeant(entries[index]) {
            returns += entries[index].surrender(quota)
        }
        return returns
    }

    /// Decides, some times in a lease's life, which leases to renew and which to give back.
    /// - Parameters:
    ///   - idleAfterNanoseconds: a lease that nothing used for so long is given back, so that nothing is stranded on an idle gateway.
    ///   - renewWithinNanoseconds: a lease that ends within this time is renewed.
    public mutating func tick(
        monotonicNanoseconds now: UInt64, idleAfterNanoseconds: UInt64, renewWithinNanoseconds: UInt64 = .max
    ) -> Upkeep {
        var upkeep = Upkeep()
        entries.removeAll { entry in
            let isIdle = now >= entry.lastUsedNanoseconds && now - entry.lastUsedNanoseconds >= idleAfterNanoseconds
            let isOver =
                entry.inFlight == 0
                && (entry.isDraining || isIdle || entry.endsAtNanoseconds <= now)
            if isOver {
                upkeep.close.append(entry.lease.id)
            } else if entry.expiresAtNanoseconds <= now || entry.expiresAtNanoseconds - now <= renewWithinNanoseconds {
                upkeep.renew.append(entry.lease.id)
            }
            return isOver
        }
        return upkeep
    }

    /// Gives everything back that is not in flight; the gateway is stopping.
    public mutating func drain() -> [LeaseID] {
        for index in entries.indices { entries[index].isDraining = true }
        let idle = entries.filter { $0.inFlight == 0 }.map(\.lease.id)
        entries.removeAll { $0.inFlight == 0 }
        return idle
    }

    /// What is left to take of one slice of the open lease, for the headers that show limits.
    public struct Standing: Sendable {
        public let remaining: Int64
        /// Use went on beyond a limit that does not refuse: by what this lease has spent, or because the database said so.
        public let isExceeded: Bool
    }

    /// Calls `body` with each slice of the open lease, what is left of it and the time by the database.
    public func forEachRemaining(
        monotonicNanoseconds: UInt64, _ body: (Lease.Slice, Standing, Timestamp) -> Void
    ) {
        guard let index = entries.lastIndex(where: { !$0.isDraining }) else { return }
        let now = entries[index].clock.now(monotonicNanoseconds: monotonicNanoseconds)
        for place in entries[index].shares.indices {
            let standing = Standing(
                remaining: entries[index].shares[place].remaining, isExceeded: entries[index].isExceeded(place))
            body(entries[index].lease.slices[place], standing, now)
        }
    }
}

extension LeaseBook.Entry {
    fileprivate func admits(under other: QuotaTerms, _ monotonicNanoseconds: UInt64) -> Bool {
        guard !isDraining, min(expiresAtNanoseconds, endsAtNanoseconds) > monotonicNanoseconds,
            admitted < LeaseBook.admissionLimit
        else { return false }
        return terms.isSame(as: other)
    }

    /// Holds one request and `tokens` tokens, if it admits and covers them.
    fileprivate mutating func take(tokens: Int64, under terms: QuotaTerms, _ monotonicNanoseconds: UInt64) -> Hold? {
        guard admits(under: terms, monotonicNanoseconds) else { return nil }
        for share in shares where share.remaining < share.need(tokens: tokens) { return nil }
        move(requests: -1, tokens: -tokens)
        inFlight += 1
        inFlightTokens += tokens
        admitted += 1
        lastUsedNanoseconds = monotonicNanoseconds
        return Hold(leaseID: lease.id, tokens: tokens)
    }

    fileprivate mutating func release(_ hold: Hold, requests: Int64, tokens: Int64) {
        inFlight -= 1
        inFlightTokens -= hold.tokens
        move(requests: requests, tokens: tokens)
    }

    /// Whether use went on beyond the limit of a slice that does not refuse.
    fileprivate func isExceeded(_ place: Int) -> Bool {
        let share = shares[place]
        guard !share.refuses else { return false }
        guard !share.isExceeded else { return true }
        return share.granted - share.remaining - (share.countsTokens ? inFlightTokens : Int64(inFlight)) > share.room
    }

    /// What the lease has to grow by for a request; nothing where it covers it.
    fileprivate func lacks(tokens: Int64, covering count: Int64) -> [LeaseRequest.Want] {
        var wants: [LeaseRequest.Want] = []
        for (slice, left) in zip(lease.slices, shares.lazy.map(\.remaining)) {
            let need = slice.quota.need(tokens: tokens)
            guard left < need else { continue }
            wants.append(
                LeaseRequest.Want(
                    quota: slice.quota, period: slice.period, minimum: need - left,
                    wanted: max(need, 1) * count - left, need: need))
        }
        return wants
    }

    fileprivate mutating func surrender(_ quota: QuotaID?) -> [LeaseReturn] {
        var returns: [LeaseReturn] = []
        for (place, slice) in lease.slices.enumerated()
        where shares[place].remaining > 0 && (quota == nil || slice.quota.id == quota) {
            let amount = shares[place].remaining
            returns.append(LeaseReturn(leaseID: lease.id, quotaID: slice.quota.id, amount: amount))
            shares[place].granted -= amount
            shares[place].remaining = 0
        }
        return returns
    }

    fileprivate mutating func move(requests: Int64, tokens: Int64) {
        for place in shares.indices { shares[place].remaining += shares[place].countsTokens ? tokens : requests }
    }
}
