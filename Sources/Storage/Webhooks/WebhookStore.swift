public import Domain
internal import Foundation
public import PostgresDriver

/// A customer's webhooks in PostgreSQL. Each call is one transaction with the tenant set, so that row-level security is a second wall behind
/// the `WHERE`.
public struct WebhookStore: WebhookRecords {
    private let pool: PostgresPool
    private let seal: SecretSeal
    private let time: any TimeSource

    /// - Parameters:
    ///   - pool: connections of the role `weir_customer`.
    ///   - pepper: what the key follows from under which secrets are kept.
    public init(pool: PostgresPool, pepper: [UInt8], time: any TimeSource) {
        self.pool = pool
        seal = SecretSeal(pepper: pepper)
        self.time = time
    }

    public func add(_ webhook: NewWebhook, tenantID: TenantID, limit: Int) async throws(StoreUnavailable) -> (
        Webhook, secret: String
    )? {
        var random = SystemRandomNumberGenerator()
        let id = WebhookID(at: time.now, using: &random)
        let secret = SecretSeal.newSecret()
        let sealed = try self.sealed(secret, of: id, tenantID: tenantID)
        do throws(PostgresError) {
            let (_, _, rows) = try await pool.pipeline(
                ActAsTenant(tenantID: tenantID), LockWebhooksOfTenant(tenantID: tenantID),
                InsertWebhook(
                    id: id, tenantID: tenantID, webhook: webhook, sealedSecret: sealed, limit: Int64(limit)))
            return rows.first.map { ($0, Self.text(of: secret)) }
        } catch {
            throw StoreUnavailable(error)
        }
    }

    public func webhooks(tenantID: TenantID) async throws(StoreUnavailable) -> [Webhook] {
        try await run(ReadWebhooks(tenantID: tenantID), as: tenantID)
    }

    public func webhook(_ id: WebhookID, tenantID: TenantID) async throws(StoreUnavailable) -> Webhook? {
        // There are a few of them, and never more than the tenant's bound.
        try await webhooks(tenantID: tenantID).first { $0.id == id }
    }

    public func remove(_ id: WebhookID, tenantID: TenantID) async throws(StoreUnavailable) -> Bool {
        try await run(DeleteWebhook(id: id, tenantID: tenantID), as: tenantID).first != nil
    }

    public func rotate(_ id: WebhookID, tenantID: TenantID, graceSeconds: Int64) async throws(StoreUnavailable) -> (
        Webhook, secret: String
    )? {
        let secret = SecretSeal.newSecret()
        let sealed = try self.sealed(secret, of: id, tenantID: tenantID)
        let rows = try await run(
            RotateWebhookSecret(id: id, tenantID: tenantID, sealedSecret: sealed, graceSeconds: graceSeconds),
            as: tenantID)
        return rows.first.map { ($0, Self.text(of: secret)) }
    }

    public func enable(_ id: WebhookID, tenantID: TenantID) async throws(StoreUnavailable) -> Webhook? {
        try await run(EnableWebhook(id: id, tenantID: tenantID), as: tenantID).first
    }

    public func deliveries(_ query: WebhookDeliveryQuery) async throws(StoreUnavailable) -> [WebhookDelivery] {
        try await run(ReadWebhookDeliveries(query: query), as: query.tenantID)
    }

    public func retry(_ id: WebhookDeliveryID, tenantID: TenantID) async throws(StoreUnavailable) -> WebhookRetrying {
        do throws(PostgresError) {
            let (_, due, sending) = try await pool.pipeline(
                ActAsTenant(tenantID: tenantID), RetryWebhookDelivery(id: id, tenantID: tenantID),
                ReadWebhookDeliveryState(id: id, tenantID: tenantID))
            if let delivery = due.first { return .due(delivery) }
            guard let isSending = sending.first else { return .unknown }
            return isSending ? .underWay : .disabled
        } catch {
            throw StoreUnavailable(error)
        }
    }

    private func run<S: PostgresStatement>(_ statement: S, as tenantID: TenantID) async throws(StoreUnavailable) -> [S
        .Row]
    {
        do throws(PostgresError) {
            return try await pool.pipeline(ActAsTenant(tenantID: tenantID), statement).1
        } catch {
            throw StoreUnavailable(error)
        }
    }

    private func sealed(_ secret: [UInt8], of id: WebhookID, tenantID: TenantID) throws(StoreUnavailable) -> [UInt8] {
        guard let sealed = seal.seal(secret, of: id, tenantID: tenantID) else {
            throw StoreUnavailable(cause: "a secret could not be sealed")
        }
        return sealed
    }

    /// As libraries for Standard Webhooks take it.
    private static func text(of secret: [UInt8]) -> String { "whsec_" + Data(secret).base64EncodedString() }
}
