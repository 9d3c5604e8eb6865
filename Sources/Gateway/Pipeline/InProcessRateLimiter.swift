public import Domain
internal import Synchronization

/// Rate limits that this process enforces on its own: where there is no Redis, and while it is away.
public final class InProcessRateLimiter: RateLimiter {
    /// What several limiters of one process share.
    public final class Store: Sendable {
        fileprivate struct Subject: Hashable {
            let tenantID: TenantID
            let keyID: KeyID?
        }

        fileprivate struct Accounts {
            var known: [Subject: RateAccount] = [:]
            var sweepAt = 1_024
        }

        fileprivate let accounts = Mutex(Accounts())

        public init() {}

        /// How many accounts are in memory.
        var count: Int { accounts.withLock { $0.known.count } }
    }

    private let store: Store
    private let gatewayID: GatewayID
    private let lifetimeMicroseconds: Int64
    private let time: any TimeSource

    public init(store: Store = Store(), gatewayID: GatewayID, leaseMilliseconds: Int64, time: any TimeSource) {
        self.store = store
        self.gatewayID = gatewayID
        lifetimeMicroseconds = leaseMilliseconds * 1_000
        self.time = time
    }

    public func exchange(_ tenantID: TenantID, _ demands: [RateDemand]) async throws(StoreUnavailable) -> RateAnswer {
        exchangeAtOnce(tenantID, demands)
    }

    /// The same without a way to fail.
    func exchangeAtOnce(_ tenantID: TenantID, _ demands: [RateDemand]) -> RateAnswer {
        // The monotonic clock, because nobody else has to agree.
        let now = Int64(clamping: time.monotonicNanoseconds / 1_000)
        return store.accounts.withLock { accounts in
            let subjects = demands.map { Store.Subject(tenantID: tenantID, keyID: $0.keyID) }
            var touched = subjects.map { accounts.known[$0] ?? RateAccount() }
            let answer = RateAccount.exchange(
                demands, &touched, of: gatewayID, lifetimeMicroseconds: lifetimeMicroseconds, at: now)
            for (subject, account) in zip(subjects, touched) { accounts.known[subject] = account }
            if accounts.known.count >= accounts.sweepAt { Self.sweep(&accounts, at: now) }
            return answer
        }
    }

    /// Forgets the accounts that would not decide differently from new ones. Called also while Redis owns the limits, because nobody
    /// exchanges with this limiter then.
    func sweep() {
        let now = Int64(clamping: time.monotonicNanoseconds / 1_000)
        store.accounts.withLock { accounts in
            if !accounts.known.isEmpty { Self.sweep(&accounts, at: now) }
        }
    }

    private static func sweep(_ accounts: inout Store.Accounts, at now: Int64) {
        accounts.known = accounts.known.filter { !$0.value.isIdle(at: now) }
        accounts.sweepAt = max(1_024, accounts.known.count * 2)
    }
}
