/// A tenant that is a customer at Stripe.
public struct StripeCustomer: Hashable, Sendable {
    public let tenantID: TenantID
    /// `nil` for one that is not connected any more.
    public let customerID: String?
    /// Usage from this instant on is sent; the beginning of an hour.
    public let since: Timestamp?
    /// Usage from this instant on is not sent any more: the tenant was disconnected. What was before it still is.
    public let until: Timestamp?

    public init(tenantID: TenantID, customerID: String?, since: Timestamp?, until: Timestamp? = nil) {
        self.tenantID = tenantID
        self.customerID = customerID
        self.since = since
        self.until = until
    }
}

/// One meter event on its way to Stripe.
public struct StripeEvent: Sendable {
    /// `tenant:window:meter:revision`; the same for each attempt.
    public let identifier: String
    public let customerID: String
    public let meter: Meter
    /// What is added to what was sent for the window before; can be negative.
    public let value: Int64
    /// Inside the window.
    public let at: Timestamp
    /// The fence.
    public let attempt: Int32

    public init(identifier: String, customerID: String, meter: Meter, value: Int64, at: Timestamp, attempt: Int32) {
        self.identifier = identifier
        self.customerID = customerID
        self.meter = meter
        self.value = value
        self.at = at
        self.attempt = attempt
    }
}

/// What Stripe answered.
public enum StripeReply: Sendable, Equatable {
    /// It has the event, from this attempt or from one before.
    case accepted(status: Int)
    /// It does not want the event: another attempt would end alike.
    case refused(status: Int, reason: String)
    /// Nobody knows, or not now.
    /// - Parameter afterMilliseconds: when it may be tried again, where it was said.
    case failed(status: Int?, reason: String, afterMilliseconds: Int64? = nil)
}

/// A delivery as an operator sees it.
public struct StripeDeliveryRow: Sendable {
    public enum State: String, Sendable, CaseIterable {
        case pending, delivered, failed
    }

    public let identifier: String
    public let tenantID: TenantID
    public let windowStart: Timestamp
    public let meter: Meter
    public let revision: Int32
    public let value: Int64
    public let state: State
    public let attempts: Int32
    public let lastStatus: Int16?
    public let lastError: String?
    public let createdAt: Timestamp
    public let finishedAt: Timestamp?

    public init(
        identifier: String, tenantID: TenantID, windowStart: Timestamp, meter: Meter, revision: Int32, value: Int64,
        state: State, attempts: Int32, lastStatus: Int16?, lastError: String?, createdAt: Timestamp,
        finishedAt: Timestamp?
    ) {
        self.identifier = identifier
        self.tenantID = tenantID
        self.windowStart = windowStart
        self.meter = meter
        self.revision = revision
        self.value = value
        self.state = state
        self.attempts = attempts
        self.lastStatus = lastStatus
        self.lastError = lastError
        self.createdAt = createdAt
        self.finishedAt = finishedAt
    }
}
