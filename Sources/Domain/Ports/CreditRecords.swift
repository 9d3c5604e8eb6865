public enum CreditKind: String, Sendable, CaseIterable {
    case promotional
    /// Paid for ahead.
    case prepaid
    /// Given back.
    case refund
}

/// A credit to be granted.
public struct NewCreditGrant: Hashable, Sendable {
    public let tenantID: TenantID
    public let kind: CreditKind
    /// ISO 4217.
    public let currency: String
    public let amount: Micros
    /// 0 to 1,000; the smaller one pays first.
    public let priority: Int16
    /// On edges of usage; `nil` for the start of the current quarter of an hour, and for no end.
    public let effectiveAt: Timestamp?
    public let expiresAt: Timestamp?
    public let reason: String

    public init(
        tenantID: TenantID, kind: CreditKind, currency: String, amount: Micros, priority: Int16,
        effectiveAt: Timestamp?, expiresAt: Timestamp?, reason: String
    ) {
        self.tenantID = tenantID
        self.kind = kind
        self.currency = currency
        self.amount = amount
        self.priority = priority
        self.effectiveAt = effectiveAt
        self.expiresAt = expiresAt
        self.reason = reason
    }
}

public struct CreditGrantRow: Hashable, Sendable {
    public let id: CreditGrantID
    public let grant: NewCreditGrant
    public let effectiveAt: Timestamp
    /// What standing invoices have left of it.
    public let remaining: Micros
    public let createdAt: Timestamp
    public let revokedAt: Timestamp?

    public init(
        id: CreditGrantID, grant: NewCreditGrant, effectiveAt: Timestamp, remaining: Micros, createdAt: Timestamp,
        revokedAt: Timestamp?
    ) {
        self.id = id
        self.grant = grant
        self.effectiveAt = effectiveAt
        self.remaining = remaining
        self.createdAt = createdAt
        self.revokedAt = revokedAt
    }
}

/// Grants of all tenants, as the operator has them. Each change is one transaction with its entry in the audit log.
public protocol CreditAdministration: Sendable {
    /// - Throws: `not_found` for an unknown tenant.
    func grantCredit(_ grant: NewCreditGrant, by actor: AuditActor) async throws(AdministrationFailure)
        -> CreditGrantRow
    /// Ends a grant: it pays for nothing that is used from the current quarter of an hour on. One that is revoked stays as it is.
    /// - Throws: `not_found`.
    func revokeCredit(_ id: CreditGrantID, by actor: AuditActor) async throws(AdministrationFailure) -> CreditGrantRow
    /// Newest first.
    func credits(of tenant: TenantID, _ page: PageRequest<CreditGrantID>) async throws(AdministrationFailure) -> Page<
        CreditGrantRow
    >
}
