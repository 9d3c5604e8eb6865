public import Domain
public import PostgresDriver

/// What there is to send to Stripe, in PostgreSQL: functions of the schema, one call each.
public struct StripeOutboxStore: StripeOutbox {
    private let pool: PostgresPool

    /// - Parameter pool: connections of the role `weir_jobs`.
    public init(pool: PostgresPool) { self.pool = pool }

    public func plan(limit: Int) async throws(StoreUnavailable) -> Int {
        Int(try await execute(PlanStripeDeliveries(limit: Int32(clamping: limit))).first ?? 0)
    }

    public func claim(limit: Int, leaseMilliseconds: Int64) async throws(StoreUnavailable) -> [StripeEvent] {
        try await execute(
            ClaimStripeDeliveries(limit: Int32(clamping: limit), leaseMilliseconds: leaseMilliseconds))
    }

    public func finish(
        _ event: StripeEvent, _ reply: StripeReply, pauseMilliseconds: Int64
    ) async throws(StoreUnavailable) {
        _ = try await execute(
            FinishStripeDelivery(event: event, reply: reply, pauseMilliseconds: pauseMilliseconds))
    }

    private func execute<S: PostgresStatement>(_ statement: S) async throws(StoreUnavailable) -> [S.Row] {
        do throws(PostgresError) {
            return try await pool.execute(statement)
        } catch {
            throw StoreUnavailable(error)
        }
    }
}

extension AdministrationStore: StripeAdministration {
    public func stripeCustomer(_ id: TenantID) async throws(AdministrationFailure) -> StripeCustomer {
        guard let customer = try await read(FindStripeCustomer(id: id)).first else { throw .refused(.noSuchTenant) }
        return customer
    }

    public func setStripeCustomer(
        _ id: TenantID, customerID: String?, since: Timestamp?, by actor: AuditActor
    ) async throws(AdministrationFailure) -> StripeCustomer {
        try await change(actor) { change in
            guard try await !change.connection.execute(LockTenant(id: id)).isEmpty else { throw Refusal.noSuchTenant }
            do {
                _ = try await change.connection.execute(
                    ConnectStripeCustomer(id: id, customerID: customerID, since: since))
            } catch let error as PostgresError {
                guard error.sqlState == "55006" else { throw error }
                throw Refusal(
                    .conflict,
                    "Usage from before that time is not sent yet and would be lost. Leave since out, or try again when the running hour is sent.",
                    cause: error.description)
            }
            guard let customer = try await change.connection.execute(FindStripeCustomer(id: id)).first else {
                throw Refusal.noSuchTenant
            }
            // Only letters, digits and underscores are in it.
            let text = customerID.map { "\"\($0)\"" } ?? "null"
            try await change.audit(
                "tenant.stripe", "tenant", id.description, tenantID: id, before: nil,
                after: #"{"customer_id": \#(text)}"#)
            return customer
        }
    }

    public func stripeDeliveries(
        after: String?, state: StripeDeliveryRow.State?, limit: Int
    ) async throws(AdministrationFailure) -> [StripeDeliveryRow] {
        try await read(ListStripeDeliveries(after: after, state: state, limit: Int64(limit)))
    }

    public func retryStripeDelivery(_ identifier: String, by actor: AuditActor) async throws(AdministrationFailure) {
        try await change(actor) { change in
            guard try await change.connection.execute(RetryStripeDelivery(identifier: identifier)).first == true else {
                throw Refusal(
                    .notFound,
                    "There is no failed delivery of this identifier. GET /admin/v1/stripe/deliveries?state=failed lists them."
                )
            }
            try await change.audit(
                "stripe.retry", "stripe_delivery", identifier, before: nil, after: #"{"state": "pending"}"#)
        }
    }
}
