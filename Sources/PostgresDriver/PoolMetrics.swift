internal import Metrics
internal import Synchronization

/// The numbers of a pool at one moment.
struct PoolGauges: Sendable {
    let open: Int
    let inUse: Int
    let waiting: Int

    init(_ machine: PoolStateMachine) {
        open = machine.openCount
        inUse = machine.leasedCount
        waiting = machine.waitingCount
    }
}

/// What a pool reports: `postgres_pool_connections`, `postgres_pool_in_use`, `postgres_pool_waiting`,
/// `postgres_statement_duration` by statement, `postgres_errors` by kind. All by pool.
final class PoolMetrics: Sendable {
    private let pool: String
    private let open: Gauge
    private let inUse: Gauge
    private let waiting: Gauge
    /// A handle per statement type: making one costs a look-up in the metrics backend.
    private let timers = Mutex<[ObjectIdentifier: Timer]>([:])

    init(pool: String) {
        self.pool = pool
        let dimensions = [("pool", pool)]
        open = Gauge(label: "postgres_pool_connections", dimensions: dimensions)
        inUse = Gauge(label: "postgres_pool_in_use", dimensions: dimensions)
        waiting = Gauge(label: "postgres_pool_waiting", dimensions: dimensions)
    }

    func set(_ gauges: PoolGauges) {
        open.record(gauges.open)
        inUse.record(gauges.inUse)
        waiting.record(gauges.waiting)
    }

    func record(_ type: any PostgresStatement.Type, nanoseconds: UInt64) {
        let key = ObjectIdentifier(type)
        let timer = timers.withLock { $0[key] } ?? makeTimer(key, type)
        timer.recordNanoseconds(Int64(clamping: nanoseconds))
    }

    func count(_ error: PostgresError) {
        Counter(label: "postgres_errors", dimensions: [("pool", pool), ("kind", error.metricLabel)]).increment()
    }

    private func makeTimer(_ key: ObjectIdentifier, _ type: any PostgresStatement.Type) -> Timer {
        let timer = Timer(label: "postgres_statement_duration", dimensions: [("pool", pool), ("statement", type.name)])
        timers.withLock { $0[key] = timer }
        return timer
    }
}
