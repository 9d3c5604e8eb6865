import Domain
import Gateway
import Synchronization

/// When the database last answered. The refresh of keys asks it twice a second, so the health pages need not ask, and cannot hang with it.
final class DatabaseWatch: Sendable {
    private static let freshNanoseconds: UInt64 = 2_000_000_000

    private let time: any TimeSource
    private let answeredAt = Atomic<UInt64>(0)

    init(time: any TimeSource) { self.time = time }

    func answered() { answeredAt.store(time.monotonicNanoseconds, ordering: .relaxed) }

    var state: DependencyState {
        let last = answeredAt.load(ordering: .relaxed)
        return last > 0 && time.monotonicNanoseconds &- last < Self.freshNanoseconds ? .available : .unavailable
    }
}

/// How each dependency is, from what the process has seen of it; asks nobody.
struct ProcessHealth: HealthSource {
    let watch: DatabaseWatch
    let settler: any Settler
    let routes: RouteDirectory
    let rates: RateKeeper
    let cache: PredictionCache
    let isRedisConfigured: Bool

    func report() async -> HealthReport {
        let snapshot = routes.current
        let stranded = routes.deliveries.strandedModels
        return HealthReport(
            postgres: watch.state, redis: isRedisConfigured ? snapshot.redis : .notConfigured,
            isSettlementAccepting: settler.isAccepting,
            rateLimits: !isRedisConfigured ? .notConfigured : rates.isDegraded ? .unavailable : .available,
            cache: isRedisConfigured ? cache.sharing : .notConfigured,
            models: Dictionary(
                uniqueKeysWithValues: snapshot.table.models.map {
                    ($0.profile.name, !$0.replicas.isEmpty && !stranded.contains($0.profile.name))
                }), strandedModels: stranded)
    }
}
