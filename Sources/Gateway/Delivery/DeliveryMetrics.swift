internal import Metrics
internal import Synchronization

/// The numbers of one model's delivery. Labels are models and replicas of the route table.
struct DeliveryMetrics: Sendable {
    private let model: String
    let retries: Counter
    let retriesDenied: Counter
    let hedges: Counter
    let turnedAway: Counter
    let waiting: Gauge

    init(model: String) {
        self.model = model
        retries = Counter(label: "weir_delivery_retries", dimensions: [("model", model)])
        retriesDenied = Counter(label: "weir_delivery_retries_denied", dimensions: [("model", model)])
        hedges = Counter(label: "weir_delivery_hedges", dimensions: [("model", model)])
        turnedAway = Counter(label: "weir_delivery_turned_away", dimensions: [("model", model)])
        waiting = Gauge(label: "weir_delivery_waiting", dimensions: [("model", model)])
    }

    func changed(_ transition: ReplicaState.Transition) {
        Counter(
            label: "weir_replica_transitions", dimensions: [("model", model), ("to", transition.rawValue)]
        ).increment()
    }

    func record(_ state: ReplicaState) {
        let labels = [("model", model), ("replica", "\(state.address)")]
        Gauge(label: "weir_replica_outstanding", dimensions: labels).record(state.outstanding)
        Gauge(label: "weir_replica_healthy", dimensions: labels).record(state.condition.isAvailable ? 1 : 0)
        Gauge(label: "weir_replica_latency_microseconds", dimensions: labels).record(state.latencyMicroseconds)
    }

    /// A replica that has left the table has no numbers, and its place is another's: a metric has room for so many sets of labels.
    func forget(_ state: ReplicaState) {
        let labels = [("model", model), ("replica", "\(state.address)")]
        for label in ["weir_replica_outstanding", "weir_replica_healthy", "weir_replica_latency_microseconds"] {
            Gauge(label: label, dimensions: labels).destroy()
        }
    }
}
