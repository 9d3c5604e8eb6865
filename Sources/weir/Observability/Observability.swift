import CoreMetrics
import Logging

/// Installs logging and metrics for the whole process.
enum Observability {
    /// Called once, before the first logger is made.
    /// - Parameter metrics: `nil` keeps no metrics.
    static func bootstrap(level: Logger.Level, metrics: PrometheusRegistry?) {
        LoggingSystem.bootstrap(
            { label, provider in JSONLogHandler(label: label, level: level, metadataProvider: provider) },
            metadataProvider: nil)
        if let metrics { MetricsSystem.bootstrap(metrics) }
    }
}
