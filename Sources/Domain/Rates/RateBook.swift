/// What one gateway knows of one scope's limits: what it holds, what of that is in use, and what it has spent since it last said so. A pure
/// state machine; it does no I/O and reads no clock.
public struct RateBook: Sendable {
    /// What a request took.
    public struct Take: Hashable, Sendable {
        let credit: RateCredit
        let epoch: UInt32
    }

    private var held = RateCredit.zero
    private var inUse = RateCredit.zero
    private var spent = RateCredit.zero
    /// Counts leases that were lost. What was taken in an earlier one is booked already, by whoever gave the lease.
    private var epoch: UInt32
    private var expiresAtNanoseconds: UInt64 = 0
    private var wasUsed = false
    /// What was free when the last exchange was answered, and when that was.
    private var free = RateCredit.zero
    private var answeredAtNanoseconds: UInt64 = 0

    /// - Parameter epoch: one that no earlier book of this scope has had, so that what was taken from that one is told apart.
    public init(epoch: UInt32 = 0) { self.epoch = epoch }

    /// An epoch for the book that replaces this one.
    public var nextEpoch: UInt32 { epoch &+ 1 }

    /// Whether there is nothing to say and nothing to keep.
    public var isEmpty: Bool { held == .zero && inUse == .zero && spent == .zero }

    // MARK: Requests

    /// Whether the lease covers the request.
    public func covers(_ need: RateCredit, monotonicNanoseconds: UInt64) -> Bool {
        guard expiresAtNanoseconds > monotonicNanoseconds else { return false }
        let left = held - inUse - spent
        return (need.requests == 0 || left.requests >= need.requests)
            && (need.tokens == 0 || left.tokens >= need.tokens)
            && (need.concurrency == 0 || left.concurrency >= need.concurrency)
    }

    /// Takes what ``covers(_:monotonicNanoseconds:)`` has just found covered.
    public mutating func take(_ need: RateCredit) -> Take {
        inUse = inUse + need
        wasUsed = true
        return Take(credit: need, epoch: epoch)
    }

    /// The request goes on: it counts as one from now, whatever becomes of it.
    public mutating func admit(_ take: Take) {
        guard take.epoch == epoch else { return }
        inUse.requests -= take.credit.requests
        spent.requests += take.credit.requests
    }

    /// The admitted request has ended: its slot is free, and of its tokens those that were not used.
    public mutating func settle(_ take: Take, usedTokens: Int64) {
        inUse.concurrency -= take.credit.concurrency
        guard take.epoch == epoch else { return }
        inUse.tokens -= take.credit.tokens
        spent.tokens += min(max(usedTokens, 0), take.credit.tokens)
    }

    /// The request was refused by something else: as if it had never come.
    public mutating func giveBack(_ take: Take) {
        inUse.concurrency -= take.credit.concurrency
        guard take.epoch == epoch else { return }
        inUse.requests -= take.credit.requests
        inUse.tokens -= take.credit.tokens
    }

    // MARK: Exchanges

    /// What to tell the owner. What is kept can be taken from meanwhile; everything else is out of this book until the answer.
    /// - Parameters:
    ///   - need: of the request that waits; zero where there is none.
    ///   - spareCount: how many more like it to ask for.
    ///   - givesBack: whether what is not in use goes back.
    public mutating func demand(
        _ need: RateCredit, spareCount: Int64, givesBack: Bool = false, keyID: KeyID?, capacity: RateCapacity,
        monotonicNanoseconds: UInt64
    ) -> RateDemand {
        if expiresAtNanoseconds <= monotonicNanoseconds { lose() }
        let isContinuous = expiresAtNanoseconds > 0
        let booked = spent
        // What is left and does not cover the request would only be missing elsewhere, perhaps to its own refusal.
        let isShort = need != .zero && !covers(need, monotonicNanoseconds: monotonicNanoseconds)
        held = givesBack || isShort ? inUse : (held - spent).union(inUse)
        spent = .zero
        wasUsed = false
        let minimum = held.union(inUse + need)
        return RateDemand(
            keyID: keyID, capacity: capacity, isContinuous: isContinuous, spent: booked, kept: held, minimum: minimum,
            wanted: minimum + need.times(spareCount))
    }

    /// The owner has answered.
    /// - Parameter sentAtNanoseconds: before the demand was sent, so that this book never believes in a lease for longer than the owner.
    public mutating func answered(
        _ standing: RateStanding, sentAtNanoseconds: UInt64, lifetimeNanoseconds: UInt64, atNanoseconds: UInt64
    ) {
        held = standing.held
        free = standing.free
        answeredAtNanoseconds = atNanoseconds
        expiresAtNanoseconds = sentAtNanoseconds + lifetimeNanoseconds
    }

    /// The lease is gone, or what the owner did is not known. What was held counts as spent there; slots in use stay in use.
    public mutating func lose() {
        guard expiresAtNanoseconds > 0 || held != .zero else { return }
        epoch &+= 1
        inUse = RateCredit(concurrency: inUse.concurrency)
        held = inUse
        spent = .zero
        expiresAtNanoseconds = 0
    }

    /// What has to be told now and then: `nil` where nothing has, else whether what is not in use should go back because nobody used it.
    public var upkeep: Bool? { isEmpty ? nil : !wasUsed }

    /// Whether more is left here than is free for everybody else: near the limit that has to go back at once.
    public var isHoarding: Bool {
        let left = held - inUse - spent
        return left.requests > max(free.requests, 0) || left.tokens > max(free.tokens, 0)
            || left.concurrency > max(free.concurrency, 0)
    }

    /// What is left of a unit for everybody, as far as this gateway knows.
    public func remaining(_ unit: RateUnit, capacity: Int64, monotonicNanoseconds: UInt64) -> Int64 {
        let own = max(0, held[unit] - inUse[unit] - spent[unit])
        guard unit != .concurrency else { return min(max(0, free[unit]) + own, capacity) }
        let elapsed = Int64(
            clamping: (monotonicNanoseconds &- min(answeredAtNanoseconds, monotonicNanoseconds)) / 1_000)
        // What was charged empties with time; what is in use or spent here does not until it is told.
        return max(0, min(free[unit] + own + elapsed, capacity - inUse[unit] - spent[unit]))
    }
}
