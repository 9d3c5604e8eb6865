internal import Domain
internal import HTTPListener
internal import Hummingbird

/// `/admin/v1/replicas`: how the replicas are, as the gateway of this process sees them.
struct ReplicasEndpoint: Sendable {
    let readings: @Sendable () -> [ReplicaReading]

    func list(_ call: AdminCall) async throws -> Response {
        try .json(ReplicaListAnswer(data: readings().map(ReplicaAnswer.init)))
    }
}

private struct ReplicaListAnswer: Encodable {
    let object = "list"
    let data: [ReplicaAnswer]
}

private struct ReplicaAnswer: Encodable {
    let model: String
    let address: String
    let `protocol`: String
    let version: String
    let weight: Int
    let state: String
    let outstanding: Int64
    let latencyMicroseconds: Int64
    let sharePercent: Int64
    let consecutiveFailures: Int64
    @Present var ejectedUntil: String?

    enum CodingKeys: String, CodingKey {
        case model, address, `protocol`, version, weight, state, outstanding
        case latencyMicroseconds = "latency_microseconds"
        case sharePercent = "share_percent"
        case consecutiveFailures = "consecutive_failures"
        case ejectedUntil = "ejected_until"
    }

    init(_ reading: ReplicaReading) {
        let address = reading.replica.address
        model = reading.model
        self.address = address.usesTLS ? "https://\(address)" : address.description
        `protocol` = reading.replica.workerProtocol.rawValue
        version = reading.replica.version
        weight = reading.replica.weight
        state = reading.condition.rawValue
        outstanding = reading.outstanding
        latencyMicroseconds = reading.latencyMicroseconds
        sharePercent = reading.sharePercent
        consecutiveFailures = reading.consecutiveFailures
        ejectedUntil = reading.ejectedUntil?.description
    }
}
