/// What there is to send to Stripe. Any number of processes may use it at once.
public protocol StripeOutbox: Sendable {
    /// Writes down what has to be sent of hours that are over.
    /// - Returns: how many deliveries there are more.
    func plan(limit: Int) async throws(StoreUnavailable) -> Int
    /// Takes deliveries that are due, for one attempt each.
    func claim(limit: Int, leaseMilliseconds: Int64) async throws(StoreUnavailable) -> [StripeEvent]
    /// Says what became of an attempt.
    /// - Parameter pauseMilliseconds: until the next, where there is to be one.
    func finish(_ event: StripeEvent, _ reply: StripeReply, pauseMilliseconds: Int64) async throws(StoreUnavailable)
}

/// Sends meter events.
public protocol StripeTransport: Sendable {
    func send(_ event: StripeEvent) async -> StripeReply
}

/// What an operator does with deliveries to Stripe.
public protocol StripeAdministration: Sendable {
    /// - Throws: `not_found` for an unknown tenant.
    func stripeCustomer(_ id: TenantID) async throws(AdministrationFailure) -> StripeCustomer
    /// - Throws: `not_found` for an unknown tenant.
    func setStripeCustomer(
        _ id: TenantID, customerID: String?, since: Timestamp?, by actor: AuditActor
    ) async throws(AdministrationFailure) -> StripeCustomer
    /// In the order of identifiers.
    func stripeDeliveries(
        after: String?, state: StripeDeliveryRow.State?, limit: Int
    ) async throws(AdministrationFailure) -> [StripeDeliveryRow]
    /// - Throws: `not_found` for one that has not failed.
    func retryStripeDelivery(_ identifier: String, by actor: AuditActor) async throws(AdministrationFailure)
}
