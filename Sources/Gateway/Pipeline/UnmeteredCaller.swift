#if WEIR_UNMETERED_BASELINE
    internal import Domain
    internal import Synchronization

    /// The first caller, for whom everybody is taken afterwards: the build that admission is measured against checks nobody.
    final class UnmeteredCaller: Sendable {
        private final class First: Sendable {
            let principal: Principal
            let readings: [LimitReading]

            init(_ principal: Principal) {
                self.principal = principal
                readings = UnmeteredCaller.rates(principal) + UnmeteredCaller.quotas(principal)
            }
        }

        private let first = AtomicLazyReference<First>()

        var principal: Principal? { first.load()?.principal }
        /// As long as the true ones and always the same: both builds write the same headers.
        var readings: [LimitReading] { first.load()?.readings ?? [] }

        func remember(_ principal: Principal) { _ = first.storeIfNil(First(principal)) }

        private static func quotas(_ principal: Principal) -> [LimitReading] {
            principal.quotas.map { quota in
                LimitReading(
                    quota: quota, remaining: quota.amount - quota.amount / 100, resetSeconds: 864_000,
                    windowSeconds: 2_592_000)
            }
        }

        private static func rates(_ principal: Principal) -> [LimitReading] {
            guard let limits = principal.rateLimits else { return [] }
            return RateScope.allCases.flatMap { scope in
                RateUnit.allCases.compactMap { unit in
                    guard let limit = limits[scope][unit] else { return nil }
                    let isTimed = unit != .concurrency
                    return LimitReading(
                        policy: RateLimits.policy(scope, unit), unit: unit, limit: limit.amount,
                        remaining: limit.amount - limit.amount / 100, resetSeconds: isTimed ? 1 : nil,
                        windowSeconds: isTimed ? 60 : nil)
                }
            }
        }
    }
#endif
