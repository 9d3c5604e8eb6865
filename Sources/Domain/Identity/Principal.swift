/// What a key may do. Stored as text; an unknown text in the database is ignored, so that a newer scope never widens an older gateway.
public enum Scope: String, Sendable, CaseIterable {
    case predict
    case read
    case billing
    case keys
    case webhooks
    case repository
    /// On a customer's key: administration of the tenant. On an admin key: everything on the admin listener.
    case admin
    /// Admin listener: models, routes, workers, cache, queue.
    case `operator`
    /// Admin listener: tiers and prices.
    case pricing
}

/// Who is calling: the key, its tenant and what decides about the request. A value copied from the snapshot at authentication, so that a
/// change of tier or price in mid-flight does not reach a request that has begun. An immutable object rather than a structure, because every
/// stage of a request hands it on: one reference count instead of one for each of its parts.
public final class Principal: Sendable {
    public let tenantID: TenantID
    public let keyID: KeyID
    public let userID: UserID?
    public let scopes: Set<Scope>
    /// Models that the key may call; `nil` means all that the tenant may see.
    public let allowedModels: Set<String>?
    public let environment: APIKey.Environment
    /// The price version in force for the tenant when the key was read. What is charged asks ``tierVersionID(at:)``.
    public let tierVersionID: TierVersionID
    /// Where the price version changes or has just changed; `nil` for nearly all.
    public let tierEdge: TierEdge?
    /// The quotas and the zone that cuts their periods.
    public let terms: QuotaTerms
    /// Whether the key may call models; kept, because every request asks.
    public let mayPredict: Bool
    /// `nil` where neither the tenant nor the key has a rate limit.
    public let rateLimits: RateLimits?
    public let retention: Retention
    /// What is larger is kept as its digest.
    public let retentionBytes: Int
    /// Grows each time when the tenant lets us keep less than before.
    public let retentionGeneration: Int32
    /// Which receipt an answer carries where the request says nothing.
    public let receipts: ReceiptForm

    public var quotas: [Quota] { terms.quotas }
    public var timeZone: String { terms.timeZone }

    public init(
        tenantID: TenantID, keyID: KeyID, userID: UserID?, scopes: Set<Scope>, allowedModels: Set<String>?,
        environment: APIKey.Environment, tierVersionID: TierVersionID, quotas: [Quota],
        rateLimits: RateLimits? = nil, timeZone: String, retention: Retention, retentionBytes: Int = 1_048_576,
        retentionGeneration: Int32 = 0, receipts: ReceiptForm = .none, tierEdge: TierEdge? = nil
    ) {
        self.receipts = receipts
        self.tierEdge = tierEdge
        self.tenantID = tenantID
        self.keyID = keyID
        self.userID = userID
        self.scopes = scopes
        self.allowedModels = allowedModels
        self.environment = environment
        self.tierVersionID = tierVersionID
        terms = QuotaTerms(quotas: quotas, timeZone: timeZone)
        mayPredict = scopes.contains(.predict)
        self.rateLimits = rateLimits
        self.retention = retention
        self.retentionBytes = retentionBytes
        self.retentionGeneration = retentionGeneration
    }

    /// The price version of what arrives at an instant.
    public func tierVersionID(at instant: Timestamp) -> TierVersionID {
        guard let tierEdge else { return tierVersionID }
        return instant < tierEdge.at ? tierEdge.before : tierEdge.after
    }
}

/// An instant at which a tenant goes from one price version to another. A gateway knows it ahead, so that neither the job that makes the
/// change nor the way of the news decides which price a request has.
public struct TierEdge: Hashable, Sendable {
    public let at: Timestamp
    public let before: TierVersionID
    public let after: TierVersionID

    public init(at: Timestamp, before: TierVersionID, after: TierVersionID) {
        self.at = at
        self.before = before
        self.after = after
    }
}

/// Who administrates: an admin key of the operator, which belongs to no tenant.
public struct AdminPrincipal: Sendable {
    public let keyID: KeyID
    public let publicID: APIKey.PublicID
    public let scopes: Set<Scope>

    public init(keyID: KeyID, publicID: APIKey.PublicID, scopes: Set<Scope>) {
        self.keyID = keyID
        self.publicID = publicID
        self.scopes = scopes
    }
}

/// A key as the gateway keeps it in memory: the digest to compare and everything that is decided by it.
public struct KeyRecord: Sendable {
    public enum TenantState: Hashable, Sendable {
        case active
        case suspended
        /// No tier is in force, so nothing could be priced.
        case unsubscribed
        /// Prepaid, and nothing is left: it reads, and calls no model. With the balance that was found, if it is known.
        case exhausted(PrepaidBalance?)
    }

    public enum Holder: Sendable {
        case customer(Principal, TenantState)
        case admin(AdminPrincipal)
    }

    public let publicID: APIKey.PublicID
    /// HMAC-SHA-256 of the whole key under the server's pepper, 32 bytes.
    public let digest: [UInt8]
    public let expiresAt: Timestamp?
    public let revokedAt: Timestamp?
    public let holder: Holder

    public init(
        publicID: APIKey.PublicID, digest: [UInt8], expiresAt: Timestamp?, revokedAt: Timestamp?, holder: Holder
    ) {
        self.publicID = publicID
        self.digest = digest
        self.expiresAt = expiresAt
        self.revokedAt = revokedAt
        self.holder = holder
    }
}
