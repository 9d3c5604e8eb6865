internal import Domain
internal import Metrics

/// Counts what becomes of rate limits. Labels are words of ours.
struct RateMetrics: Sendable {
    private let inRedis = Counter(label: "weir_rate_exchanges_total", dimensions: [("owner", "redis")])
    private let inProcess = Counter(label: "weir_rate_exchanges_total", dimensions: [("owner", "process")])
    private let gauge = Gauge(label: "weir_rate_limits_degraded")
    private let refusals: [String: Counter] = Dictionary(
        uniqueKeysWithValues: RateScope.allCases.flatMap { scope in
            RateUnit.allCases.map { unit in
                let policy = RateLimits.policy(scope, unit)
                return (policy, Counter(label: "weir_rate_limited_total", dimensions: [("policy", policy)]))
            }
        })

    func exchangedThere() { inRedis.increment() }
    func exchangedHere() { inProcess.increment() }
    func degraded(_ isDegraded: Bool) { gauge.record(isDegraded ? 1 : 0) }

    func limited(_ numbers: RateRefusal) -> Refusal {
        refusals[numbers.policy]?.increment()
        return .rateLimited(numbers)
    }
}
