public import Domain
public import Logging
internal import Metrics
internal import Synchronization

/// What a request took of its caller's rate limits.
struct RateTake: Sendable {
    let tenant: RateBook.Take?
    let key: RateBook.Take?
}

/// Takes rate limits for requests: from what this gateway holds where that covers them, from their owner where not.
///
/// The owner is Redis, whose limits hold over all gateways. While Redis is away this process is the owner of limits of its own: it goes on
/// serving, and each gateway enforces the limits for itself. All state is in one ``RateBook`` per scope behind a lock per tenant.
public final class RateKeeper: Sendable {
    public struct Configuration: Sendable {
        /// How long a gateway may use what it holds without saying so.
        public var leaseMilliseconds: Int64 = 2_000
        /// Requests that may wait for one tenant's exchange.
        public var waitingLimit = 10_000
        public init() {}
    }

    let shared: (any RateLimiter)?
    let own: InProcessRateLimiter
    private let configuration: Configuration
    let time: any TimeSource
    private let logger: Logger
    private let metrics = RateMetrics()
    let accounts = Mutex<[TenantID: RateTenant]>([:])
    /// Who owns the limits: even is Redis, odd is this process. What is held from one owner is nothing to the other.
    let ownership: Atomic<UInt32>
    let lastExchange = Atomic<UInt64>(0)
    /// Tenants of whose limits this gateway has more left than is free for the others; each is there once.
    let returning: AsyncStream<TenantID>
    private let returns: AsyncStream<TenantID>.Continuation

    /// - Parameters:
    ///   - shared: the limits of all gateways; `nil` where there is no Redis.
    ///   - own: the limits of this process.
    public init(
        shared: (any RateLimiter)?, own: InProcessRateLimiter, configuration: Configuration, time: any TimeSource,
        logger: Logger
    ) {
        self.shared = shared
        self.own = own
        self.configuration = configuration
        self.time = time
        self.logger = logger
        ownership = Atomic(shared == nil ? 1 : 0)
        // One that finds no room is seen by the next upkeep.
        (returning, returns) = AsyncStream.makeStream(of: TenantID.self, bufferingPolicy: .bufferingOldest(65_536))
        metrics.degraded(false)
    }

    /// Whether limits that gateways should share are enforced by each on its own.
    public var isDegraded: Bool { shared != nil && !ownership.load(ordering: .relaxed).isMultiple(of: 2) }

    // MARK: Requests

    /// Takes one request, `tokens` tokens and a slot, of the tenant's limits and of the key's: all of them or none.
    /// - Returns: `nil` for a caller without rate limits.
    /// - Throws: `rate_limited` with the numbers that decided, or `overloaded`.
    func take(tokens: Int64, for principal: Principal) async throws(Refusal) -> RateTake? {
        guard let limits = principal.rateLimits else { return nil }
        let need = RateNeed(principal, limits, tokens: tokens)
        let tenant = rateTenant(principal.tenantID)
        let owner = ownership.load(ordering: .relaxed)
        let now = time.monotonicNanoseconds
        if let take = tenant.state.withLock({ $0.take(need, owner: owner, at: now) }) { return take }
        if let refusal = need.impossible(metrics) { throw refusal }
        return try await wait(need, tenant)
    }

    private func wait(_ need: RateNeed, _ tenant: RateTenant) async throws(Refusal) -> RateTake {
        let arrival = tenant.state.withLock { $0.answerCount }
        while true {
            switch await turn(tenant, need, after: arrival) {
            case .overloaded:
                throw Refusal(
                    .overloaded, "Too many requests of this account are waiting. Try again in a second.",
                    retryAfterSeconds: 1)
            case .refused(let refusal): throw metrics.limited(refusal)
            case .waited:
                let owner = ownership.load(ordering: .relaxed)
                let now = time.monotonicNanoseconds
                if let take = tenant.state.withLock({ $0.take(need, owner: owner, at: now) }) { return take }
            case .ask:
                switch await ask(need, tenant) {
                case .taken(let take): return take
                case .refused(let refusal): throw metrics.limited(refusal)
                }
            }
        }
    }

    /// The request goes on: it counts, whatever becomes of it.
    func admit(_ take: RateTake, for principal: Principal) {
        rateTenant(principal.tenantID).state.withLock { state in
            state.change(take, principal.keyID) { $0.admit($1) }
        }
    }

    /// The request was refused by something else: as if it had never come.
    func giveBack(_ take: RateTake, for principal: Principal) {
        let returnsNow = rateTenant(principal.tenantID).state.withLock { state in
            state.change(take, principal.keyID) { $0.giveBack($1) }
            return state.beginsReturning(take.key == nil ? nil : principal.keyID)
        }
        if returnsNow { returns.yield(principal.tenantID) }
    }

    /// The admitted request has ended and used so many tokens; what it took beyond them is free again.
    func settle(_ take: RateTake, usedTokens: Int64, for principal: Principal) {
        let tenantTokens = principal.rateLimits?.tenant.tokens?.microseconds(for: usedTokens) ?? 0
        let keyTokens = principal.rateLimits?.key.tokens?.microseconds(for: usedTokens) ?? 0
        let returnsNow = rateTenant(principal.tenantID).state.withLock { state in
            if let part = take.tenant { state.tenant.book.settle(part, usedTokens: tenantTokens) }
            if let part = take.key { state.keys[principal.keyID]?.book.settle(part, usedTokens: keyTokens) }
            return state.beginsReturning(take.key == nil ? nil : principal.keyID)
        }
        if returnsNow { returns.yield(principal.tenantID) }
    }

