/// Whether a tenant's keys are accepted.
public enum TenantState: String, Sendable, CaseIterable {
    case active
    case suspended
}

/// A tenant to be made.
public struct NewTenant: Hashable, Sendable {
    /// 1 to 200 characters.
    public let name: String
    /// An IANA zone that ``PeriodCalendar`` knows.
    public let timeZone: String
    public let state: TenantState
    public let retention: Retention
    public let tierCode: String
    /// What its subscription says otherwise than the tier; at most one for each scope and unit.
    public let rateLimits: [RateLimitRule]
    /// How long results are kept; `nil` leaves it to the tier.
    public let resultTTLSeconds: Int64?
    /// What is larger is kept as its digest.
    public let retentionBytes: Int64
    /// Which receipt an answer carries where the request says nothing.
    public let receipts: ReceiptForm

    public init(
        name: String, timeZone: String, state: TenantState, retention: Retention, tierCode: String,
        rateLimits: [RateLimitRule] = [], resultTTLSeconds: Int64? = nil, retentionBytes: Int64 = 1_048_576,
        receipts: ReceiptForm = .none
    ) {
        self.receipts = receipts
        self.resultTTLSeconds = resultTTLSeconds
        self.retentionBytes = retentionBytes
        self.rateLimits = rateLimits
        self.name = name
        self.timeZone = timeZone
        self.state = state
        self.retention = retention
        self.tierCode = tierCode
    }
}

/// What becomes of a tenant; `nil` leaves a thing as it is.
///
/// Another time zone cuts other periods from then on: what was used in the old ones stays counted there.
public struct TenantChange: Hashable, Sendable {
    public let name: String?
    public let timeZone: String?
    public let state: TenantState?
    public let retention: Retention?
    public let tierCode: String?
    /// Replaces what the subscription said otherwise than its tier. Another tier without these ends what was said.
    public let rateLimits: [RateLimitRule]?
    /// How long results are kept; 0 leaves it to the tier from then on.
    public let resultTTLSeconds: Int64?
    public let retentionBytes: Int64?
    public let receipts: ReceiptForm?

    public init(
        name: String? = nil, timeZone: String? = nil, state: TenantState? = nil, retention: Retention? = nil,
        tierCode: String? = nil, rateLimits: [RateLimitRule]? = nil, resultTTLSeconds: Int64? = nil,
        retentionBytes: Int64? = nil, receipts: ReceiptForm? = nil
    ) {
        self.receipts = receipts
        self.resultTTLSeconds = resultTTLSeconds
        self.retentionBytes = retentionBytes
        self.rateLimits = rateLimits
        self.name = name
        self.timeZone = timeZone
        self.state = state
        self.retention = retention
        self.tierCode = tierCode
    }
}

public struct TenantRow: Hashable, Sendable {
    public let id: TenantID
    public let name: String
    public let timeZone: String
    public let state: TenantState
    public let retention: Retention
    /// The tier and its version in force; both `nil` for a tenant without a subscription.
    public let tierCode: String?
    public let tierVersionID: TierVersionID?
    public let createdAt: Timestamp
    /// What the subscription says otherwise than its tier.
    public let rateLimits: [RateLimitRule]
    /// How long results are kept; `nil` where the tier says.
    public let resultTTLSeconds: Int64?
    /// What is larger is kept as its digest.
    public let retentionBytes: Int64
    /// Whether something is left that a stricter policy wants erased.
    public let isErasing: Bool
    /// Which receipt an answer carries where the request says nothing.
    public let receipts: ReceiptForm

    public init(
        id: TenantID, name: String, timeZone: String, state: TenantState, retention: Retention, tierCode: String?,
        tierVersionID: TierVersionID?, createdAt: Timestamp, rateLimits: [RateLimitRule] = [],
        resultTTLSeconds: Int64? = nil, retentionBytes: Int64 = 1_048_576, isErasing: Bool = false,
        receipts: ReceiptForm = .none
    ) {
        self.receipts = receipts
        self.resultTTLSeconds = resultTTLSeconds
        self.retentionBytes = retentionBytes
        self.isErasing = isErasing
        self.rateLimits = rateLimits
        self.id = id
        self.name = name
        self.timeZone = timeZone
        self.state = state
        self.retention = retention
        self.tierCode = tierCode
        self.tierVersionID = tierVersionID
        self.createdAt = createdAt
    }
}

/// A customer's key to be made.
public struct NewKey: Hashable, Sendable {
    public let tenantID: TenantID
    /// May be empty.
    public let name: String
    /// `live` or `test`; an admin key belongs to no tenant.
    public let environment: APIKey.Environment
    public let scopes: Set<Scope>
    /// `nil` means all models.
    public let allowedModels: Set<String>?
    public let expiresAt: Timestamp?
    /// The key's own limits, of the scope `key`; at most one for each unit.
    public let rateLimits: [RateLimitRule]

    public init(
        tenantID: TenantID, name: String, environment: APIKey.Environment, scopes: Set<Scope>,
        allowedModels: Set<String>?,
        expiresAt: Timestamp?, rateLimits: [RateLimitRule] = []
    ) {
        self.rateLimits = rateLimits
        self.tenantID = tenantID
        self.name = name
        self.environment = environment
        self.scopes = scopes
        self.allowedModels = allowedModels
        self.expiresAt = expiresAt
    }
}

/// What becomes of a key.
public struct KeyChange: Hashable, Sendable {
    /// Replaces the key's own limits.
    public let rateLimits: [RateLimitRule]

