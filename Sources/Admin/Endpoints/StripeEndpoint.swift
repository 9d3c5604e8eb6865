internal import Domain
internal import HTTPListener
internal import Hummingbird

/// `/admin/v1/tenants/{id}/stripe` and `/admin/v1/stripe/deliveries`: who is a customer at Stripe, and what was sent there.
struct StripeEndpoint: Sendable {
    let stripe: (any StripeAdministration)?
    let time: any TimeSource

    func customer(_ call: AdminCall) async throws -> Response {
        try .json(CustomerAnswer(try await present.stripeCustomer(try call.tenantID())))
    }

    func setCustomer(_ call: AdminCall) async throws -> Response {
        let id = try call.tenantID()
        let input = try await RequestBodyReader.object(call, fields: ["customer_id", "since"])
        if !input.has("customer_id") {
            input.note("customer_id", "is missing", fix: "Send the customer's id, or null.")
        }
        let customer = input.nullable("customer_id", .stripeCustomer)
        let since = input.nullable("since", .instant)
        // Stripe takes no usage of longer ago.
        if let since, time.now.milliseconds(since: since) > 34 * 86_400_000 {
            input.note("since", "is more than 34 days ago", fix: "Send a later time; Stripe takes no older usage.")
        }
        try input.problems.check()
        return try .json(
            CustomerAnswer(
                try await present.setStripeCustomer(id, customerID: customer, since: since, by: call.actor)))
    }

    func deliveries(_ call: AdminCall) async throws -> Response {
        let limit = try call.query.integer("limit", in: 1...100, default: 20)
        let after = try call.query.value("after", "an identifier", fix: "Take last_id of the page before.") {
            $0.utf8.count <= 100 ? $0 : nil
        }
        let state = try call.query.value(
            "state", "one of pending, delivered, failed", fix: "Send one of these words."
        ) { StripeDeliveryRow.State(rawValue: $0) }
        var rows = try await present.stripeDeliveries(after: after, state: state, limit: limit + 1)
        let hasMore = rows.count > limit
        if hasMore { rows.removeLast() }
        return try .json(
            ListAnswer(
                data: rows.map(StripeDeliveryAnswer.init), firstID: rows.first?.identifier,
                lastID: rows.last?.identifier,
                hasMore: hasMore))
    }

    func retry(_ call: AdminCall) async throws -> Response {
        let input = try await RequestBodyReader.object(call, fields: ["identifier"])
        let identifier = input.required("identifier", .text(length: 1...100))
        try input.problems.check()
        guard let identifier else { throw input.problems.refusal }
        try await present.retryStripeDelivery(identifier, by: call.actor)
        return try .json(RetriedAnswer(identifier: identifier))
    }

    private var present: any StripeAdministration {
        get throws(Refusal) {
            guard let stripe else { throw Refusal(.notFound, "This server sends nothing to Stripe.") }
            return stripe
        }
    }
}

extension InputRule where Value == String {
    fileprivate static var stripeCustomer: InputRule {
        InputRule(expectation: "a customer's id of Stripe", fix: "Send an id such as cus_NffrFeUfNV2Hib.") { value in
            guard case .string(let text) = value, (1...64).contains(text.utf8.count),
                text.utf8.allSatisfy({
                    (0x30...0x39).contains($0) || (0x41...0x5A).contains($0) || (0x61...0x7A).contains($0) || $0 == 0x5F
                })
            else { return nil }
            return text
        }
    }
}

private struct CustomerAnswer: Encodable {
    let object = "stripe_customer"
    let tenantID: String
    @Present var customerID: String?
    @Present var since: String?
    @Present var until: String?

    init(_ customer: StripeCustomer) {
        tenantID = customer.tenantID.description
        customerID = customer.customerID
        since = customer.since?.description
        until = customer.until?.description
    }

    enum CodingKeys: String, CodingKey {
        case object, since, until
        case tenantID = "tenant_id"
        case customerID = "customer_id"
    }
}

private struct StripeDeliveryAnswer: Encodable {
    let object = "stripe_delivery"
    let identifier: String
    let tenantID: String
    let windowStart: String
    let meter: String
    let revision: Int32
    let value: Int64
    let state: String
    let attempts: Int32
    @Present var lastStatus: Int16?
    @Present var lastError: String?
    let createdAt: String
    @Present var finishedAt: String?

    init(_ row: StripeDeliveryRow) {
        identifier = row.identifier
        tenantID = row.tenantID.description
        windowStart = row.windowStart.description
        meter = row.meter.rawValue
        revision = row.revision
        value = row.value
        state = row.state.rawValue
        attempts = row.attempts
        lastStatus = row.lastStatus
        lastError = row.lastError
        createdAt = row.createdAt.description
        finishedAt = row.finishedAt?.description
    }

    enum CodingKeys: String, CodingKey {
        case object, identifier, meter, revision, value, state, attempts
        case tenantID = "tenant_id"
        case windowStart = "window_start"
        case lastStatus = "last_status"
        case lastError = "last_error"
        case createdAt = "created_at"
        case finishedAt = "finished_at"
    }
}

private struct RetriedAnswer: Encodable {
    let object = "stripe_delivery"
    let identifier: String
    let state = "pending"
}
