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
        case listAudit
        case exportAudit
        case verifyLedger
        case rotateSigningKey
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
        Entry(.rebuildUsage, "POST", "/admin/v1/usage/rebuild", .admin),
        Entry(.listAudit, "GET", "/admin/v1/audit", .admin, paging.union(["tenant_id", "action"])),
        Entry(.exportAudit, "GET", "/admin/v1/audit/export", .admin),
        Entry(.verifyLedger, "GET", "/admin/v1/ledger/verify", .admin, ["tenant", "after", "limit"]),
        Entry(.rotateSigningKey, "POST", "/admin/v1/signing-keys/rotate", .admin),
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
