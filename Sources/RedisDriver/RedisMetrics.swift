import Metrics

/// The driver's counters. Made once for each client, because looking a counter up costs a lock.
final class RedisMetrics: Sendable {
    private let commands = Counter(label: "weir_redis_commands_total")
    private let connections = Counter(label: "weir_redis_connections_total")
    private let failures: [String: Counter]

    init() {
        let everyKind: [RedisError] = [
            .unavailable(""), .timeout, .connectionLost, .serverError(RedisServerError(code: "ERR", message: "")),
            .protocolViolation(""), .unexpectedReply(expected: ""), .overloaded, .closed, .tls(""),
            .authenticationFailed,
            .invalidCommand(""), .invalidConfiguration(""),
        ]
        failures = Dictionary(
            uniqueKeysWithValues: everyKind.map {
                ($0.metricLabel, Counter(label: "weir_redis_failures_total", dimensions: [("reason", $0.metricLabel)]))
            })
    }

    func sent(_ count: Int) { commands.increment(by: count) }
    func connected() { connections.increment() }
    func failed(_ error: RedisError) { failures[error.metricLabel]?.increment() }
}
