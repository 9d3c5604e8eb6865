internal import Domain
internal import Metrics

/// Counts what the data plane answers. Labels are codes and routes that we name, never anything that a caller sent.
enum RequestMetrics {
    private static let duration = Timer(label: "weir_request_duration_seconds", dimensions: [("route", "predict")])
    private static let succeeded = Counter(
        label: "weir_requests_total", dimensions: [("route", "predict"), ("code", "ok")])
    private static let repeated = Counter(
        label: "weir_requests_total", dimensions: [("route", "predict"), ("code", "replayed")])
    private static let failed: [FailureCode: [String: Counter]] = Dictionary(
        uniqueKeysWithValues: FailureCode.allCases.map { code in
            (
                code,
                Dictionary(
                    uniqueKeysWithValues: ["predict", "guard", "control"].map { route in
                        (
                            route,
                            Counter(
                                label: "weir_requests_total", dimensions: [("route", route), ("code", code.rawValue)])
                        )
                    })
            )
        })

    static func answered(nanoseconds: UInt64) {
        succeeded.increment()
        duration.recordNanoseconds(Int64(clamping: nanoseconds))
    }

    /// An answer that was kept was sent once more.
    static func replayed() { repeated.increment() }

    static func refused(_ code: FailureCode, route: String) {
        failed[code]?[route]?.increment()
    }
}
