public import Billing
internal import Domain
public import Logging
internal import Metrics
public import ServiceLifecycle

/// Issues the invoices of the month that is over, once a minute: what stands already is left alone, on any number of processes.
public enum InvoiceRun {
    public static func job(_ issuing: InvoiceIssuing, logger: Logger) -> any Service {
        let finalised = Counter(label: "weir_invoices_finalised_total")
        let refused = Gauge(label: "weir_invoices_refused")
        return Recurring("invoices", everyMilliseconds: 60_000, logger: logger) {
            let outcome = try await issuing.run(by: .system)
            finalised.increment(by: Int64(outcome.finalised))
            refused.record(outcome.refused.count)
            for one in outcome.refused {
                logger.error(
                    "an invoice cannot be issued",
                    metadata: ["tenant_id": "\(one.tenantID)", "detail": "\(one.detail)"])
            }
        }
    }
}
