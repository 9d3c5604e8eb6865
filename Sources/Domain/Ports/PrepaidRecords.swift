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

/// What a tenant that pays ahead has left, when it was last worked out.
public struct PrepaidBalance: Hashable, Sendable {
    public let currency: String
    /// Below zero where more was used than was there.
    public let amount: Micros
    public let lookedAt: Timestamp

    public init(currency: String, amount: Micros, lookedAt: Timestamp) {
        self.currency = currency
        self.amount = amount
        self.lookedAt = lookedAt
    }
}

/// A stretch of time that no standing invoice of a currency is of, or whose invoice charges something else than was used in it.
public struct BalanceStretch: Hashable, Sendable {
    public let start: Timestamp
    public let end: Timestamp
    /// Of the zone whose months it is rated in.
    public let timeZone: String
    /// What standing invoices charge for it, where it is an invoiced one.
    public let billed: Micros

    public init(start: Timestamp, end: Timestamp, timeZone: String, billed: Micros = .zero) {
        self.start = start
        self.end = end
        self.timeZone = timeZone
        self.billed = billed
    }
}

/// What a balance follows from. Nobody changes a bill of the tenant's while it is read.
public protocol BalanceReading: BillReading {
    /// Of the stay in force, or else of the last one.
    func currency() async throws -> String?
    /// What is neither charged nor left alone in a currency between two instants, from the first invoice that was issued on, or else from
    /// the first stay or use; the earliest first, each on edges of usage. Standing invoices may charge late usage of it.
    func unbilled(_ currency: String, from start: Timestamp, to end: Timestamp) async throws -> [BalanceStretch]
    /// Those of the last `limit` invoiced periods in which something else was used than their standing invoices charge.
    func late(_ currency: String, limit: Int) async throws -> [BalanceStretch]
}

/// A balance and what need not be worked out again the next time.
public struct BalanceFinding: Hashable, Sendable {
    public let balance: PrepaidBalance
    /// What invoiced periods have come to since.
    public let late: Micros
    /// What was used before it is late; `nil` where nothing is invoiced.
    public let openSince: Timestamp?

    public init(balance: PrepaidBalance, late: Micros, openSince: Timestamp?) {
        self.balance = balance
        self.late = late
        self.openSince = openSince
    }
}

/// What is left of a tenant's credits less what its open periods have accrued; `nil` where it is on nothing.
public typealias BalanceRule = @Sendable (any BalanceReading) async throws -> BalanceFinding?

/// A tenant that pays ahead, and texts that change when something does that its balance follows from.
public struct PrepaidTenant: Hashable, Sendable {
    public let tenantID: TenantID
    /// Of its standing invoices.
    public let billStamp: String
    /// Of its credits, stays and zone, and of the quarter of an hour.
    public let stamp: String

    public init(tenantID: TenantID, billStamp: String, stamp: String) {
        self.tenantID = tenantID
        self.billStamp = billStamp
        self.stamp = stamp
    }
}

/// What was entered in the ledger for prepaid tenants since a position.
public struct PrepaidUse: Sendable {
    /// From where the next look goes on.
    public let position: String
    /// When the earliest of a tenant's new entries occurred.
    public let earliest: [TenantID: Timestamp]

    public init(position: String, earliest: [TenantID: Timestamp]) {
        self.position = position
        self.earliest = earliest
    }
}

/// What came of a look at a tenant.
public struct PrepaidWeighing: Sendable {
    public let finding: BalanceFinding?
    /// Whether the tenant was found used up, or is so no more.
    public let isChanged: Bool

    public init(finding: BalanceFinding?, isChanged: Bool) {
        self.finding = finding
        self.isChanged = isChanged
    }
}

/// A customer's own balance.
public protocol CustomerBalances: Sendable {
    /// `nil` for a tenant that does not pay ahead, and before the first look.
    func balance(of tenant: TenantID) async throws(StoreUnavailable) -> PrepaidBalance?
}

/// Tenants that pay ahead.
public protocol PrepaidRecords: Sendable {
    /// - Throws: `not_found`.
    func setPrepaid(_ tenant: TenantID, _ isPrepaid: Bool, by actor: AuditActor) async throws(AdministrationFailure)
        -> PrepaidStanding
    /// By tenant, those behind `after`.
    func prepaidTenants(after: TenantID?, limit: Int) async throws(AdministrationFailure) -> [PrepaidTenant]
    /// What prepaid tenants used since.
    /// - Parameter position: of an earlier answer; `nil` asks for a position alone.
    func prepaidUse(since position: String?) async throws(AdministrationFailure) -> PrepaidUse
    /// Looks at a balance while nobody changes a bill of the tenant's, and notes it and whether it is used up; a change of that goes into the
    /// audit log.
    func weigh(_ tenant: TenantID, _ rule: BalanceRule) async throws(AdministrationFailure) -> PrepaidWeighing
}

/// What was wrong with the record of a request, as a difference.
public struct NewAdjustment: Hashable, Sendable {
    /// The invoiced periods that an invoice looks at for late usage; behind so many a correction would come onto none.
    public static let periodLimit = 24

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

/// Corrections of what was recorded: new entries of the ledger, which count in the period of the request that they correct.
public protocol AdjustmentRecords: Sendable {
    /// - Throws: `not_found` for a request without an entry; `validation_failed` where its sum would fall below zero, and where its month is
    ///   archived or too far back to come onto an invoice.
    func adjust(_ adjustment: NewAdjustment, by actor: AuditActor) async throws(AdministrationFailure) -> AdjustmentRow
}
