internal import Domain
internal import PostgresDriver

private let webhookColumns: [PostgresType] = [
    .uuid, .text, .text, .textArray, .text, .text, .timestamptz, .timestamptz, .timestamptz, .timestamptz,
]

private func webhookRow(_ row: inout PostgresRow) throws(PostgresError) -> Webhook {
    let id = WebhookID(try row.uuid())
    let url = try row.text()
    let description = try row.text()
    // A kind of a later release is not this one's to show.
    let events = try row.array(of: String.self).compactMap { WebhookEventKind(rawValue: $0) }
    guard let state = Webhook.State(rawValue: try row.text()) else { throw row.failure(4, "is no state of a webhook") }
    let reason = try row.optionalText().flatMap { Webhook.DisabledReason(rawValue: $0) }
    return Webhook(
        id: id, url: url, description: description, events: events, state: state, disabledReason: reason,
        failingSince: try row.optionalTimestamp().map { Timestamp($0) },
        lastDeliveredAt: try row.optionalTimestamp().map { Timestamp($0) },
        previousSecretUntil: try row.optionalTimestamp().map { Timestamp($0) },
        createdAt: Timestamp(try row.timestamp()))
}

/// Two additions of one tenant wait for each other here, or both would find room for the last one.
struct LockWebhooksOfTenant: PostgresStatement {
    static let sql = "SELECT pg_advisory_xact_lock(hashtextextended('weir.webhooks ' || $1::text, 0))"
    static let parameters: [PostgresType] = [.uuid]

    let tenantID: TenantID

    func bind(to binds: inout PostgresBinds) { binds.append(tenantID.postgres) }
}

struct InsertWebhook: PostgresStatement {
    static let sql = """
        INSERT INTO webhooks (webhook_id, tenant_id, url, description, events, sealed_secret)
        SELECT $1, $2, $3, $4, $5, $6 WHERE (SELECT count(*) FROM webhooks w WHERE w.tenant_id = $2) < $7
        RETURNING webhook_id, url, description, events, state, disabled_reason, failing_since, last_delivered_at, previous_until, created_at
        """
    static let parameters: [PostgresType] = [.uuid, .uuid, .text, .text, .textArray, .bytea, .int8]
    static let columns = webhookColumns

    let id: WebhookID
    let tenantID: TenantID
    let webhook: NewWebhook
    let sealedSecret: [UInt8]
    let limit: Int64

    func bind(to binds: inout PostgresBinds) {
        binds.append(id.postgres)
        binds.append(tenantID.postgres)
        binds.append(webhook.url.text)
        binds.append(webhook.description)
        binds.append(webhook.events.map(\.rawValue))
        binds.append(sealedSecret)
        binds.append(limit)
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> Webhook { try webhookRow(&row) }
}

struct ReadWebhooks: PostgresStatement {
    static let sql = """
        SELECT webhook_id, url, description, events, state, disabled_reason, failing_since, last_delivered_at,
            CASE WHEN previous_until > clock_timestamp() THEN previous_until END, created_at
        FROM webhooks WHERE tenant_id = $1 ORDER BY webhook_id
        """
    static let parameters: [PostgresType] = [.uuid]
    static let columns = webhookColumns

    let tenantID: TenantID

    func bind(to binds: inout PostgresBinds) { binds.append(tenantID.postgres) }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> Webhook { try webhookRow(&row) }
}

struct DeleteWebhook: PostgresStatement {
    static let sql = "DELETE FROM webhooks WHERE webhook_id = $1 AND tenant_id = $2 RETURNING webhook_id"
    static let parameters: [PostgresType] = [.uuid, .uuid]
    static let columns: [PostgresType] = [.uuid]

    let id: WebhookID
    let tenantID: TenantID

    func bind(to binds: inout PostgresBinds) {
        binds.append(id.postgres)
        binds.append(tenantID.postgres)
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> WebhookID { WebhookID(try row.uuid()) }
}

/// Without a grace the secret before the new one signs no more.
struct RotateWebhookSecret: PostgresStatement {
    static let sql = """
        UPDATE webhooks SET sealed_secret = $3, previous_secret = CASE WHEN $4 > 0 THEN sealed_secret END,
            previous_until = CASE WHEN $4 > 0 THEN clock_timestamp() + $4 * interval '1 second' END
        WHERE webhook_id = $1 AND tenant_id = $2
        RETURNING webhook_id, url, description, events, state, disabled_reason, failing_since, last_delivered_at, previous_until, created_at
        """
    static let parameters: [PostgresType] = [.uuid, .uuid, .bytea, .int8]
    static let columns = webhookColumns

    let id: WebhookID
    let tenantID: TenantID
    let sealedSecret: [UInt8]
    let graceSeconds: Int64

    func bind(to binds: inout PostgresBinds) {
        binds.append(id.postgres)
        binds.append(tenantID.postgres)
        binds.append(sealedSecret)
        binds.append(graceSeconds)
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> Webhook { try webhookRow(&row) }
}

struct EnableWebhook: PostgresStatement {
    static let sql = """
        UPDATE webhooks SET state = 'active', disabled_reason = NULL, failing_since = NULL WHERE webhook_id = $1 AND tenant_id = $2
        RETURNING webhook_id, url, description, events, state, disabled_reason, failing_since, last_delivered_at, previous_until, created_at
        """
    static let parameters: [PostgresType] = [.uuid, .uuid]
    static let columns = webhookColumns

    let id: WebhookID
    let tenantID: TenantID

    func bind(to binds: inout PostgresBinds) {
        binds.append(id.postgres)
        binds.append(tenantID.postgres)
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> Webhook { try webhookRow(&row) }
}
