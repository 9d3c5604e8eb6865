import Foundation

// The shapes of openapi/weir-admin.yaml as far as the command line shows them. Unknown fields are ignored, so that an
// older command line works with a newer server.

/// One page of a list.
struct AdminPage<Item: Decodable & Sendable>: Decodable, Sendable {
    let data: [Item]
    let lastId: String?
    let hasMore: Bool
}

struct AdminTenant: Decodable, Sendable {
    let id: String
    let name: String
    let timeZone: String
    let state: String
    /// Both `nil` for a tenant without a subscription.
    let tier: String?
    let priceVersion: String?
    let rateLimits: [AdminRateLimit]?
    /// These are `nil` from a server of before.
    let retention: String?
    let resultTtlSeconds: Int64?
    let retentionMaxBytes: Int64?
    let erasing: Bool?
    let createdAt: String
}

struct AdminKey: Decodable, Sendable {
    let id: String
    /// The twelve characters after the environment; where they are `id` itself, nothing.
    let publicId: String?
    /// `nil` for an admin key.
    let tenantId: String?
    let name: String?
    let environment: String
    let lastFour: String
    let scopes: [String]
    let allowedModels: [String]?
    let createdAt: String
    let expiresAt: String?
    let revokedAt: String?
    let rateLimits: [AdminRateLimit]?
    /// The whole key; only in the answer that made it.
    let key: String?
}

struct AdminPrice: Codable, Sendable, Equatable {
    let meter: String
    let model: String
    /// A plain decimal; a string, because a JSON number would pass through a floating-point one.
    /// `nil` where bands have the prices.
    let unitPrice: String?
    /// Left out for a price that is the same for each unit.
    var priceModel: String?
}

struct AdminQuota: Codable, Sendable, Equatable {
    let unit: String
    let frequency: String
    let amount: Int64
    let mode: String
    /// Left out where the server decides.
    var alignment: String?
    /// Left out where the server decides.
    var thresholdsPercent: [Int16]?

    /// The short form, as on the command line.
    var text: String {
        "\(unit)/\(frequency)=\(amount):\(mode)" + (alignment.map { ":\($0)" } ?? "")
            + (thresholdsPercent.map { ":" + $0.map(String.init).joined(separator: ",") } ?? "")
    }
}

struct AdminRateLimit: Codable, Sendable, Equatable {
    /// `nil` in what is sent for a key, whose limits are all its own.
    let scope: String?
    let unit: String
    /// `nil` lifts the limit.
    let amount: Int64?
    let burst: Int64?

    private enum CodingKeys: String, CodingKey { case scope, unit, amount, burst }

    func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encodeIfPresent(scope, forKey: .scope)
        try container.encode(unit, forKey: .unit)
        // Said, not left out: leaving it out means nothing.
        try container.encode(amount, forKey: .amount)
        try container.encodeIfPresent(burst, forKey: .burst)
    }

    /// The short form, as on the command line.
    var text: String {
        "\(scope == "key" ? "key/" : "")\(unit)=\(amount.map(String.init) ?? "none")\(burst.map { ":\($0)" } ?? "")"
    }
}

struct AdminQuotaRow: Decodable, Sendable {
    let id: String
    let tenantId: String
    let userId: String?
    let keyId: String?
    let level: String
    let unit: String
    let frequency: String
    let amount: Int64
    let mode: String
    let alignment: String
    let origin: String
    let raised: Int64
    /// `nil` from a server that knows no thresholds.
    let thresholdsPercent: [Int16]?
}

struct AdminQuotaEvent: Decodable, Sendable {
    let id: String
    let tenantId: String
    let policy: String
    let mode: String
    let thresholdPercent: Int
    let used: Int64
    let limit: Int64
    let periodStart: String
    let crossedAt: String?
}

struct AdminTier: Decodable, Sendable {
    struct Version: Decodable, Sendable {
        let number: Int
        let currency: String
        /// `nil` from a server that has no cache.
        let cacheHitTokenPercent: Int64?
        /// `nil` from a server that keeps results for ever.
        let resultTtlSeconds: Int64?
        let prices: [AdminPrice]
        let quotas: [AdminQuota]
        /// `nil` from a server that knows no rate limits.
        let rateLimits: [AdminRateLimit]?
    }

    let code: String
    let name: String
    let version: Version
}

/// A version of a tier.
struct AdminTierVersion: Decodable, Sendable {
    let tier: String
    let number: Int
    let state: String
    let currency: String
    let baseFeeMicros: Int64
    let effectiveAt: String?
    let publishedAt: String?
    let prices: [AdminPrice]
    let quotas: [AdminQuota]
}

struct AdminModel: Codable, Sendable {
    let name: String
    let version: String
    let featureCount: Int?
    let fixedTokensPerRequest: Int64
    let maximumOutputTokens: Int64
    let tokenCounting: String
    let bytesPerToken: Int64
    /// `nil` from a server that does not say.
    let delivery: AdminDelivery?
    /// `nil` from a server that has no cache.
    let cache: AdminCachePolicy?
}

