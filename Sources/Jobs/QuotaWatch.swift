internal import Domain
internal import Logging
internal import Metrics

/// Raises an event when use of a quota has crossed a threshold: once for each quota, period and threshold, on any number of processes.
///
/// A process that dies between looking and raising raises nothing twice: another look finds what is still due.
enum QuotaWatch {
    static func job(_ store: any Housekeeping, logger: Logger) -> Recurring {
        Recurring("quota_events", everyMilliseconds: 1_000, logger: logger) {
            let standings = try await store.lookAtQuotas()
            guard !standings.isEmpty else { return }
            for event in try await store.raiseEvents(standings) { announce(event, logger) }
        }
    }

    private static func announce(_ event: QuotaEvent, _ logger: Logger) {
        Counter(
            label: "weir_quota_events_total",
            dimensions: [("mode", event.mode.rawValue), ("threshold", bucket(of: event.thresholdPercent))]
        ).increment()
        logger.notice(
            "a quota has crossed a threshold",
            metadata: [
                "event_id": "\(event.id)", "tenant_id": "\(event.tenantID)", "quota_id": "\(event.quotaID)",
                "period_start": "\(event.periodStart)", "threshold_percent": "\(event.thresholdPercent)",
                "mode": "\(event.mode.rawValue)", "used": "\(event.used)", "limit": "\(event.allowed)",
            ])
    }

    /// Customers choose the percentages; the metric has a few.
    static func bucket(of percent: Int16) -> String {
        switch percent {
        case ..<50: "below_50"
        case ..<80: "50_to_79"
        case ..<100: "80_to_99"
        case 100: "100"
        default: "above_100"
        }
    }
}
