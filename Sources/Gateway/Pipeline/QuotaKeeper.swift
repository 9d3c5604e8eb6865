public import Domain
public import Logging
internal import Metrics
internal import Synchronization

/// Holds quota for requests: from leases in memory where they cover it, from the database where not.
///
/// All state is in the ``TenantAccounts`` of each tenant behind a lock; the effects, asking for quota, renewing, giving back and closing,
/// happen outside it.
public final class QuotaKeeper: Sendable {
    public struct Configuration: Sendable {
        /// How long a lease lasts in the database without renewal.
        public var leaseMilliseconds: Int64 = 10_000
        /// Requests that may wait for one tenant's lease.
        public var waitingLimit = 10_000
        public init() {}
    }

    final class TenantQuota: Sendable {
        let state = Mutex(TenantAccounts())
    }

    /// How often one request may ask: after an answer that says to ask otherwise, the next one says why not.
    private static let askLimit = 5

    let ledger: any QuotaLedger
    let configuration: Configuration
    let time: any TimeSource
    let logger: Logger
    let tenants = Mutex<[TenantID: TenantQuota]>([:])
    private let leases = Counter(label: "weir_leases_total")
    private let clockGauge = Gauge(label: "weir_clock_wrong")
    private let clockIsWrong = Atomic(false)

    public init(ledger: any QuotaLedger, configuration: Configuration, time: any TimeSource, logger: Logger) {
        self.ledger = ledger
        self.configuration = configuration
        self.time = time
        self.logger = logger
        clockGauge.record(0)
    }

    /// Holds one request and `tokens` tokens.
    /// - Returns: `nil` for a tenant without quotas.
    /// - Throws: `quota_exceeded` with the numbers that decided, or `metering_unavailable`.
    func hold(tokens: Int64, for principal: Principal, makeLeaseID: () -> LeaseID) async throws(Refusal) -> Hold? {
        let terms = principal.terms
        guard !terms.quotas.isEmpty else { return nil }
        let tenant = tenantQuota(principal.tenantID)
        var shared: Refusal?
        while true {
            let monotonic = time.monotonicNanoseconds
            let hold = tenant.state.withLock { state in
                let place = state.place(of: terms)
                var hold = state[place].take(tokens: tokens, under: terms, monotonicNanoseconds: monotonic)
                hold?.account = place
                return hold
            }
            if let hold { return hold }
            if let shared { throw shared }
            switch try await waitOrAsk(tenant, terms) {
            case .waited(let refusal): shared = refusal?.shared(withRequestOf: tokens, at: now(of: tenant))
            case .ask(let place):
                let refusal = await ask(tenant, place, principal, terms, tokens: tokens, makeLeaseID: makeLeaseID)
                let waiting = tenant.state.withLock { state in
                    defer { state[place].waiting = [] }
                    state[place].isAsking = false
                    return state[place].waiting
                }
                for continuation in waiting { continuation.resume(returning: refusal) }
                if let refusal { throw refusal }
            }
        }
    }

    func settle(_ hold: Hold, usedTokens: Int64, of tenantID: TenantID) {
        tenantQuota(tenantID).state.withLock { $0[hold.account].book.settle(hold, usedTokens: usedTokens) }
    }

    /// Settles, and reads the numbers of the headers in the same turn at the lock.
    func settleAndRead(
        _ hold: Hold, usedRequests: Int64 = 1, usedTokens: Int64, for principal: Principal
    ) -> [LimitReading] {
        let monotonic = time.monotonicNanoseconds
        return tenantQuota(principal.tenantID).state.withLock { state in
            state[hold.account].book.settle(hold, usedRequests: usedRequests, usedTokens: usedTokens)
            return state.readings(of: principal.terms, monotonicNanoseconds: monotonic)
        }
    }

    func void(_ hold: Hold, of tenantID: TenantID) {
        tenantQuota(tenantID).state.withLock { $0[hold.account].book.void(hold) }
    }

    func lost(_ hold: Hold, of tenantID: TenantID) {
        tenantQuota(tenantID).state.withLock { state in
            state[hold.account].book.void(hold)
            state[hold.account].book.lost([hold.leaseID])
        }
    }

