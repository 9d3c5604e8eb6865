public import Domain
public import Logging
internal import Metrics
internal import Synchronization

/// The frozen route table that requests read, swapped whole when its sources change.
public final class RouteDirectory: Sendable {
    private let source: any RouteSource
    /// What is known of the replicas, from one table to the next.
    public let deliveries: DeliveryDirectory
    private let logger: Logger
    private let snapshot = Mutex(RouteSnapshot(table: .empty, redis: .notConfigured, isRegistryFresh: false))
    private let readings = Mutex((begun: 0, taken: 0))
    private let models = Gauge(label: "weir_routed_models")

    public init(source: any RouteSource, deliveries: DeliveryDirectory, logger: Logger) {
        self.source = source
        self.deliveries = deliveries
        self.logger = logger
    }

    public var current: RouteSnapshot { snapshot.withLock { $0 } }

    /// Reads the sources again; called at least twice a second and on every notification.
    public func refresh() async {
        let number = readings.withLock { readings in
            readings.begun += 1
            return readings.begun
        }
        let loaded = await source.load()
        // A reading that began earlier and ended later must not bring back what has changed since; and because binding moves what is known
        // of the replicas, the lock is held until the table is the one that requests read.
        let swap = readings.withLock { readings -> (previous: RouteSnapshot, fresh: RouteSnapshot)? in
            guard number > readings.taken else { return nil }
            readings.taken = number
            let fresh = RouteSnapshot(
                table: deliveries.bind(loaded.table), redis: loaded.redis, isRegistryFresh: loaded.isRegistryFresh)
            let previous = snapshot.withLock { current in
                let previous = current
                current = fresh
                return previous
            }
            return (previous, fresh)
        }
        guard let (previous, fresh) = swap else { return }
        models.record(fresh.table.models.count)
        if previous.redis != fresh.redis {
            logger.notice(
                "redis changed", metadata: ["from": "\(previous.redis.rawValue)", "to": "\(fresh.redis.rawValue)"])
        }
        if previous.table.models != fresh.table.models { logInventory(fresh.table) }
    }

    private func logInventory(_ table: RouteTable) {
        logger.notice("routes changed", metadata: ["models": "\(table.models.count)"])
        for route in table.models {
            logger.info(
                "model",
                metadata: [
                    "model": "\(route.profile.name)", "version": "\(route.profile.version)",
                    "replicas":
                        "\(route.replicas.map { "\($0.address) \($0.workerProtocol.rawValue)" }.joined(separator: ", "))",
                ])
        }
    }
}
