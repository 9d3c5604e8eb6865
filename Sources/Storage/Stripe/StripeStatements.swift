internal import Domain
internal import PostgresDriver

struct PlanStripeDeliveries: PostgresStatement {
    static let sql = "SELECT plan_stripe_deliveries($1)"
    static let parameters: [PostgresType] = [.int4]
    static let columns: [PostgresType] = [.int4]

    let limit: Int32

    func bind(to binds: inout PostgresBinds) { binds.append(limit) }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> Int32 { try row.optionalInt32() ?? 0 }
}

struct ClaimStripeDeliveries: PostgresStatement {
    static let sql = """
        SELECT delivery, customer, event_meter, sent_value, event_at, attempt_now FROM claim_stripe_deliveries($1, $2)
        """
    static let parameters: [PostgresType] = [.int4, .int8]
    static let columns: [PostgresType] = [.text, .text, .text, .int8, .timestamptz, .int4]

    let limit: Int32
    let leaseMilliseconds: Int64

    func bind(to binds: inout PostgresBinds) {
        binds.append(limit)
        binds.append(leaseMilliseconds)
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> StripeEvent {
        let identifier = try row.text()
        let customer = try row.text()
        guard let meter = Meter(rawValue: try row.text()) else { throw row.failure(2, "is no meter") }
        return StripeEvent(
            identifier: identifier, customerID: customer, meter: meter, value: try row.int64(),
            at: Timestamp(try row.timestamp()), attempt: try row.int32())
    }
}

struct FinishStripeDelivery: PostgresStatement {
    static let sql = "SELECT finish_stripe_delivery($1, $2, $3, $4, $5, $6)"
    static let parameters: [PostgresType] = [.text, .int4, .text, .int2, .text, .int8]
    static let columns: [PostgresType] = [.bool]

    let event: StripeEvent
    let reply: StripeReply
    let pauseMilliseconds: Int64

    func bind(to binds: inout PostgresBinds) {
        binds.append(event.identifier)
        binds.append(event.attempt)
        switch reply {
        case .accepted(let status):
            binds.append("delivered")
            binds.append(Int16(clamping: status))
            binds.append(nil as String?)
        case .refused(let status, let reason):
            binds.append("failed")
            binds.append(Int16(clamping: status))
            binds.append(reason)
        case .failed(let status, let reason, _):
            binds.append("again")
            binds.append(status.map { Int16(clamping: $0) })
            binds.append(reason)
        }
        binds.append(pauseMilliseconds)
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> Bool { try row.bool() }
}

struct FindStripeCustomer: PostgresStatement {
    static let sql = """
        SELECT t.tenant_id, CASE WHEN c.until IS NULL THEN c.customer_id END, c.since, c.until FROM tenants t LEFT JOIN stripe_customers c ON c.tenant_id = t.tenant_id
        WHERE t.tenant_id = $1
        """
    static let parameters: [PostgresType] = [.uuid]
    static let columns: [PostgresType] = [.uuid, .text, .timestamptz, .timestamptz]

    let id: TenantID

    func bind(to binds: inout PostgresBinds) { binds.append(id.postgres) }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> StripeCustomer {
        StripeCustomer(
            tenantID: TenantID(try row.uuid()), customerID: try row.optionalText(),
            since: try row.optionalTimestamp().map { Timestamp($0) },
            until: try row.optionalTimestamp().map { Timestamp($0) })
    }
}

struct ConnectStripeCustomer: PostgresStatement {
    static let sql = """
        SELECT connect_stripe_customer($1, $2,
            coalesce($3, (SELECT since FROM stripe_customers WHERE tenant_id = $1), statement_timestamp()))::text
        """
    static let parameters: [PostgresType] = [.uuid, .text, .timestamptz]

    let id: TenantID
    let customerID: String?
    let since: Timestamp?

    func bind(to binds: inout PostgresBinds) {
        binds.append(id.postgres)
        binds.append(customerID)
        binds.append(since?.postgres)
    }
}

struct ListStripeDeliveries: PostgresStatement {
    static let sql = """
        SELECT identifier, tenant_id, window_start, meter, revision, value, state, attempt, last_status, last_error, created_at, finished_at
        FROM stripe_deliveries WHERE identifier > coalesce($1, '') AND ($2::text IS NULL OR state = $2) ORDER BY identifier LIMIT $3
        """
    static let parameters: [PostgresType] = [.text, .text, .int8]
    static let columns: [PostgresType] = [
        .text, .uuid, .timestamptz, .text, .int4, .int8, .text, .int4, .int2, .text, .timestamptz, .timestamptz,
    ]

    let after: String?
    let state: StripeDeliveryRow.State?
    let limit: Int64

    func bind(to binds: inout PostgresBinds) {
        binds.append(after)
        binds.append(state?.rawValue)
        binds.append(limit)
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> StripeDeliveryRow {
        let identifier = try row.text()
        let tenantID = TenantID(try row.uuid())
        let windowStart = Timestamp(try row.timestamp())
        guard let meter = Meter(rawValue: try row.text()) else { throw row.failure(3, "is no meter") }
        let revision = try row.int32()
        let value = try row.int64()
        guard let state = StripeDeliveryRow.State(rawValue: try row.text()) else {
            throw row.failure(6, "is no state of a delivery")
        }
        return StripeDeliveryRow(
            identifier: identifier, tenantID: tenantID, windowStart: windowStart, meter: meter, revision: revision,
            value: value, state: state, attempts: try row.int32(), lastStatus: try row.optionalInt16(),
            lastError: try row.optionalText(), createdAt: Timestamp(try row.timestamp()),
            finishedAt: try row.optionalTimestamp().map { Timestamp($0) })
    }
}

struct RetryStripeDelivery: PostgresStatement {
    static let sql = "SELECT retry_stripe_delivery($1)"
    static let parameters: [PostgresType] = [.text]
    static let columns: [PostgresType] = [.bool]

    let identifier: String

    func bind(to binds: inout PostgresBinds) { binds.append(identifier) }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> Bool { try row.bool() }
}