    /// The numbers of the headers that show limits, as far as this gateway knows them.
    func readings(for principal: Principal) -> [LimitReading] {
        guard let limits = principal.rateLimits else { return [] }
        let now = time.monotonicNanoseconds
        return rateTenant(principal.tenantID).state.withLock { state in
            var readings: [LimitReading] = []
            for scope in RateScope.allCases {
                for unit in RateUnit.allCases {
                    guard let limit = limits[scope][unit] else { continue }
                    readings.append(state.reading(scope, unit, limit, principal.keyID, at: now))
                }
            }
            return readings
        }
    }

    // MARK: Exchanges

    enum Turn {
        /// The caller is to ask the owner.
        case ask
        /// Somebody else's asking has ended.
        case waited
        /// Somebody else who asked meanwhile was refused for this one as well.
        case refused(RateRefusal)
        case overloaded
    }

    /// - Parameters:
    ///   - need: `nil` for one who only looks.
    ///   - arrival: how many exchanges had ended when the request came. A refusal that came later holds for it too; without that, those who
    ///     wake one after the other would all ask.
    func turn(_ tenant: RateTenant, _ need: RateNeed? = nil, after arrival: UInt64 = 0) async -> Turn {
        let place = tenant.state.withLock { state -> Turn? in
            if let need, let refusal = state.refusal(need, after: arrival) { return .refused(refusal) }
            guard state.isAsking else {
                state.isAsking = true
                return .ask
            }
            return state.waiting.count < configuration.waitingLimit ? nil : .overloaded
        }
        if let place { return place }
        await withCheckedContinuation { (continuation: CheckedContinuation<Void, Never>) in
            let isStillAsked = tenant.state.withLock { state -> Bool in
                guard state.isAsking else { return false }
                state.waiting.append(continuation)
                return true
            }
            if !isStillAsked { continuation.resume() }
        }
        return .waited
    }

    private enum Asked {
        case taken(RateTake)
        case refused(RateRefusal)
    }

    /// Asks the owner for what a request needs and some more. Whoever calls has the tenant's turn.
    private func ask(_ need: RateNeed, _ tenant: RateTenant) async -> Asked {
        while true {
            let owner = ownership.load(ordering: .relaxed)
            let sentAt = time.monotonicNanoseconds
            let quick = UInt64(configuration.leaseMilliseconds) * 250_000
            let demands = tenant.state.withLock {
                $0.demands(need, owner: owner, isQuickNanoseconds: quick, at: sentAt)
            }
            guard let answer = await exchange(need.tenantID, demands, owner: owner) else {
                tenant.state.withLock { $0.loseAll() }
                continue
            }
            let now = time.monotonicNanoseconds
            let asked = tenant.state.withLock { state -> Asked? in
                state.answered(demands, answer, sentAt: sentAt, lifetime: lifetimeNanoseconds, at: now)
                if let shortage = answer.shortage {
                    return .refused(state.refusal(shortage, demands, need, at: now))
                }
                return state.take(need, owner: owner, at: now).map { .taken($0) }
            }
            // A lease that ended before its answer came is asked for again.
            guard let asked else { continue }
            var refusal: RateRefusal?
            if case .refused(let numbers) = asked { refusal = numbers }
            release(tenant, need.tenantID, need.keyID, refusal)
            return asked
        }
    }

    var lifetimeNanoseconds: UInt64 { UInt64(configuration.leaseMilliseconds) * 1_000_000 }

    func release(_ tenant: RateTenant, _ id: TenantID, _ keyID: KeyID?, _ refusal: RateRefusal?) {
        let (waiting, returnsNow) = tenant.state.withLock { state in
            defer { state.waiting = [] }
            state.end(refusal, keyID)
            // A request that ended during the exchange had nobody to tell.
            return (state.waiting, state.waiting.isEmpty && state.beginsReturning(keyID))
        }
        if returnsNow { returns.yield(id) }
        for continuation in waiting { continuation.resume() }
    }

    /// - Returns: `nil` where the owner changed meanwhile.
    func exchange(_ tenantID: TenantID, _ demands: [RateDemand], owner: UInt32) async -> RateAnswer? {
        guard owner.isMultiple(of: 2), let shared else {
            metrics.exchangedHere()
            return own.exchangeAtOnce(tenantID, demands)
        }
        lastExchange.store(time.monotonicNanoseconds, ordering: .relaxed)
        do throws(StoreUnavailable) {
            let answer = try await shared.exchange(tenantID, demands)
            metrics.exchangedThere()
            return answer
        } catch {
            change(from: owner, cause: error.cause)
            return nil
        }
    }

    /// The other one owns the limits from now on.
    func change(from owner: UInt32, cause: String?) {
        let (done, _) = ownership.compareExchange(
            expected: owner, desired: owner &+ 1, ordering: .acquiringAndReleasing)
        guard done else { return }
        metrics.degraded(cause != nil)
        if let cause {
            logger.warning("rate limits are enforced by each gateway on its own", metadata: ["cause": "\(cause)"])
        } else {
            logger.notice("rate limits are shared by all gateways again")
        }
    }

    func rateTenant(_ id: TenantID) -> RateTenant {
        accounts.withLock { accounts in
            if let known = accounts[id] { return known }
            let made = RateTenant()
            accounts[id] = made
            return made
        }
    }

    /// How many requests of a tenant wait for an exchange now.
    func waitingCount(of tenantID: TenantID) -> Int { rateTenant(tenantID).state.withLock { $0.waiting.count } }
}
