public import Domain
public import Logging
internal import Metrics
internal import Synchronization

/// Tells in metrics how many replicas each model needs.
public enum ReplicaDemandJob {
    /// - Parameter models: those of the route table, by which the labels are bounded. One that leaves it needs none from then on.
    public static func make(
        _ store: any Housekeeping, demand: ReplicaDemand, time: any TimeSource, logger: Logger,
        models: @escaping @Sendable () -> [String]
    ) -> Recurring {
        let known = Mutex<Set<String>>([])
        return Recurring("replica_demand", everyMilliseconds: 15_000, logger: logger) {
            let now = time.now
            let start = ReplicaDemand.windowStart(at: now)
            let busy = try await store.busyMicroseconds(since: start)
            let routed = Set(models())
            let gone = known.withLock { known in
                defer { known = routed }
                return known.subtracting(routed)
            }
            for model in gone { gauge(model).record(0) }
            for model in routed {
                gauge(model).record(
                    demand.desired(
                        busyMicroseconds: busy[model] ?? 0,
                        inMicroseconds: now.microsecondsSince1970 - start.microsecondsSince1970))
            }
        }
    }

    private static func gauge(_ model: String) -> Gauge {
        Gauge(label: "weir_model_desired_replicas", dimensions: [("model", model)])
    }
}
