public import Domain

/// Every route of the admin listener: the one list that the router, the check of scopes, the 405 answers and the test
/// against `openapi/weir-admin.yaml` share.
public enum AdminRouteCatalog {
    /// What a route does; named as in OpenAPI.
    public enum Operation: String, Sendable, CaseIterable {
        case getMetrics
        case listTenants
        case createTenant
        case getTenant
        case changeTenant
        case listKeys
        case createKey
        case changeKey
        case revokeKey
        case listTiers
        case createTier
        case getTier
        case listTierVersions
        case draftTierVersion
        case getTierVersion
        case changeTierVersion
        case deleteTierVersion
        case publishTierVersion
        case retireTierVersion
        case replayTierVersion
        case listTierReplays
        case replayIssuedInvoices
        case analyseTiers
        case listQuotas
        case setQuota
        case raiseQuota
        case deleteQuota
        case listQuotaEvents
        case listModels
        case createModel
        case setDelivery
        case setModelCache
        case getCacheStatistics
        case clearCache
        case getQueue
        case listDeadJobs
        case retryDeadJob
        case getModelUsage
        case listRoutes
        case setRoute
        case deleteRoute
        case listReplicas
        case getModelRouting
        case changeModelRouting
        case setModelVersion
        case listAliases
        case setAlias
        case deleteAlias
        case listWorkers
        case registerWorker
        case renewWorker
        case removeWorker
        case getAllUsage
        case getTenantUsage
        case rebuildUsage
        case reportUsage
        case reportTopCustomers
        case reportRevenueByTier
        case reportErrors
        case reportLatency
        case reportForecast
        case listAudit
        case exportUsage
        case listExports
        case createExport
        case getExport
        case cancelExport
        case getExportManifest
        case getExportPart
        case runReconciliation
        case listReconciliations
        case getStripeCustomer
        case setStripeCustomer
        case listStripeDeliveries
        case retryStripeDelivery
        case postAdjustment
        case setPrepaid
        case getSubscription
        case changeSubscription
        case cancelSubscriptionChange
        case listInvoices
        case draftInvoice
        case runInvoices
        case getInvoice
        case getInvoicePage
        case getInvoicePDF
        case getInvoiceTable
        case finaliseInvoice
        case payInvoice
        case voidInvoice
        case creditInvoice
        case listIssuers
        case setIssuer
        case listCredits
        case grantCredit
        case revokeCredit
        case exportAudit
        case verifyLedger
        case rotateSigningKey
        case distrustSigningKey
    }

    public struct Entry: Sendable {
        public let operation: Operation
        public let method: String
        /// As in OpenAPI, parameters in braces.
        public let path: String
        /// One of them is needed. `admin`, which contains every other, is among them always.
        public let scopes: Set<Scope>
        /// The query parameters that there are.
        public let parameters: Set<String>

        init(_ operation: Operation, _ method: String, _ path: String, _ scope: Scope, _ parameters: Set<String> = []) {
            self.operation = operation
            self.method = method
            self.path = path
            scopes = [scope, .admin]
            self.parameters = parameters
        }
    }

    private static let paging: Set<String> = ["limit", "after", "before"]
    private static let reporting: Set<String> = ["start", "end", "group_by", "limit"]

    private static let page: Set<String> = ["limit", "page", "format"]
    private static let report = page.union(["start", "end", "time_zone"])

