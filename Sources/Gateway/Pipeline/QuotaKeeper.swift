public import Domain
public import Logging
internal import Metrics
internal import Synchronization

/// Holds quota for requests: from leases in memory where they cover it, from the database where not.
///
/// All state is in one ``LeaseBook`` per tenant behind a lock; the effects, asking for a lease, renewing and closing, happen outside it.
public final class QuotaKeeper: Sendable {
    public struct Configuration: Sendable {
        /// How long a lease lasts in the database without renewal.
        public var leaseMilliseconds: Int64 = 10_000
        /// Requests that may wait for one tenant's lease.
        public var waitingLimit = 10_000
        public init() {}
    }

    private final class TenantQuota: Sendable {
        let state = Mutex(State())

        struct State {
            var book = LeaseBook()
            var isAsking = false
            var waiting: [CheckedContinuation<Refusal?, Never>] = []
            /// How many requests the next lease should cover; grows while leases are used up quickly.
            var slice: Int64 = 16
            var leasedAtNanoseconds: UInt64 = 0
            /// By quota: what was free beside our own slice when the last lease was granted.
            var freeElsewhere: [QuotaID: Int64] = [:]
        }
    }

    private static let sliceLimit: Int64 = 65_536

    private let ledger: any QuotaLedger
    private let configuration: Configuration
    private let time: any TimeSource
    private let logger: Logger
    private let tenants = Mutex<[TenantID: TenantQuota]>([:])
    private let leases = Counter(label: "weir_leases_total")

    public init(ledger: any QuotaLedger, configuration: Configuration, time: any TimeSource, logger: Logger) {
        self.ledger = ledger
        self.configuration = configuration
        self.time = time
        self.logger = logger
    }

    /// Holds one request and `tokens` tokens.
    /// - Returns: `nil` for a tenant without quotas.
    /// - Throws: `quota_exceeded` with the numbers that decided, or `metering_unavailable`.
    func hold(tokens: Int64, for principal: Principal, makeLeaseID: () -> LeaseID) async throws(Refusal) -> Hold? {
        guard !principal.quotas.isEmpty else { return nil }
        let tenant = tenantQuota(principal.tenantID)
        var shared: Refusal?
        while true {
            let monotonic = time.monotonicNanoseconds
            let now = time.now
            let admission = tenant.state.withLock {
                $0.book.take(tokens: tokens, at: now, monotonicNanoseconds: monotonic)
            }
            if case .held(let hold) = admission { return hold }
            if let shared { throw shared }
            switch try await waitOrAsk(tenant) {
            case .waited(let refusal): shared = refusal?.shared(withRequestOf: tokens, at: now)
            case .ask:
                let refusal = await ask(tenant, principal: principal, tokens: tokens, at: now, leaseID: makeLeaseID())
                if let refusal { throw refusal }
            }
        }
    }

    func settle(_ hold: Hold, usedTokens: Int64, of tenantID: TenantID) {
        tenantQuota(tenantID).state.withLock { $0.book.settle(hold, usedTokens: usedTokens) }
    }

    func void(_ hold: Hold, of tenantID: TenantID) {
        tenantQuota(tenantID).state.withLock { $0.book.void(hold) }
    }

    func lost(_ hold: Hold, of tenantID: TenantID) {
        tenantQuota(tenantID).state.withLock { state in
            state.book.void(hold)
            state.book.lost([hold.leaseID])
        }
    }

    /// The numbers of the headers that show limits: what our own lease still has and what was free elsewhere when it was granted.
    func readings(for principal: Principal) -> [LimitReading] {
        guard !principal.quotas.isEmpty else { return [] }
        let now = time.now
        return tenantQuota(principal.tenantID).state.withLock { state in
            state.book.remaining().map { slice, remaining in
                let free = state.freeElsewhere[slice.quota.id] ?? 0
                return LimitReading(
                    quota: slice.quota, remaining: max(0, free + remaining),
                    resetSeconds: max(0, (slice.period.end.milliseconds(since: now) + 999) / 1_000),
                    windowSeconds: slice.period.end.milliseconds(since: slice.period.start) / 1_000)
            }
        }
    }

    /// How many requests of a tenant wait for a lease now.
    func waitingCount(of tenantID: TenantID) -> Int {
        tenantQuota(tenantID).state.withLock { $0.waiting.count }
    }

    /// Renews leases in use and gives idle ones back; called several times in a lease's life.
    public func keep() async {
        let monotonic = time.monotonicNanoseconds
        let now = time.now
        let idleAfter = UInt64(configuration.leaseMilliseconds) * 1_000_000 / 2
        var upkeep = LeaseBook.Upkeep()
        for tenant in tenants.withLock({ Array($0.values) }) {
            let part = tenant.state.withLock {
                $0.book.tick(monotonicNanoseconds: monotonic, at: now, idleAfterNanoseconds: idleAfter)
            }
            upkeep.renew += part.renew
            upkeep.close += part.close
        }
        do throws(StoreUnavailable) {
            if !upkeep.renew.isEmpty {
                let sentAt = time.monotonicNanoseconds
                let open = try await ledger.renew(upkeep.renew)
                let until = sentAt + UInt64(configuration.leaseMilliseconds) * 1_000_000
                let lost = upkeep.renew.filter { !open.contains($0) }
                for tenant in tenants.withLock({ Array($0.values) }) {
                    tenant.state.withLock { state in
                        state.book.renewed(open, untilNanoseconds: until)
                        state.book.lost(lost)
                    }
                }
            }
            if !upkeep.close.isEmpty { try await ledger.close(upkeep.close) }
        } catch {
            // The leases end by themselves and the reaper books them; admission from them ends by our own clock before that.
            logger.warning("leases could not be kept", metadata: ["cause": "\(error.cause)"])
        }
    }

