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

        fileprivate let accounts = Mutex<(known: [Subject: RateAccount], sweepAt: Int)>(([:], 1_024))

        public init() {}
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
            if accounts.known.count >= accounts.sweepAt {
                accounts.known = accounts.known.filter { !$0.value.isIdle(at: now) }
                accounts.sweepAt = max(1_024, accounts.known.count * 2)
            }
            return answer
        }
    }
}