/// How a model's replicas are called: what is set, by name.
struct AdminDelivery: Codable, Sendable, Equatable {
    var balancing: String?
    var safeToRepeat: Bool?
    var probePath: String?
    var replicaConcurrency: Int64?
    var queueDepth: Int64?
    var queueWaitMs: Int64?
    var connectMs: Int64?
    var firstByteMs: Int64?
    var totalMs: Int64?
    var attempts: Int64?
    var hedgeAfterMs: Int64?
    var retryPercent: Int64?
    var breakerFailures: Int64?
    var breakerPercent: Int64?
    var breakerOpenMs: Int64?
    var slowStartMs: Int64?
    var probeIntervalMs: Int64?
    var probeTimeoutMs: Int64?
    var streamLeave: String?
    var streamGapMs: Int64?
    var streamTotalMs: Int64?
}

struct AdminReplicaState: Decodable, Sendable {
    let model: String
    let address: String
    let state: String
    let outstanding: Int64
    let latencyMicroseconds: Int64
    let sharePercent: Int64
    let consecutiveFailures: Int64
    let ejectedUntil: String?
}

struct AdminReplicaStates: Decodable, Sendable {
    let data: [AdminReplicaState]
}

struct AdminModelRouting: Decodable, Sendable {
    struct Version: Decodable, Sendable {
        let version: String
        let state: String
        let weight: Int?
        let featureCount: Int?
        let tokenCounting: String?
    }

    struct Mirror: Decodable, Sendable {
        let model: String?
        let version: String?
        let share: Int
    }

    let model: String
    let defaultVersion: String?
    let stickyBy: String
    let mirror: Mirror?
    let versions: [Version]
    let aliases: [AdminAlias]
}

struct AdminAlias: Decodable, Sendable {
    let alias: String
    let model: String
    let version: String?
}

struct AdminWorker: Decodable, Sendable {
    let id: String
    let model: String
    let version: String
    let address: String
    let `protocol`: String
    let weight: Int
    let ttlSeconds: Int
    let heartbeatSeconds: Int
    let state: String
    let expiresAt: String
}

struct AdminCachePolicy: Codable, Sendable {
    let enabled: Bool
    let ttlSeconds: Int64?
    let maximumTtlSeconds: Int64?
    let sameness: String
    let levels: [String]
    let generations: String

    /// On one line.
    var text: String {
        guard enabled else { return "off" }
        let ttl = ttlSeconds.map { " \($0)s" } ?? ""
        return levels.joined(separator: "+") + ttl + " by " + sameness
    }
}

struct AdminCacheStatistics: Decodable, Sendable {
    struct Row: Decodable, Sendable {
        let tenantId: String
        let model: String
        let hits: Int64
        let collapsed: Int64
        let misses: Int64
        let stores: Int64
        let storedBytes: Int64
        let evictions: Int64
        let tableEntries: Int64
    }

    let data: [Row]
}

struct AdminCacheClearing: Decodable, Sendable {
    let clearing: Int64
}

struct AdminReplica: Codable, Sendable, Equatable {
    let address: String
    let `protocol`: String
    let weight: Int?
    let version: String?
}

struct AdminRoute: Decodable, Sendable {
    let model: String
    let replicas: [AdminReplica]
    let updatedAt: String
}

struct AdminUsageRow: Decodable, Sendable {
    let tenantId: String?
    let day: String?
    let model: String?
    /// `nil` also from a server of before.
    let userId: String?
    let keyId: String?
    let currency: String?
    let requests: Int64
    let inputTokens: Int64
    let cachedInputTokens: Int64
    let outputTokens: Int64
    let costMicros: Int64
}

struct AdminUsageReport: Decodable, Sendable {
    let start: String
    let end: String
    let currency: String?
    let data: [AdminUsageRow]
    /// Of one tenant.
    let total: AdminUsageRow?
    /// Of all tenants, one for each currency.
    let totals: [AdminUsageRow]?
    let hasMore: Bool
}

struct AdminModelUsage: Decodable, Sendable {
    struct Bucket: Decodable, Sendable {
        let start: String
        let requests: Int64
        let tokens: Int64
        let errors: Int64
        let cacheHits: Int64
        let busyMs: Int64
        let queueDepth: Int64
    }

    let model: String
    let desiredReplicas: Int64
    let data: [Bucket]
}

struct AdminRebuild: Decodable, Sendable {
    let from: String
    let to: String
    let buckets: Int64
}

/// Micro-units as a plain decimal with six places.
enum MicrosText {
    static func decimal(_ micros: Int64) -> String {
        let magnitude = micros.magnitude
        let fraction = String(magnitude % 1_000_000)
        return (micros < 0 ? "-" : "") + "\(magnitude / 1_000_000)." + String(repeating: "0", count: 6 - fraction.count)
            + fraction
    }
}
