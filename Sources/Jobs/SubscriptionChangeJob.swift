public import Domain
public import Logging
internal import Metrics
public import ServiceLifecycle

/// Applies changes of tiers that are due, within about a second.
public enum SubscriptionChangeJob {
    public static func job(_ subscriptions: any SubscriptionAdministration, logger: Logger) -> any Service {
        let applied = Counter(label: "weir_subscription_changes_applied_total")
        let failed = Counter(label: "weir_subscription_changes_failed_total")
        return Recurring("subscription_changes", everyMilliseconds: 1_000, logger: logger) {
            // Bounded, so that a stop does not wait for all of them.
            for _ in 0..<1_000 {
                guard !Task.isCancelled, let due = try await subscriptions.applyDueChange() else { return }
                let change = due.change
                if let failure = due.failure {
                    failed.increment()
                    logger.warning(
                        "a change of tier could not be made",
                        metadata: [
                            "tenant_id": "\(change.tenantID)", "tier": "\(change.tierCode)", "cause": "\(failure)",
                        ])
                    continue
                }
                applied.increment()
                logger.notice(
                    "a change of tier was applied",
                    metadata: ["tenant_id": "\(change.tenantID)", "tier": "\(change.tierCode)"])
            }
        }
    }
}
