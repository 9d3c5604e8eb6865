import Domain
import Gateway
import RedisDriver

/// Asks each dependency how it is.
struct ProcessHealth: HealthSource {
    let keys: any KeyDirectory
    let settler: any Settler
    let routes: RouteDirectory
    let isRedisConfigured: Bool

    func report() async -> HealthReport {
        var postgres = DependencyState.available
        do throws(StoreUnavailable) {
            _ = try await keys.generation()
        } catch {
            postgres = .unavailable
        }
        let snapshot = routes.current
        return HealthReport(
            postgres: postgres, redis: isRedisConfigured ? snapshot.redis : .notConfigured,
            isSettlementAccepting: settler.isAccepting,
            models: Dictionary(
                uniqueKeysWithValues: snapshot.table.models.map { ($0.profile.name, !$0.replicas.isEmpty) }))
    }
}