    /// Gives back everything that is not in flight; the gateway is stopping.
    public func drain() async {
        let idle = tenants.withLock { Array($0.values) }.flatMap { $0.state.withLock { $0.book.drain() } }
        guard !idle.isEmpty else { return }
        do throws(StoreUnavailable) {
            try await ledger.close(idle)
        } catch {
            logger.warning("leases could not be given back", metadata: ["cause": "\(error.cause)"])
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
        /// The caller is to ask for the lease.
        case ask
        /// Somebody else's asking has ended, with this refusal.
        case waited(Refusal?)
    }

    private func waitOrAsk(_ tenant: TenantQuota) async throws(Refusal) -> Turn {
        enum Place { case ask, wait, overloaded }
        let place = tenant.state.withLock { state -> Place in
            guard state.isAsking else {
                state.isAsking = true
                return .ask
            }
            return state.waiting.count < configuration.waitingLimit ? .wait : .overloaded
        }
        switch place {
        case .ask: return .ask
        case .overloaded:
            throw Refusal(
                .overloaded, "Too many requests of this account are waiting. Try again in a second.",
                retryAfterSeconds: 1)
        case .wait:
            return .waited(
                await withCheckedContinuation { continuation in
                    let isStillAsked = tenant.state.withLock { state -> Bool in
                        guard state.isAsking else { return false }
                        state.waiting.append(continuation)
                        return true
                    }
                    if !isStillAsked { continuation.resume(returning: nil) }
                })
        }
    }

    /// Asks the database for a lease and puts it into the book.
    private func ask(
        _ tenant: TenantQuota, principal: Principal, tokens: Int64, at now: Timestamp, leaseID: LeaseID
    ) async -> Refusal? {
        let slice = tenant.state.withLock { state in
            let age = time.monotonicNanoseconds - state.leasedAtNanoseconds
            let isQuick = age < UInt64(configuration.leaseMilliseconds) * 1_000_000 / 2
            state.slice = isQuick ? min(state.slice * 2, Self.sliceLimit) : max(state.slice / 2, 16)
            return state.slice
        }
        let calendar = PeriodCalendar(timeZone: principal.timeZone) ?? .utc
        let wants = principal.quotas.map { quota in
            let minimum = quota.unit == .requests ? 1 : tokens
            return LeaseRequest.Want(
                quota: quota, period: calendar.period(containing: now, frequency: quota.frequency), minimum: minimum,
                wanted: max(minimum, 1) * slice)
        }
        let sentAt = time.monotonicNanoseconds
        var refusal: Refusal?
        do throws(StoreUnavailable) {
            let answer = try await ledger.acquire(
                LeaseRequest(leaseID: leaseID, tenantID: principal.tenantID, wants: wants))
            switch answer {
            case .granted(let grant):
                leases.increment()
                let lease = Lease(
                    id: leaseID, tenantID: principal.tenantID, slices: grant.map(\.slice),
                    expiresAtNanoseconds: sentAt + UInt64(configuration.leaseMilliseconds) * 1_000_000)
                tenant.state.withLock { state in
                    state.book.add(lease, monotonicNanoseconds: sentAt)
                    state.leasedAtNanoseconds = sentAt
                    for entry in grant { state.freeElsewhere[entry.slice.quota.id] = entry.freeAfterwards }
                }
            case .refused(let numbers): refusal = .quotaExceeded(numbers, at: now)
            }
        } catch {
            refusal = .storeAway(cause: error.cause)
        }
        let waiting = tenant.state.withLock { state in
            defer { state.waiting = [] }
            state.isAsking = false
            return state.waiting
        }
        for continuation in waiting { continuation.resume(returning: refusal) }
        return refusal
    }
}

extension Refusal {
    /// What a refused lease means for another request that waited for it; `nil` if that one may still have a chance of its own.
    ///
    /// Without this, all who wait would ask one after the other, each for as long as a database that is away takes to say so.
    fileprivate func shared(withRequestOf tokens: Int64, at now: Timestamp) -> Refusal? {
        guard let numbers = quota else { return self }
        guard numbers.quota.unit == .tokens else { return self }
        guard tokens >= numbers.requested else { return nil }
        return .quotaExceeded(
            QuotaRefusal(
                quota: numbers.quota, period: numbers.period, settled: numbers.settled, held: numbers.held,
                requested: tokens),
            at: now)
    }

    static func quotaExceeded(_ numbers: QuotaRefusal, at now: Timestamp) -> Refusal {
        let quota = numbers.quota
        let seconds = max(1, (numbers.period.end.milliseconds(since: now) + 999) / 1_000)
        let reset = quota.frequency.recurs ? "Resets \(numbers.period.end)." : "It does not begin anew."
        return Refusal(
            .quotaExceeded,
            "The quota \(quota.policy) for \(numbers.period.id) is used up. Limit \(quota.amount), settled \(numbers.settled), "
                + "held \(numbers.held), requested up to \(numbers.requested). \(reset)",
            retryAfterSeconds: quota.frequency.recurs ? Int(clamping: seconds) : nil, quota: numbers)
    }
}
