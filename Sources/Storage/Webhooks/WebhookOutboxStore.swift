public import Domain
public import PostgresDriver

/// What is to be sent to webhooks, in PostgreSQL: functions of the schema, one call each.
public struct WebhookOutboxStore: WebhookOutbox {
    private let pool: PostgresPool
    private let seal: SecretSeal

    /// - Parameters:
    ///   - pool: connections of the role `weir_jobs`.
    ///   - pepper: what the key follows from under which secrets are kept.
    public init(pool: PostgresPool, pepper: [UInt8]) {
        self.pool = pool
        seal = SecretSeal(pepper: pepper)
    }

    public func claim(
        limit: Int, perWebhook: Int, perTenant: Int, leaseMilliseconds: Int64
    ) async throws(StoreUnavailable) -> [WebhookAttempt] {
        let claimed: [ClaimWebhookDeliveries.Claimed]
        do throws(PostgresError) {
            claimed = try await pool.execute(
                ClaimWebhookDeliveries(
                    limit: Int32(clamping: limit), perWebhook: Int32(clamping: perWebhook),
                    perTenant: Int32(clamping: perTenant), leaseMilliseconds: leaseMilliseconds))
        } catch {
            throw StoreUnavailable(error)
        }
        return claimed.map { claim in
            let sealed = [claim.secret] + (claim.previousSecret.map { [$0] } ?? [])
            return WebhookAttempt(
                deliveryID: claim.deliveryID, webhookID: claim.webhookID, eventID: claim.eventID,
                tenantID: claim.tenantID, number: claim.number, tries: Int(claim.tries),
                ageMilliseconds: claim.ageMilliseconds, url: claim.url,
                secrets: sealed.compactMap { seal.open($0, of: claim.webhookID, tenantID: claim.tenantID) },
                body: Array(claim.body.utf8))
        }
    }

    public func finish(_ report: WebhookAttemptReport, disableAfterMilliseconds: Int64) async throws(StoreUnavailable)
        -> Webhook.State?
    {
        do throws(PostgresError) {
            let state = try await pool.execute(
                FinishWebhookDelivery(report: report, disableAfterMilliseconds: disableAfterMilliseconds)
            ).first
            return state.flatMap { Webhook.State(rawValue: $0) }
        } catch {
            throw StoreUnavailable(error)
        }
    }

    public func trim(keep: Int) async throws(StoreUnavailable) -> Int {
        do throws(PostgresError) {
            return Int(try await pool.execute(TrimWebhookDeliveries(keep: Int32(clamping: keep))).first ?? 0)
        } catch {
            throw StoreUnavailable(error)
        }
    }

    public func remove(keepHours: Int, limit: Int) async throws(StoreUnavailable) -> Int {
        do throws(PostgresError) {
            return Int(
                try await pool.execute(
                    RemoveWebhookDeliveries(keepHours: Int32(clamping: keepHours), limit: Int32(clamping: limit))
                ).first ?? 0)
        } catch {
            throw StoreUnavailable(error)
        }
    }
}

struct ClaimWebhookDeliveries: PostgresStatement {
    /// As it stands in the database, with its secrets sealed.
    struct Claimed: Sendable {
        let deliveryID: WebhookDeliveryID
        let webhookID: WebhookID
        let tenantID: TenantID
        let eventID: WebhookEventID
        let number: Int32
        let tries: Int32
        let ageMilliseconds: Int64
        let url: String
        let secret: [UInt8]
        let previousSecret: [UInt8]?
        let body: String
    }

    static let sql = """
        SELECT delivery, webhook, tenant, event, attempt, tries_now, age_ms, target, secret, previous, content
        FROM claim_webhook_deliveries($1, $2, $3, $4)
        """
    static let parameters: [PostgresType] = [.int4, .int4, .int4, .int8]
    static let columns: [PostgresType] = [
        .uuid, .uuid, .uuid, .uuid, .int4, .int4, .int8, .text, .bytea, .bytea, .text,
    ]

    let limit: Int32
    let perWebhook: Int32
    let perTenant: Int32
    let leaseMilliseconds: Int64

    func bind(to binds: inout PostgresBinds) {
        binds.append(limit)
        binds.append(perWebhook)
        binds.append(perTenant)
        binds.append(leaseMilliseconds)
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> Claimed {
        Claimed(
            deliveryID: WebhookDeliveryID(try row.uuid()), webhookID: WebhookID(try row.uuid()),
            tenantID: TenantID(try row.uuid()), eventID: WebhookEventID(try row.uuid()), number: try row.int32(),
            tries: try row.int32(), ageMilliseconds: try row.int64(), url: try row.text(), secret: try row.bytes(),
            previousSecret: try row.optionalBytes(), body: try row.text())
    }
}

struct FinishWebhookDelivery: PostgresStatement {
    static let sql = "SELECT finish_webhook_delivery($1, $2, $3, $4, $5, $6, $7, $8)"
    static let parameters: [PostgresType] = [.uuid, .int4, .text, .int2, .text, .int4, .int8, .int8]
    static let columns: [PostgresType] = [.text]

    let report: WebhookAttemptReport
    let disableAfterMilliseconds: Int64

    func bind(to binds: inout PostgresBinds) {
        binds.append(report.deliveryID.postgres)
        binds.append(report.number)
        var pause: Int64 = 0
        switch report.outcome {
        case .delivered: binds.append("delivered")
        case .waiting(let milliseconds):
            binds.append("waiting")
            pause = milliseconds
        case .postponed(let milliseconds):
            binds.append("postponed")
            pause = milliseconds
        case .failed: binds.append("failed")
        case .gone: binds.append("gone")
        }
        switch report.reply {
        case .answered(let status):
            binds.append(Int16(clamping: status))
            binds.appendNull(.text)
        case .failed(let failure):
            binds.appendNull(.int2)
            binds.append(failure.rawValue)
        }
        binds.append(report.tookMilliseconds)
        binds.append(pause)
        binds.append(disableAfterMilliseconds)
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> String { try row.text() }
}

struct TrimWebhookDeliveries: PostgresStatement {
    static let sql = "SELECT trim_webhook_deliveries($1)"
    static let parameters: [PostgresType] = [.int4]
    static let columns: [PostgresType] = [.int4]

    let keep: Int32

    func bind(to binds: inout PostgresBinds) { binds.append(keep) }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> Int32 { try row.int32() }
}

struct RemoveWebhookDeliveries: PostgresStatement {
    static let sql = "SELECT remove_webhook_deliveries($1, $2)"
    static let parameters: [PostgresType] = [.int4, .int4]
    static let columns: [PostgresType] = [.int4]

    let keepHours: Int32
    let limit: Int32

    func bind(to binds: inout PostgresBinds) {
        binds.append(keepHours)
        binds.append(limit)
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> Int32 { try row.int32() }
}
