internal import Domain
internal import Metrics

/// Counts what the data plane answers. Labels are codes and routes that we name, never anything that a caller sent.
enum RequestMetrics {
    private static let durations = bySurface {
        Timer(label: "weir_request_duration_seconds", dimensions: [("route", $0)])
    }
    private static let succeeded = bySurface {
        Counter(label: "weir_requests_total", dimensions: [("route", $0), ("code", "ok")])
    }
    private static let repeated = bySurface {
        Counter(label: "weir_requests_total", dimensions: [("route", $0), ("code", "replayed")])
    }
    private static let accepted = bySurface {
        Counter(label: "weir_requests_total", dimensions: [("route", $0), ("code", "queued")])
    }
    private static let failed: [FailureCode: [String: Counter]] = Dictionary(
        uniqueKeysWithValues: FailureCode.allCases.map { code in
            (
                code,
                Dictionary(
                    uniqueKeysWithValues: (Surface.allCases.map(\.operation) + ["guard", "control"]).map { route in
                        (
                            route,
                            Counter(
                                label: "weir_requests_total", dimensions: [("route", route), ("code", code.rawValue)])
                        )
                    })
            )
        })

    /// One for each surface, in their order.
    private static func bySurface<Metric>(_ make: (String) -> Metric) -> [Metric] {
        Surface.allCases.map { make($0.operation) }
    }

    static func answered(_ surface: Surface, nanoseconds: UInt64) {
        succeeded[Int(surface.rawValue)].increment()
        durations[Int(surface.rawValue)].recordNanoseconds(Int64(clamping: nanoseconds))
    }

    /// An answer that was kept was sent once more.
    static func replayed(_ surface: Surface) { repeated[Int(surface.rawValue)].increment() }

    /// A job was queued.
    static func queued(_ surface: Surface) { accepted[Int(surface.rawValue)].increment() }

    static func refused(_ code: FailureCode, route: String) {
        failed[code]?[route]?.increment()
    }
}