    public static let routes: [Entry] = [
        Entry(.getMetrics, "GET", "/metrics", .operator),
        Entry(.listTenants, "GET", "/admin/v1/tenants", .admin, paging),
        Entry(.createTenant, "POST", "/admin/v1/tenants", .admin),
        Entry(.getTenant, "GET", "/admin/v1/tenants/{id}", .admin),
        Entry(.changeTenant, "PATCH", "/admin/v1/tenants/{id}", .admin),
        Entry(.listKeys, "GET", "/admin/v1/tenants/{id}/keys", .admin, paging),
        Entry(.createKey, "POST", "/admin/v1/tenants/{id}/keys", .admin),
        Entry(.changeKey, "PATCH", "/admin/v1/keys/{key_id}", .admin),
        Entry(.revokeKey, "DELETE", "/admin/v1/keys/{key_id}", .admin),
        Entry(.listTiers, "GET", "/admin/v1/tiers", .pricing, paging),
        Entry(.createTier, "POST", "/admin/v1/tiers", .pricing),
        Entry(.getTier, "GET", "/admin/v1/tiers/{code}", .pricing),
        Entry(.listTierVersions, "GET", "/admin/v1/tiers/{code}/versions", .pricing, paging),
        Entry(.draftTierVersion, "POST", "/admin/v1/tiers/{code}/versions", .pricing),
        Entry(.getTierVersion, "GET", "/admin/v1/tiers/{code}/versions/{version}", .pricing),
        Entry(.changeTierVersion, "PATCH", "/admin/v1/tiers/{code}/versions/{version}", .pricing),
        Entry(.deleteTierVersion, "DELETE", "/admin/v1/tiers/{code}/versions/{version}", .pricing),
        Entry(.publishTierVersion, "POST", "/admin/v1/tiers/{code}/versions/{version}/publish", .pricing),
        Entry(.retireTierVersion, "POST", "/admin/v1/tiers/{code}/versions/{version}/retire", .pricing),
        Entry(.replayTierVersion, "POST", "/admin/v1/tiers/{code}/versions/{version}/replay", .pricing),
        Entry(.listTierReplays, "GET", "/admin/v1/tiers/{code}/versions/{version}/replays", .pricing, paging),
        Entry(.replayIssuedInvoices, "GET", "/admin/v1/tiers/replay", .pricing, ["tenant"]),
        Entry(.analyseTiers, "GET", "/admin/v1/tiers/analysis", .pricing, ["periods", "limit", "after"]),
        Entry(.listQuotas, "GET", "/admin/v1/tenants/{id}/quotas", .admin, paging),
        Entry(.setQuota, "PUT", "/admin/v1/tenants/{id}/quotas", .admin),
        Entry(.raiseQuota, "POST", "/admin/v1/quotas/{quota_id}/raise", .admin),
        Entry(.deleteQuota, "DELETE", "/admin/v1/quotas/{quota_id}", .admin),
        Entry(.listQuotaEvents, "GET", "/admin/v1/quotas/events", .admin, paging.union(["tenant"])),
        Entry(.listModels, "GET", "/admin/v1/models", .operator, paging),
        Entry(.createModel, "POST", "/admin/v1/models", .operator),
        Entry(.setDelivery, "PUT", "/admin/v1/models/{model}/delivery", .operator),
        Entry(.setModelCache, "PUT", "/admin/v1/models/{model}/cache", .operator),
        Entry(.getCacheStatistics, "GET", "/admin/v1/cache/stats", .operator, ["tenant_id", "model"]),
        Entry(.clearCache, "POST", "/admin/v1/cache/clear", .operator),
        Entry(.getQueue, "GET", "/admin/v1/queue", .operator),
        Entry(.listDeadJobs, "GET", "/admin/v1/queue/dead", .operator, ["limit", "after"]),
        Entry(.retryDeadJob, "POST", "/admin/v1/queue/dead/{id}/retry", .operator),
        Entry(.getModelUsage, "GET", "/admin/v1/models/{model}/usage", .operator, ["from", "to"]),
        Entry(.listRoutes, "GET", "/admin/v1/routes", .operator, paging),
        Entry(.setRoute, "PUT", "/admin/v1/routes/{model}", .operator),
        Entry(.deleteRoute, "DELETE", "/admin/v1/routes/{model}", .operator),
        Entry(.listReplicas, "GET", "/admin/v1/replicas", .operator),
        Entry(.getModelRouting, "GET", "/admin/v1/models/{model}/routing", .operator),
        Entry(.changeModelRouting, "PATCH", "/admin/v1/models/{model}/routing", .operator),
        Entry(.setModelVersion, "PUT", "/admin/v1/models/{model}/versions/{version}", .operator),
        Entry(.listAliases, "GET", "/admin/v1/aliases", .operator, paging),
        Entry(.setAlias, "PUT", "/admin/v1/aliases/{alias}", .operator),
        Entry(.deleteAlias, "DELETE", "/admin/v1/aliases/{alias}", .operator),
        Entry(.listWorkers, "GET", "/admin/v1/workers", .operator, paging),
        Entry(.registerWorker, "POST", "/admin/v1/workers", .operator),
        Entry(.renewWorker, "POST", "/admin/v1/workers/{worker_id}/heartbeat", .operator),
        Entry(.removeWorker, "DELETE", "/admin/v1/workers/{worker_id}", .operator),
        Entry(.getAllUsage, "GET", "/admin/v1/usage", .read, reporting),
        Entry(.getTenantUsage, "GET", "/admin/v1/tenants/{id}/usage", .read, reporting),
        Entry(.reportUsage, "GET", "/admin/v1/reports/usage", .read, report.union(["group_by"])),
        Entry(.reportTopCustomers, "GET", "/admin/v1/reports/top-customers", .read, report.union(["order_by"])),
        Entry(.reportRevenueByTier, "GET", "/admin/v1/reports/revenue-by-tier", .read, report),
        Entry(.reportErrors, "GET", "/admin/v1/reports/errors", .read, report),
        Entry(.reportLatency, "GET", "/admin/v1/reports/latency", .read, report),
        Entry(.reportForecast, "GET", "/admin/v1/reports/forecast", .read, page.union(["tenant_id"])),
        Entry(.rebuildUsage, "POST", "/admin/v1/usage/rebuild", .admin),
        Entry(
            .exportUsage, "GET", "/admin/v1/usage/export", .read, ["format", "start", "end", "granularity", "tenant"]),
        Entry(.listExports, "GET", "/admin/v1/exports", .read, paging),
        Entry(.createExport, "POST", "/admin/v1/exports", .admin),
        Entry(.getExport, "GET", "/admin/v1/exports/{id}", .read),
        Entry(.cancelExport, "POST", "/admin/v1/exports/{id}/cancel", .admin),
        Entry(.getExportManifest, "GET", "/admin/v1/exports/{id}/manifest", .read),
        Entry(.getExportPart, "GET", "/admin/v1/exports/{id}/parts/{part}", .read),
        Entry(.runReconciliation, "POST", "/admin/v1/reconcile", .admin),
        Entry(.listReconciliations, "GET", "/admin/v1/reconcile", .read, paging),
        Entry(.getStripeCustomer, "GET", "/admin/v1/tenants/{id}/stripe", .admin),
        Entry(.setStripeCustomer, "PUT", "/admin/v1/tenants/{id}/stripe", .admin),
        Entry(.listStripeDeliveries, "GET", "/admin/v1/stripe/deliveries", .read, ["limit", "after", "state"]),
        Entry(.retryStripeDelivery, "POST", "/admin/v1/stripe/deliveries/retry", .admin),
        Entry(.listAudit, "GET", "/admin/v1/audit", .admin, paging.union(["tenant_id", "action"])),
        Entry(.postAdjustment, "POST", "/admin/v1/adjustments", .admin),
        Entry(.setPrepaid, "PUT", "/admin/v1/tenants/{id}/prepaid", .admin),
        Entry(.getSubscription, "GET", "/admin/v1/subscriptions", .read, ["tenant"]),
        Entry(.changeSubscription, "POST", "/admin/v1/subscriptions", .admin),
        Entry(.cancelSubscriptionChange, "POST", "/admin/v1/subscriptions/cancel", .admin),
        Entry(.listInvoices, "GET", "/admin/v1/invoices", .read, paging.union(["tenant", "state"])),
        Entry(.draftInvoice, "POST", "/admin/v1/invoices", .admin),
        Entry(.runInvoices, "POST", "/admin/v1/invoices/run", .admin),
        Entry(.getInvoice, "GET", "/admin/v1/invoices/{id}", .read),
        Entry(.getInvoicePage, "GET", "/admin/v1/invoices/{id}.html", .read),
        Entry(.getInvoicePDF, "GET", "/admin/v1/invoices/{id}.pdf", .read),
        Entry(.getInvoiceTable, "GET", "/admin/v1/invoices/{id}.csv", .read),
        Entry(.finaliseInvoice, "POST", "/admin/v1/invoices/{id}/finalize", .admin),
        Entry(.payInvoice, "POST", "/admin/v1/invoices/{id}/pay", .admin),
        Entry(.voidInvoice, "POST", "/admin/v1/invoices/{id}/void", .admin),
        Entry(.creditInvoice, "POST", "/admin/v1/invoices/{id}/credit", .admin),
        Entry(.listIssuers, "GET", "/admin/v1/issuers", .read),
        Entry(.setIssuer, "PUT", "/admin/v1/issuers/{issuer}", .admin),
        Entry(.listCredits, "GET", "/admin/v1/credits", .read, paging.union(["tenant"])),
        Entry(.grantCredit, "POST", "/admin/v1/credits", .admin),
        Entry(.revokeCredit, "POST", "/admin/v1/credits/{id}/revoke", .admin),
        Entry(.exportAudit, "GET", "/admin/v1/audit/export", .admin),
        Entry(.verifyLedger, "GET", "/admin/v1/ledger/verify", .admin, ["tenant", "after", "limit"]),
        Entry(.rotateSigningKey, "POST", "/admin/v1/signing-keys/rotate", .admin),
        Entry(.distrustSigningKey, "POST", "/admin/v1/signing-keys/{id}/compromised", .admin),
    ]

    /// Changes of money: those that heed the header `Idempotency-Key`. Each is one transaction, and no answer of theirs has a secret.
    static let repeatable: Set<Operation> = [
        .grantCredit, .revokeCredit, .postAdjustment, .creditInvoice, .payInvoice, .voidInvoice, .changeSubscription,
        .cancelSubscriptionChange,
    ]

    /// The methods that exist for a path, for `Allow`.
    static func methods(for path: String) -> [String] {
        let parts = path.split(separator: "/", omittingEmptySubsequences: true)
        let matching = routes.filter { entry in
            let pattern = entry.path.split(separator: "/", omittingEmptySubsequences: true)
            return pattern.count == parts.count && zip(pattern, parts).allSatisfy { $0 == $1 || $0.hasPrefix("{") }
        }
        // A word is taken as itself before it is taken as somebody's id, as the router does.
        let literal = matching.filter { $0.path == path }
        return (literal.isEmpty ? matching : literal).map(\.method)
    }
}
