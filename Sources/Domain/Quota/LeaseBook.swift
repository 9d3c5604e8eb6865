/// What one gateway knows of one tenant's leases: a pure state machine. It is told of requests, grants, settlements and time, and answers
/// what to do; it does no I/O and reads no clock.
public struct LeaseBook: Sendable {
    /// The answer to ``take(tokens:at:monotonicNanoseconds:)``.
    public enum Admission: Equatable, Sendable {
        case held(Hold)
        /// Nothing in the book covers the request; a lease of at least these amounts has to be asked for.
        case needsLease
    }

    /// What the keeper has to tell the database after ``tick(monotonicNanoseconds:renewalMargin:idleAfter:)``.
    public struct Upkeep: Sendable {
        public var renew: [LeaseID] = []
        public var close: [LeaseID] = []

        public init() {}
    }

    fileprivate struct Entry: Sendable {
        var lease: Lease
        var remaining: [Int64]
        var inFlight = 0
        var expiresAtNanoseconds: UInt64
        var lastUsedNanoseconds: UInt64
        /// Spent or replaced: takes no more, is closed when the last request in flight has settled.
        var isDraining = false
    }

    private var entries: [Entry] = []

    public init() {}

    public var isEmpty: Bool { entries.isEmpty }
    public var inFlight: Int { entries.reduce(0) { $0 + $1.inFlight } }

    /// Holds one request and `tokens` tokens in a lease that is open, in its period and large enough.
    public mutating func take(tokens: Int64, at now: Timestamp, monotonicNanoseconds: UInt64) -> Admission {
        for index in entries.indices
        where !entries[index].isDraining && entries[index].expiresAtNanoseconds > monotonicNanoseconds {
            guard entries[index].covers(tokens: tokens, at: now) else { continue }
            entries[index].move(requests: -1, tokens: -tokens)
            entries[index].inFlight += 1
            entries[index].lastUsedNanoseconds = monotonicNanoseconds
            return .held(Hold(leaseID: entries[index].lease.id, tokens: tokens))
        }
        return .needsLease
    }

    /// Adds a granted lease and stops admitting from the older ones of the same tenant, whose remainder is given back when they are empty.
    public mutating func add(_ lease: Lease, monotonicNanoseconds: UInt64) {
        for index in entries.indices { entries[index].isDraining = true }
        entries.append(
            Entry(
                lease: lease, remaining: lease.slices.map(\.granted), expiresAtNanoseconds: lease.expiresAtNanoseconds,
                lastUsedNanoseconds: monotonicNanoseconds))
    }

    /// The request is settled: what it did not use of its hold returns to the lease.
    public mutating func settle(_ hold: Hold, usedTokens: Int64) {
        release(hold, requests: 0, tokens: hold.tokens - usedTokens)
    }

    /// The request came to nothing: the whole hold returns to the lease.
    public mutating func void(_ hold: Hold) {
        release(hold, requests: 1, tokens: hold.tokens)
    }

    private mutating func release(_ hold: Hold, requests: Int64, tokens: Int64) {
        guard let index = entries.firstIndex(where: { $0.lease.id == hold.leaseID }) else { return }
        entries[index].inFlight -= 1
        entries[index].move(requests: requests, tokens: tokens)
    }

    /// The database extended these leases; the new end counts from before the renewal was sent.
    public mutating func renewed(_ leases: some Sequence<LeaseID>, untilNanoseconds: UInt64) {
        for id in leases {
            guard let index = entries.firstIndex(where: { $0.lease.id == id }) else { continue }
            entries[index].expiresAtNanoseconds = untilNanoseconds
        }
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

    /// Decides, some times in a lease's life, which leases to renew and which to give back.
    /// - Parameters:
    ///   - idleAfterNanoseconds: a lease that nothing used for so long is given back, so that nothing is stranded on an idle gateway.
    public mutating func tick(monotonicNanoseconds now: UInt64, at time: Timestamp, idleAfterNanoseconds: UInt64)
        -> Upkeep
    {
        var upkeep = Upkeep()
        entries.removeAll { entry in
            guard entry.inFlight == 0 else {
                upkeep.renew.append(entry.lease.id)
                return false
            }
            let isIdle = now >= entry.lastUsedNanoseconds && now - entry.lastUsedNanoseconds >= idleAfterNanoseconds
            let isOver = entry.isDraining || isIdle || entry.lease.slices.contains { !$0.period.contains(time) }
            if isOver { upkeep.close.append(entry.lease.id) } else { upkeep.renew.append(entry.lease.id) }
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

    /// What is left to take, by policy, for the headers that show limits: the slices of the open lease.
    public func remaining() -> [(slice: Lease.Slice, remaining: Int64)] {
        guard let entry = entries.last(where: { !$0.isDraining }) else { return [] }
        return zip(entry.lease.slices, entry.remaining).map { ($0, $1) }
    }
}

extension LeaseBook.Entry {
    fileprivate func covers(tokens: Int64, at now: Timestamp) -> Bool {
        for (slice, left) in zip(lease.slices, remaining) {
            guard slice.period.contains(now) else { return false }
            guard slice.quota.mode == .soft || left >= (slice.quota.unit == .requests ? 1 : tokens) else {
                return false
            }
        }
        return true
    }

    fileprivate mutating func move(requests: Int64, tokens: Int64) {
        for index in remaining.indices {
            remaining[index] += lease.slices[index].quota.unit == .requests ? requests : tokens
        }
    }
}
