/// Whether a tenant pays ahead, and what came out when its balance was last looked at.
public struct PrepaidStanding: Hashable, Sendable {
    public let tenantID: TenantID
    public let isPrepaid: Bool
    /// Its requests are refused until a top-up.
    public let isExhausted: Bool

    public init(tenantID: TenantID, isPrepaid: Bool, isExhausted: Bool) {
        self.tenantID = tenantID
        self.isPrepaid = isPrepaid
        self.isExhausted = isExhausted
    }
}

/// What is left of a tenant's credits less what its open periods have accrued; `nil` where it is on nothing.
public typealias BalanceRule = @Sendable (any BillReading) async throws -> Micros?

/// Tenants that pay ahead.
public protocol PrepaidRecords: Sendable {
    /// - Throws: `not_found`.
    func setPrepaid(_ tenant: TenantID, _ isPrepaid: Bool, by actor: AuditActor) async throws(AdministrationFailure)
        -> PrepaidStanding
    /// By tenant, those behind `after`.
    func prepaidTenants(after: TenantID?, limit: Int) async throws(AdministrationFailure) -> [TenantID]
    /// Looks at a balance while nobody changes a bill of the tenant's, and notes whether it is used up.
    /// - Returns: whether that is another answer than before.
    func weigh(_ tenant: TenantID, _ rule: BalanceRule) async throws(AdministrationFailure) -> Bool
}

/// What was wrong with the record of a request, as a difference.
public struct NewAdjustment: Hashable, Sendable {
    public let requestID: RequestID
    public let requests: Int64
    public let inputTokens: Int64
    public let cachedInputTokens: Int64
    public let outputTokens: Int64
    public let reason: String

    public init(
        requestID: RequestID, requests: Int64, inputTokens: Int64, cachedInputTokens: Int64, outputTokens: Int64,
        reason: String
    ) {
        self.requestID = requestID
        self.requests = requests
        self.inputTokens = inputTokens
        self.cachedInputTokens = cachedInputTokens
        self.outputTokens = outputTokens
        self.reason = reason
    }
}

/// A correction that was posted.
public struct AdjustmentRow: Hashable, Sendable {
    /// The ledger's entry.
    public let entryID: RequestID
    public let tenantID: TenantID
    public let adjustment: NewAdjustment
    /// What the request comes to with all its corrections.
    public let sum: [Int64]

    public init(entryID: RequestID, tenantID: TenantID, adjustment: NewAdjustment, sum: [Int64]) {
        self.entryID = entryID
        self.tenantID = tenantID
        self.adjustment = adjustment
        self.sum = sum
    }
}

/// Corrections of what was recorded: new entries of the ledger, which count in the period in which they are posted.
public protocol AdjustmentRecords: Sendable {
    /// - Throws: `not_found` for a request without an entry; `validation_failed` where its sum would fall below zero.
    func adjust(_ adjustment: NewAdjustment, by actor: AuditActor) async throws(AdministrationFailure) -> AdjustmentRow
}