    /// The numbers of the headers that show limits: what our own lease still has and what was free elsewhere when it was granted.
    func readings(for principal: Principal) -> [LimitReading] {
        guard !principal.quotas.isEmpty else { return [] }
        let monotonic = time.monotonicNanoseconds
        return tenantQuota(principal.tenantID).state.withLock {
            $0.readings(of: principal.terms, monotonicNanoseconds: monotonic)
        }
    }

    /// How many requests of a tenant wait for a lease now.
    func waitingCount(of tenantID: TenantID) -> Int {
        tenantQuota(tenantID).state.withLock { $0.accounts.reduce(0) { $0 + $1.waiting.count } }
    }

    /// Stops admitting from leases whose units were taken out of memory and may not have reached the database: when such a lease is closed,
    /// soon, whatever was not spent on it is free again.
    private func retire(_ returns: [LeaseReturn], of tenant: TenantQuota) {
        let leases = Set(returns.map(\.leaseID))
        guard !leases.isEmpty else { return }
        tenant.state.withLock { state in
            for place in state.accounts.indices { for lease in leases { state[place].book.retire(lease) } }
        }
    }

    private func tenantQuota(_ id: TenantID) -> TenantQuota {
        tenants.withLock { tenants in
            if let known = tenants[id] { return known }
            let made = TenantQuota()
            tenants[id] = made
            return made
        }
    }

    private enum Turn {
        /// The caller is to ask for the account at this place.
        case ask(Int)
        /// Somebody else's asking has ended, with this refusal.
        case waited(Refusal?)
    }

    private func waitOrAsk(_ tenant: TenantQuota, _ terms: QuotaTerms) async throws(Refusal) -> Turn {
        enum Step { case ask(Int), wait, overloaded }
        let step = tenant.state.withLock { state -> Step in
            let place = state.place(of: terms)
            guard state[place].isAsking else {
                state[place].isAsking = true
                return .ask(place)
            }
            return state[place].waiting.count < configuration.waitingLimit ? .wait : .overloaded
        }
        switch step {
        case .ask(let place): return .ask(place)
        case .overloaded:
            throw Refusal(
                .overloaded, "Too many requests of this account are waiting. Try again in a second.",
                retryAfterSeconds: 1)
        case .wait:
            return .waited(
                await withCheckedContinuation { continuation in
                    let isStillAsked = tenant.state.withLock { state -> Bool in
                        let place = state.place(of: terms)
                        guard state[place].isAsking else { return false }
                        state[place].waiting.append(continuation)
                        return true
                    }
                    if !isStillAsked { continuation.resume(returning: nil) }
                })
        }
    }

    /// Asks the database for quota and puts it into the book. The account stays at its place meanwhile.
    private func ask(
        _ tenant: TenantQuota, _ place: Int, _ principal: Principal, _ terms: QuotaTerms, tokens: Int64,
        makeLeaseID: () -> LeaseID
    ) async -> Refusal? {
        let calendar = PeriodCalendar(timeZone: terms.timeZone) ?? .utc
        let covering = tenant.state.withLock { $0[place].covering(monotonicNanoseconds: time.monotonicNanoseconds) }
        var last: Refusal?
        var gathered: [LeaseReturn] = []
        // What the database may or may not have taken back.
        var offered: [LeaseReturn] = []
        for _ in 0..<Self.askLimit {
            let sentAt = time.monotonicNanoseconds
            let wall = time.now
            let (planned, now) = tenant.state.withLock { state -> (LeaseRequest?, Timestamp) in
                let now = state.now(wallClock: wall, monotonicNanoseconds: sentAt)
                let request = state[place].book.ask(
                    tokens: tokens, under: terms, tenantID: principal.tenantID, covering: covering,
                    newLease: makeLeaseID(), monotonicNanoseconds: sentAt
                ) { calendar.period(containing: now, of: $0) }
                return (request, now)
            }
            do throws(StoreUnavailable) {
                guard var request = planned else {
                    offered = gathered
                    if !gathered.isEmpty { try await ledger.giveBack(gathered) }
                    return nil
                }
                if !gathered.isEmpty { request.returns = (request.returns + gathered).summed }
                offered = request.returns
                gathered = []
                switch try await ledger.acquire(request) {
                case .granted(let grants, let databaseTime):
                    if !grants.isEmpty { watchClock(databaseTime, sentAt: sentAt) }
                    granted(grants, at: databaseTime, to: request, in: tenant, place, terms, sentAt: sentAt)
                    return nil
                case .refused(let numbers):
                    last = .quotaExceeded(numbers, at: now)
                    // What other keys of the tenant have left of this quota in this process is free to take.
                    gathered = tenant.state.withLock { $0.surrender(numbers.quota.id) }
                    if gathered.isEmpty { return last }
                // Nothing was given back either: it is offered again.
                case .lost:
                    gathered = request.returns.filter { $0.leaseID != request.leaseID }
                    tenant.state.withLock { $0[place].book.lost([request.leaseID]) }
                case .elsewhen(let databaseTime):
                    gathered = request.returns
                    watchClock(databaseTime, sentAt: sentAt)
                    let monotonic = time.monotonicNanoseconds
                    tenant.state.withLock { state in
                        state.correct(to: databaseTime, monotonicNanoseconds: monotonic)
                        // Its periods are not now: the next attempt asks for a new one.
                        if !request.isNew { state[place].book.retire(request.leaseID) }
                    }
                }
            } catch {
                // Whether the lease has grown is not known.
                if let planned { tenant.state.withLock { $0[place].book.retire(planned.leaseID) } }
                retire(offered, of: tenant)
                return .storeAway(cause: error.cause)
            }
        }
        if !gathered.isEmpty {
            do throws(StoreUnavailable) {
                try await ledger.giveBack(gathered)
            } catch {
                retire(gathered, of: tenant)
                logger.warning("quota could not be given back", metadata: ["cause": "\(error.cause)"])
            }
        }
        return last ?? .storeAway(cause: "no lease in \(Self.askLimit) attempts")
    }

