/// Every route of the public listener: the one list that the router, the 405 answers and the test against `openapi/weir.yaml` share.
public struct RouteCatalog: Sendable {
    public enum Access: Sendable, Equatable {
        case open
        /// A customer's key with this scope; empty for any key.
        case key(String)
        /// Runs through the pipeline and is metered; served by the data plane, never by the router.
        case metered
    }

    public struct Entry: Sendable {
        public let method: String
        /// As in OpenAPI, parameters in braces.
        public let path: String
        public let access: Access
    }

    public static let publicRoutes: [Entry] = [
        Entry(method: "GET", path: "/", access: .open),
        Entry(method: "GET", path: "/health", access: .open),
        Entry(method: "GET", path: "/healthz", access: .open),
        Entry(method: "GET", path: "/readyz", access: .open),
        Entry(method: "GET", path: "/openapi.yaml", access: .open),
        Entry(method: "POST", path: "/predict", access: .metered),
        Entry(method: "POST", path: "/predict/", access: .metered),
        Entry(method: "POST", path: "/v1/chat/completions", access: .metered),
        Entry(method: "POST", path: "/v1/completions", access: .metered),
        Entry(method: "POST", path: "/v1/embeddings", access: .metered),
        Entry(method: "GET", path: "/v1/models", access: .key("")),
        Entry(method: "GET", path: "/v1/models/{id}", access: .key("")),
        Entry(method: "GET", path: "/v2", access: .open),
        Entry(method: "GET", path: "/v2/health/live", access: .open),
        Entry(method: "GET", path: "/v2/health/ready", access: .open),
        Entry(method: "GET", path: "/v2/models/stats", access: .key("")),
        Entry(method: "GET", path: "/v2/models/{model}", access: .key("")),
        Entry(method: "GET", path: "/v2/models/{model}/ready", access: .key("")),
        Entry(method: "GET", path: "/v2/models/{model}/stats", access: .key("")),
        Entry(method: "POST", path: "/v2/models/{model}/infer", access: .metered),
        Entry(method: "POST", path: "/v2/models/{model}/generate", access: .metered),
        Entry(method: "POST", path: "/v2/models/{model}/generate_stream", access: .metered),
        Entry(method: "GET", path: "/v2/models/{model}/versions/{version}", access: .key("")),
        Entry(method: "GET", path: "/v2/models/{model}/versions/{version}/ready", access: .key("")),
        Entry(method: "GET", path: "/v2/models/{model}/versions/{version}/stats", access: .key("")),
        Entry(method: "POST", path: "/v2/models/{model}/versions/{version}/infer", access: .metered),
        Entry(method: "POST", path: "/v2/models/{model}/versions/{version}/generate", access: .metered),
        Entry(method: "POST", path: "/v2/models/{model}/versions/{version}/generate_stream", access: .metered),
        Entry(method: "GET", path: "/v2/repository/index", access: .key("")),
        Entry(method: "POST", path: "/v2/repository/index", access: .key("")),
        Entry(method: "POST", path: "/predict/async", access: .metered),
        Entry(method: "POST", path: "/predict/async/", access: .metered),
        Entry(method: "POST", path: "/generate", access: .metered),
        Entry(method: "GET", path: "/status/{id}", access: .key("read")),
        Entry(method: "GET", path: "/api/v1/jobs/{id}", access: .key("read")),
        Entry(method: "GET", path: "/api/v1/jobs/{id}/result", access: .key("read")),
        Entry(method: "DELETE", path: "/api/v1/jobs/{id}", access: .key("predict")),
        Entry(method: "GET", path: "/api/v1/requests", access: .key("read")),
        Entry(method: "GET", path: "/api/v1/requests/{id}", access: .key("read")),
        Entry(method: "GET", path: "/api/v1/requests/{id}/result", access: .key("read")),
        Entry(method: "GET", path: "/api/v1/requests/{id}/explain", access: .key("read")),
        Entry(method: "GET", path: "/api/v1/quota", access: .key("")),
        Entry(method: "POST", path: "/api/v1/quote", access: .key("")),
        Entry(method: "GET", path: "/api/v1/usage", access: .key("billing")),
        Entry(method: "GET", path: "/api/v1/tiers", access: .key("billing")),
        Entry(method: "GET", path: "/api/v1/tiers/analysis", access: .key("billing")),
        Entry(method: "GET", path: "/api/v1/usage/export", access: .key("billing")),
        Entry(method: "GET", path: "/api/v1/usage/summary", access: .key("billing")),
        Entry(method: "GET", path: "/v1/organization/usage/completions", access: .key("read")),
        Entry(method: "GET", path: "/v1/organization/costs", access: .key("read")),
        Entry(method: "GET", path: "/api/v1/subscription", access: .key("billing")),
        Entry(method: "GET", path: "/api/v1/credits", access: .key("billing")),
        Entry(method: "GET", path: "/api/v1/invoices", access: .key("billing")),
        Entry(method: "GET", path: "/api/v1/invoices/{id}", access: .key("billing")),
        Entry(method: "GET", path: "/api/v1/invoices/{id}.html", access: .key("billing")),
        Entry(method: "GET", path: "/api/v1/invoices/{id}.pdf", access: .key("billing")),
        Entry(method: "GET", path: "/api/v1/invoices/{id}.csv", access: .key("billing")),
        Entry(method: "GET", path: "/api/v1/invoices/{id}/lines/{line}/requests", access: .key("billing")),
        Entry(method: "GET", path: "/.well-known/weir-keys", access: .open),
        Entry(method: "GET", path: "/api/v1/ledger/head", access: .key("billing")),
        Entry(method: "GET", path: "/api/v1/ledger/entries", access: .key("billing")),
        Entry(method: "GET", path: "/api/v1/ledger/proofs/{request}", access: .key("billing")),
        Entry(method: "GET", path: "/api/v1/audit", access: .key("admin")),
        Entry(method: "POST", path: "/v1/files", access: .key("predict")),
        Entry(method: "GET", path: "/v1/files", access: .key("read")),
        Entry(method: "GET", path: "/v1/files/{id}", access: .key("read")),
        Entry(method: "DELETE", path: "/v1/files/{id}", access: .key("predict")),
        Entry(method: "GET", path: "/v1/files/{id}/content", access: .key("read")),
        Entry(method: "POST", path: "/v1/batches", access: .key("predict")),
        Entry(method: "GET", path: "/v1/batches", access: .key("read")),
        Entry(method: "GET", path: "/v1/batches/{id}", access: .key("read")),
        Entry(method: "POST", path: "/v1/batches/{id}/cancel", access: .key("predict")),
        Entry(method: "GET", path: "/api/v1/webhooks", access: .key("webhooks")),
        Entry(method: "POST", path: "/api/v1/webhooks", access: .key("webhooks")),
        Entry(method: "POST", path: "/api/v1/webhooks/deliveries/{id}/retry", access: .key("webhooks")),
        Entry(method: "GET", path: "/api/v1/webhooks/{id}", access: .key("webhooks")),
        Entry(method: "DELETE", path: "/api/v1/webhooks/{id}", access: .key("webhooks")),
        Entry(method: "GET", path: "/api/v1/webhooks/{id}/deliveries", access: .key("webhooks")),
        Entry(method: "POST", path: "/api/v1/webhooks/{id}/rotate", access: .key("webhooks")),
        Entry(method: "POST", path: "/api/v1/webhooks/{id}/enable", access: .key("webhooks")),
    ]

    /// The methods that exist for a path, for `Allow`.
    static func methods(for path: String) -> [String] {
        let parts = path.split(separator: "/", omittingEmptySubsequences: true)
        var methods: [String] = []
        for entry in publicRoutes {
            let pattern = entry.path.split(separator: "/", omittingEmptySubsequences: true)
            guard pattern.count == parts.count,
                zip(pattern, parts).allSatisfy({ $0 == $1 || $0.hasPrefix("{") })
            else { continue }
            if !methods.contains(entry.method) { methods.append(entry.method) }
        }
        if methods.contains("GET") { methods.append("HEAD") }
        return methods
    }
}
