import Jobs
import Logging
import ServiceLifecycle

/// The admin listener.
enum AdminComposition {
    static var routes: [String] { [] }

    static func make(
        settings: Settings, pools: DatabasePools, parts: ServerParts, metrics: PrometheusRegistry, logger: Logger
    ) async throws -> any Service {
        Recurring("admin", everyMilliseconds: 60_000, logger: logger) {}
    }
}
