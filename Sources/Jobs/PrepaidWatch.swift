public import Billing
internal import Domain
public import Logging
internal import Metrics
public import ServiceLifecycle

/// Finds prepaid tenants whose balance is used up, and those that have topped up, within seconds.
public enum PrepaidWatch {
    public static func job(_ watching: PrepaidWatching, logger: Logger) -> any Service {
        let changes = Counter(label: "weir_prepaid_changes_total")
        return Recurring("prepaid", everyMilliseconds: 2_000, logger: logger) {
            changes.increment(by: Int64(try await watching.look()))
        }
    }
}
