internal import Domain
internal import HTTPListener
internal import Hummingbird

/// `/admin/v1/subscriptions`: which tier a tenant is on, and will be.
struct SubscriptionsEndpoint: Sendable {
    let subscriptions: (any SubscriptionAdministration)?

    func get(_ call: AdminCall) async throws -> Response {
        let tenant = try call.query.value("tenant", "a tenant's id", fix: "Take it from GET /admin/v1/tenants.") {
            TenantID($0)
        }
        guard let tenant else {
            throw Refusal.invalid("tenant", "is missing", fix: "Say whose subscription is meant.")
        }
        return try .json(SubscriptionAnswer(try await present.subscription(of: tenant)))
    }

    func change(_ call: AdminCall) async throws -> Response {
        let input = try await RequestBodyReader.object(call, fields: ["tenant", "tier", "when"])
        let tenant = input.required("tenant", .tenantID)
        let tier = input.required("tier", .tierCode)
        let when = input.optional("when", .moment) ?? .now
        try input.problems.check()
        guard let tenant, let tier else { throw input.problems.refusal }
        return try .json(
            SubscriptionAnswer(try await present.subscribe(tenant, tier: tier, when: when, by: call.actor)))
    }

    func cancel(_ call: AdminCall) async throws -> Response {
        let input = try await RequestBodyReader.object(call, fields: ["tenant"])
        let tenant = input.required("tenant", .tenantID)
        try input.problems.check()
        guard let tenant else { throw input.problems.refusal }
        return try .json(SubscriptionAnswer(try await present.cancelChange(of: tenant, by: call.actor)))
    }

    private var present: any SubscriptionAdministration {
        get throws(Refusal) {
            guard let subscriptions else { throw Refusal(.notFound, "This server has no subscriptions.") }
            return subscriptions
        }
    }
}

extension InputRule where Value == SubscriptionMoment {
    fileprivate static var moment: InputRule {
        InputRule(
            expectation: "now, period_end, or a time with an offset", fix: "Send it as 2026-03-01T00:00:00Z."
        ) { value in
            guard case .string(let text) = value else { return nil }
            switch text {
            case "now": return .now
            case "period_end": return .periodEnd
            default:
                guard let instant = Timestamp(rfc3339: text),
                    (0..<253_402_300_800_000_000).contains(instant.microsecondsSince1970)
                else { return nil }
                return .at(instant)
            }
        }
    }
}
