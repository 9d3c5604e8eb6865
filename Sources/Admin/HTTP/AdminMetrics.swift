internal import Domain
internal import Metrics

/// Counts what the admin listener answers. Labels are operations and codes, never anything that a caller sent.
enum AdminMetrics {
    private static let succeeded = Dictionary(
        uniqueKeysWithValues: AdminRouteCatalog.Operation.allCases.map { operation in
            (
                operation,
                Counter(
                    label: "weir_admin_requests_total", dimensions: [("operation", operation.rawValue), ("code", "ok")])
            )
        })
    private static let refused = Dictionary(
        uniqueKeysWithValues: FailureCode.allCases.map { code in
            (
                code,
                Counter(
                    label: "weir_admin_requests_total", dimensions: [("operation", "refused"), ("code", code.rawValue)])
            )
        })

    static func answered(_ operation: AdminRouteCatalog.Operation) { succeeded[operation]?.increment() }

    static func refused(_ code: FailureCode) { refused[code]?.increment() }
}
