public import Billing
internal import Domain
public import Logging
internal import Metrics
public import ServiceLifecycle

/// Finds prepaid tenants whose balance is used up, and those that have topped up, within seconds.
public enum PrepaidWatch {
    public static func job(_ watching: PrepaidWatching, logger: Logger) -> any Service {
        let changes = Counter(label: "weir_prepaid_changes_total")
        let looks = Counter(label: "weir_prepaid_looks_total")
        let refused = Counter(label: "weir_prepaid_look_failures_total", dimensions: [("cause", "refused")])
        let unavailable = Counter(label: "weir_prepaid_look_failures_total", dimensions: [("cause", "unavailable")])
        return Recurring("prepaid", everyMilliseconds: 2_000, logger: logger) {
            let outcome = try await watching.look()
            changes.increment(by: Int64(outcome.changed))
            looks.increment(by: Int64(outcome.lookedAt))
            for failed in outcome.failed {
                (failed.isUnavailable ? unavailable : refused).increment()
                logger.warning(
                    "a prepaid balance could not be worked out; the tenant stays as it was",
                    metadata: ["tenant_id": "\(failed.tenantID)", "cause": "\(failed.cause)"])
            }
        }
    }
}
