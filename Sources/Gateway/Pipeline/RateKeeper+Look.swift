internal import Domain
internal import Synchronization

/// One limit of a caller as `GET /api/v1/quota` shows it.
struct RateStandingLine: Sendable {
    let scope: RateScope
    let burst: Int64
    let reading: LimitReading
    /// False where this process counts for itself, and other gateways do not know of it.
    let isExact: Bool
}

extension RateKeeper {
    /// The limits of a caller with the numbers of the headers. The owner is asked first, because a gateway that served nothing of late does
    /// not know what is left; nothing is taken of any limit.
    func look(_ principal: Principal) async -> [RateStandingLine] {
        guard let limits = principal.rateLimits else { return [] }
        let tenant = rateTenant(principal.tenantID)
        // Somebody else's exchange that has just ended says as much.
        if case .ask = await turn(tenant) { await look(limits, principal, tenant) }
        let isExact = shared != nil && !isDegraded
        let parts = RateScope.allCases.flatMap { scope in
            RateUnit.allCases.compactMap { unit in limits[scope][unit].map { (scope: scope, limit: $0) } }
        }
        return zip(parts, readings(for: principal)).map { part, reading in
            RateStandingLine(
                scope: part.scope, burst: part.limit.burst, reading: reading, isExact: isExact)
        }
    }

    /// Once more where the owner changed meanwhile; the other one answers at once.
    private func look(_ limits: RateLimits, _ principal: Principal, _ tenant: RateTenant) async {
        for _ in 0..<2 {
            let owner = ownership.load(ordering: .relaxed)
            let sentAt = time.monotonicNanoseconds
            let demands = tenant.state.withLock {
                $0.lookDemands(limits, principal.keyID, owner: owner, at: sentAt)
            }
            guard let answer = await exchange(principal.tenantID, demands, owner: owner) else {
                tenant.state.withLock { $0.loseAll() }
                continue
            }
            let now = time.monotonicNanoseconds
            tenant.state.withLock {
                $0.answered(demands, answer, sentAt: sentAt, lifetime: lifetimeNanoseconds, at: now)
            }
            break
        }
        release(tenant, principal.tenantID, principal.keyID, nil)
    }
}
