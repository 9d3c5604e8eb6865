internal import Billing
internal import Domain
internal import HTTPListener
internal import Hummingbird

/// `/admin/v1/credits`: money of tenants' that invoices draw on.
struct CreditsEndpoint: Sendable {
    let credits: (any CreditAdministration)?

    func list(_ call: AdminCall) async throws -> Response {
        let tenant = try call.query.value("tenant", "a tenant's id", fix: "Take it from GET /admin/v1/tenants.") {
            TenantID($0)
        }
        guard let tenant else {
            throw Refusal.invalid("tenant", "is missing", fix: "Say whose credits are meant.")
        }
        let page = try await present.credits(of: tenant, try call.query.page { CreditGrantID(publicText: $0) })
        return try .json(ListAnswer(page, cursor: \.id.publicText) { CreditGrantAnswer($0) })
    }

    func grant(_ call: AdminCall) async throws -> Response {
        let input = try await RequestBodyReader.object(
            call,
            fields: ["tenant", "kind", "currency", "amount_micros", "priority", "effective_at", "expires_at", "reason"])
        let tenant = input.required("tenant", .tenantID)
        let kind = input.optional("kind", .oneOf(CreditKind.allCases)) ?? .promotional
        let currency = input.required("currency", .currency)
        let amount = input.required("amount_micros", .integer(1...1_000_000_000_000_000))
        let priority = input.optional("priority", .integer(0...1_000)) ?? 100
        let effectiveAt = input.optional("effective_at", .usageEdge)
        let expiresAt = input.optional("expires_at", .usageEdge)
        let reason = input.required("reason", .text(length: 1...500))
        if let effectiveAt, let expiresAt, expiresAt <= effectiveAt {
            input.note("expires_at", "is not after effective_at", fix: "Send a later time.")
        }
        if effectiveAt == nil, let expiresAt, expiresAt <= WallClock.now {
            input.note("expires_at", "is over", fix: "Send a later time, or effective_at too.")
        }
        try input.problems.check()
        guard let tenant, let currency, let amount, let reason else { throw input.problems.refusal }
        let row = try await present.grantCredit(
            NewCreditGrant(
                tenantID: tenant, kind: kind, currency: currency, amount: Micros(amount),
                priority: Int16(clamping: priority), effectiveAt: effectiveAt, expiresAt: expiresAt, reason: reason),
            by: call.actor)
        return try .json(CreditGrantAnswer(row), status: .created)
    }

    func revoke(_ call: AdminCall) async throws -> Response {
        guard let text = call.context.parameters.get("id"), let id = CreditGrantID(publicText: text) else {
            throw Refusal(.notFound, "There is no such credit grant.")
        }
        return try .json(CreditGrantAnswer(try await present.revokeCredit(id, by: call.actor)))
    }

    private var present: any CreditAdministration {
        get throws(Refusal) {
            guard let credits else { throw Refusal(.notFound, "This server has no credits.") }
            return credits
        }
    }
}

extension InputRule where Value == Timestamp {
    fileprivate static var usageEdge: InputRule {
        InputRule(
            expectation: "a time with an offset, on a quarter of an hour", fix: "Send it as 2026-03-01T00:00:00Z."
        ) { value in
            guard case .string(let text) = value, let instant = Timestamp(rfc3339: text), instant.isUsageEdge,
                (0..<253_402_300_800_000_000).contains(instant.microsecondsSince1970)
            else { return nil }
            return instant
        }
    }
}