    public init(rateLimits: [RateLimitRule]) { self.rateLimits = rateLimits }
}

/// A key that is there, by either of its names.
public enum KeyReference: Hashable, Sendable {
    case id(KeyID)
    case publicID(APIKey.PublicID)
}

/// What may be shown of a key.
public struct KeyRow: Hashable, Sendable {
    public let id: KeyID
    public let publicID: String
    /// `nil` for an admin key.
    public let tenantID: TenantID?
    public let name: String
    public let environment: APIKey.Environment
    public let lastFour: String
    public let scopes: Set<Scope>
    public let allowedModels: Set<String>?
    public let createdAt: Timestamp
    public let expiresAt: Timestamp?
    public let revokedAt: Timestamp?
    /// The key's own limits.
    public let rateLimits: [RateLimitRule]

    public init(
        id: KeyID, publicID: String, tenantID: TenantID?, name: String, environment: APIKey.Environment,
        lastFour: String,
        scopes: Set<Scope>, allowedModels: Set<String>?, createdAt: Timestamp, expiresAt: Timestamp?,
        revokedAt: Timestamp?, rateLimits: [RateLimitRule] = []
    ) {
        self.rateLimits = rateLimits
        self.id = id
        self.publicID = publicID
        self.tenantID = tenantID
        self.name = name
        self.environment = environment
        self.lastFour = lastFour
        self.scopes = scopes
        self.allowedModels = allowedModels
        self.createdAt = createdAt
        self.expiresAt = expiresAt
        self.revokedAt = revokedAt
    }
}

/// A key at the one time that it is known whole.
public struct CreatedKey: Sendable {
    public let row: KeyRow
    public let key: APIKey

    public init(row: KeyRow, key: APIKey) {
        self.row = row
        self.key = key
    }
}

/// One limit that a tier gives to its tenants.
public struct QuotaRule: Hashable, Sendable {
    public let unit: QuotaUnit
    public let frequency: Frequency
    /// Units per period.
    public let amount: Int64
    public let mode: QuotaMode
    public let alignment: QuotaAlignment
    public let thresholds: QuotaThresholds

    public init(
        unit: QuotaUnit, frequency: Frequency, amount: Int64, mode: QuotaMode, alignment: QuotaAlignment = .calendar,
        thresholds: QuotaThresholds = .standard
    ) {
        self.thresholds = thresholds
        self.unit = unit
        self.frequency = frequency
        self.amount = amount
        self.mode = mode
        self.alignment = alignment
    }
}

/// A model's replicas as they are registered.
public struct RouteRow: Hashable, Sendable {
    public let model: String
    public let replicas: [Replica]
    public let updatedAt: Timestamp

    public init(model: String, replicas: [Replica], updatedAt: Timestamp) {
        self.model = model
        self.replicas = replicas
        self.updatedAt = updatedAt
    }
}

/// Which usage is asked for, of one tenant or of all.
public struct TotalUsageQuery: Sendable {
    /// A stretch of time for the tenants of one time zone, or for all.
    public struct Stretch: Hashable, Sendable {
        /// `nil` means tenants of every zone.
        public let timeZone: String?
        public let start: Timestamp
        public let end: Timestamp

        public init(timeZone: String?, start: Timestamp, end: Timestamp) {
            self.timeZone = timeZone
            self.start = start
            self.end = end
        }
    }

    /// `nil` means all.
    public let tenantID: TenantID?
    /// Half-open. Usage outside them is not counted, and within one zone they must not overlap.
    public let stretches: [Stretch]
    public let groupsByKey: Bool
    /// By whose key it was.
    public let groupsByUser: Bool

    public init(tenantID: TenantID?, stretches: [Stretch], groupsByKey: Bool, groupsByUser: Bool = false) {
        self.tenantID = tenantID
        self.stretches = stretches
        self.groupsByKey = groupsByKey
        self.groupsByUser = groupsByUser
    }
}

/// Quantities of one group of one tenant; the row's day is an index into the query's stretches.
public struct TenantUsageRow: Hashable, Sendable {
    public let tenantID: TenantID
    public let usage: UsageRow

    public init(tenantID: TenantID, usage: UsageRow) {
        self.tenantID = tenantID
        self.usage = usage
    }
}

public struct AuditQuery: Sendable {
    public let page: PageRequest<AuditID>
    public let tenantID: TenantID?
    /// As in `tenant.change`.
    public let action: String?

    public init(page: PageRequest<AuditID>, tenantID: TenantID? = nil, action: String? = nil) {
        self.page = page
        self.tenantID = tenantID
        self.action = action
    }
}

/// One entry of the audit log.
public struct AuditRow: Hashable, Sendable {
    public let id: AuditID
    public let at: Timestamp
    public let actor: String
    public let action: String
    public let subjectType: String
    public let subjectID: String
    public let tenantID: TenantID?
    /// JSON text; `nil` for a thing that was not there.
    public let before: String?
    /// JSON text; `nil` for a thing that is gone.
    public let after: String?

    public init(
        id: AuditID, at: Timestamp, actor: String, action: String, subjectType: String, subjectID: String,
        tenantID: TenantID?,
        before: String?, after: String?
    ) {
        self.id = id
        self.at = at
        self.actor = actor
        self.action = action
        self.subjectType = subjectType
        self.subjectID = subjectID
        self.tenantID = tenantID
        self.before = before
        self.after = after
    }
}
