internal import Domain
internal import PostgresDriver

private let deliveryColumns: [PostgresType] = [
    .uuid, .uuid, .uuid, .text, .text, .int4, .timestamptz, .timestamptz, .timestamptz, .int2, .text, .int4,
    .timestamptz,
]

private func deliveryRow(_ row: inout PostgresRow) throws(PostgresError) -> WebhookDelivery {
    let id = WebhookDeliveryID(try row.uuid())
    let webhookID = WebhookID(try row.uuid())
    let eventID = WebhookEventID(try row.uuid())
    let kind = try row.text()
    guard let state = WebhookDelivery.State(rawValue: try row.text()) else {
        throw row.failure(4, "is no state of a delivery")
    }
    return WebhookDelivery(
        id: id, webhookID: webhookID, eventID: eventID, kind: kind, state: state, attempts: try row.int32(),
        createdAt: Timestamp(try row.timestamp()), nextAttemptAt: try row.optionalTimestamp().map { Timestamp($0) },
        lastAttemptAt: try row.optionalTimestamp().map { Timestamp($0) }, lastStatus: try row.optionalInt16(),
        lastError: try row.optionalText(), lastMilliseconds: try row.optionalInt32(),
        finishedAt: try row.optionalTimestamp().map { Timestamp($0) })
}

/// A page of deliveries of one webhook, newest first.
struct ReadWebhookDeliveries: PostgresStatement {
    static let sql = """
        SELECT d.delivery_id, d.webhook_id, d.event_id, e.kind, d.state, d.attempts - d.uncounted, e.occurred_at, d.next_attempt_at, d.last_attempt_at,
            d.last_status, d.last_error, d.last_ms, d.finished_at
        FROM webhook_deliveries d JOIN webhook_events e ON e.event_id = d.event_id
        WHERE d.webhook_id = $1 AND d.tenant_id = $2 AND d.delivery_id < $3 AND ($4::text IS NULL OR d.state = $4)
        ORDER BY d.delivery_id DESC
        LIMIT $5
        """
    static let parameters: [PostgresType] = [.uuid, .uuid, .uuid, .text, .int8]
    static let columns = deliveryColumns

    let query: WebhookDeliveryQuery

    func bind(to binds: inout PostgresBinds) {
        binds.append(query.webhookID.postgres)
        binds.append(query.tenantID.postgres)
        binds.append((query.after ?? WebhookDeliveryID(high: .max, low: .max)).postgres)
        binds.append(query.state?.rawValue)
        binds.append(Int64(query.limit))
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> WebhookDelivery { try deliveryRow(&row) }
}

/// Makes a delivery due that nobody is sending, unless its webhook is disabled.
struct RetryWebhookDelivery: PostgresStatement {
    static let sql = """
        UPDATE webhook_deliveries d SET state = 'waiting', tries = 0, tried_from = clock_timestamp(), next_attempt_at = clock_timestamp(),
            finished_at = NULL, last_error = NULL
        FROM webhooks w, webhook_events e
        WHERE d.delivery_id = $1 AND d.tenant_id = $2 AND d.state <> 'sending' AND w.webhook_id = d.webhook_id AND w.state <> 'disabled'
            AND e.event_id = d.event_id
        RETURNING d.delivery_id, d.webhook_id, d.event_id, e.kind, d.state, d.attempts - d.uncounted, e.occurred_at, d.next_attempt_at, d.last_attempt_at,
            d.last_status, d.last_error, d.last_ms, d.finished_at
        """
    static let parameters: [PostgresType] = [.uuid, .uuid]
    static let columns = deliveryColumns

    let id: WebhookDeliveryID
    let tenantID: TenantID

    func bind(to binds: inout PostgresBinds) {
        binds.append(id.postgres)
        binds.append(tenantID.postgres)
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> WebhookDelivery { try deliveryRow(&row) }
}

/// Whether a delivery is being sent, for one that could not be made due; no row where there is none.
struct ReadWebhookDeliveryState: PostgresStatement {
    static let sql =
        "SELECT d.state = 'sending' FROM webhook_deliveries d WHERE d.delivery_id = $1 AND d.tenant_id = $2"
    static let parameters: [PostgresType] = [.uuid, .uuid]
    static let columns: [PostgresType] = [.bool]

    let id: WebhookDeliveryID
    let tenantID: TenantID

    func bind(to binds: inout PostgresBinds) {
        binds.append(id.postgres)
        binds.append(tenantID.postgres)
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> Bool { try row.bool() }
}