    /// The time by which a tenant's periods are found: the database's, as far as this gateway knows it.
    func now(of tenantID: TenantID) -> Timestamp { now(of: tenantQuota(tenantID)) }

    private func now(of tenant: TenantQuota) -> Timestamp {
        let (wall, monotonic) = (time.now, time.monotonicNanoseconds)
        return tenant.state.withLock { $0.now(wallClock: wall, monotonicNanoseconds: monotonic) }
    }

    /// How far a gateway's clock may be from the database's without a word; `take_lease` allows as much.
    private static let toleranceMilliseconds: Int64 = 2_000

    /// Says once that this machine's clock is wrong, and once that it is right again. Quota goes by the database's clock meanwhile.
    private func watchClock(_ databaseTime: Timestamp, sentAt: UInt64) {
        let tookMilliseconds = Int64(clamping: (time.monotonicNanoseconds &- sentAt) / 1_000_000)
        let ahead = time.now.milliseconds(since: databaseTime)
        let isWrong = ahead < -Self.toleranceMilliseconds || ahead > Self.toleranceMilliseconds + tookMilliseconds
        guard clockIsWrong.exchange(isWrong, ordering: .relaxed) != isWrong else { return }
        clockGauge.record(isWrong ? 1 : 0)
        if isWrong {
            logger.error(
                "the clock of this machine is not the database's",
                metadata: ["database": "\(databaseTime)", "ahead_ms": "\(ahead)"])
        } else {
            logger.notice("the clock of this machine is the database's again")
        }
    }

    private func granted(
        _ grants: [LeaseAnswer.Grant], at databaseTime: Timestamp, to request: LeaseRequest, in tenant: TenantQuota,
        _ place: Int,
        _ terms: QuotaTerms, sentAt: UInt64
    ) {
        leases.increment()
        tenant.state.withLock { state in
            if request.isNew {
                let lease = Lease(
                    id: request.leaseID, tenantID: request.tenantID, slices: grants.map(\.slice),
                    expiresAtNanoseconds: sentAt + UInt64(configuration.leaseMilliseconds) * 1_000_000)
                state[place].book.add(lease, under: terms, at: databaseTime, monotonicNanoseconds: sentAt)
            } else {
                state[place].book.grow(request.leaseID, by: grants.map(\.slice))
            }
            if !grants.isEmpty { state.correct(to: databaseTime, monotonicNanoseconds: sentAt) }
            for grant in grants {
                state[place].freeElsewhere[grant.slice.quota.id] = grant.freeAfterwards
                guard !grant.slice.quota.mode.refuses else { continue }
                state[place].book.told(
                    request.leaseID, of: grant.slice.quota, settled: grant.settled, isExceeded: grant.isExceeded)
            }
        }
    }
}
