internal import Domain
internal import HTTPListener
internal import Hummingbird

/// `/api/v1/webhooks`: where a tenant wants to be told of events, and what was sent.
struct WebhooksEndpoint: Sendable {
    let webhooks: any WebhookRecords
    let targets: any WebhookTargets
    let limitPerTenant: Int

    private static let bodyLimit = 16_384
    private static let graceDefault: Int64 = 86_400
    private static let graceRange: ClosedRange<Int64> = 0...604_800

    func list(_ request: Request, _ context: ControlContext) async throws -> Response {
        _ = try QueryParameters(request, allowed: [])
        let all = try await webhooks.webhooks(tenantID: try context.caller.tenantID).map { WebhookAnswer($0) }
        return try .json(ListAnswer(data: all, firstID: all.first?.id, lastID: all.last?.id, hasMore: false))
    }

    func one(_ request: Request, _ context: ControlContext) async throws -> Response {
        let id = try Self.webhookID(context)
        guard let webhook = try await webhooks.webhook(id, tenantID: try context.caller.tenantID) else {
            throw Self.noWebhook
        }
        return try .json(WebhookAnswer(webhook))
    }

    func add(_ request: Request, _ context: ControlContext) async throws -> Response {
        let caller = try context.caller
        _ = try QueryParameters(request, allowed: [])
        let body = try await JSONObjectBody(
            request, allowed: ["url", "events", "description"], maximumBytes: Self.bodyLimit)
        let url = try Self.url(body)
        let events = try Self.events(body)
        let description = try body.text("description", limit: 200) ?? ""
        guard !description.unicodeScalars.contains(where: { $0.value < 0x20 }) else {
            throw Refusal.invalid("/description", "must be one line of text", fix: "Leave out control characters.")
        }
        // Before a name is looked up: a tenant that has all that it may have makes us ask nobody.
        guard try await webhooks.webhooks(tenantID: caller.tenantID).count < limitPerTenant else {
            throw Self.tooMany(limitPerTenant)
        }
        do throws(WebhookTargetRefusal) {
            try await targets.check(url)
        } catch {
            throw Self.forbidden(error.message)
        }
        guard
            let (webhook, secret) = try await webhooks.add(
                NewWebhook(url: url, description: description, events: events), tenantID: caller.tenantID,
                limit: limitPerTenant)
        else {
            throw Self.tooMany(limitPerTenant)
        }
        var response = try Response.json(WebhookAnswer(webhook, secret: secret), status: .created)
        response.headers[.location] = "/api/v1/webhooks/\(webhook.id.publicText)"
        return response
    }

    private static func tooMany(_ limit: Int) -> Refusal {
        Refusal(.conflict, "There are \(limit) webhooks already, which is the most. Remove one first.")
    }

    func remove(_ request: Request, _ context: ControlContext) async throws -> Response {
        let id = try Self.webhookID(context)
        guard try await webhooks.remove(id, tenantID: try context.caller.tenantID) else { throw Self.noWebhook }
        return Response(status: .noContent)
    }

    func rotate(_ request: Request, _ context: ControlContext) async throws -> Response {
        let caller = try context.caller
        let id = try Self.webhookID(context)
        let body = try await JSONObjectBody(
            request, allowed: ["grace_seconds"], maximumBytes: Self.bodyLimit, isOptional: true)
        let grace = try body.integer("grace_seconds", in: Self.graceRange) ?? Self.graceDefault
        guard let (webhook, secret) = try await webhooks.rotate(id, tenantID: caller.tenantID, graceSeconds: grace)
        else { throw Self.noWebhook }
        return try .json(WebhookAnswer(webhook, secret: secret))
    }

    func enable(_ request: Request, _ context: ControlContext) async throws -> Response {
        let id = try Self.webhookID(context)
        guard let webhook = try await webhooks.enable(id, tenantID: try context.caller.tenantID) else {
            throw Self.noWebhook
        }
        return try .json(WebhookAnswer(webhook))
    }

    func deliveries(_ request: Request, _ context: ControlContext) async throws -> Response {
        let caller = try context.caller
        let id = try Self.webhookID(context)
        let query = try QueryParameters(request, allowed: ["limit", "after", "state"])
        let limit = try query.integer("limit", in: 1...100, default: 20)
        let after = try query.value("after", "the id of a delivery", fix: "Take it from last_id of a page.") {
            WebhookDeliveryID(publicText: $0)
        }
        let state = try query.value("state", "waiting, sending, delivered or failed", fix: "Leave it out for all.") {
            WebhookDelivery.State(rawValue: $0)
        }
        guard try await webhooks.webhook(id, tenantID: caller.tenantID) != nil else { throw Self.noWebhook }
        var rows = try await webhooks.deliveries(
            WebhookDeliveryQuery(webhookID: id, tenantID: caller.tenantID, limit: limit + 1, after: after, state: state)
        )
        let hasMore = rows.count > limit
        if hasMore { rows.removeLast() }
        let data = rows.map { WebhookDeliveryAnswer($0) }
        return try .json(ListAnswer(data: data, firstID: data.first?.id, lastID: data.last?.id, hasMore: hasMore))
    }

    func retry(_ request: Request, _ context: ControlContext) async throws -> Response {
        guard let text = context.parameters.get("id"), let id = WebhookDeliveryID(publicText: text) else {
            throw Self.noDelivery
        }
        switch try await webhooks.retry(id, tenantID: try context.caller.tenantID) {
        case .due(let delivery): return try .json(WebhookDeliveryAnswer(delivery), status: .accepted)
        case .unknown: throw Self.noDelivery
        case .underWay: throw Refusal(.conflict, "It is being sent at this moment. Look at it again in a minute.")
        case .disabled:
            throw Refusal(.conflict, "The webhook is disabled. Enable it first: POST /api/v1/webhooks/{id}/enable.")
        }
    }

    // MARK: - Input

    private static func webhookID(_ context: ControlContext) throws(Refusal) -> WebhookID {
        // A malformed id, an unknown one and another tenant's get the same answer.
        guard let text = context.parameters.get("id"), let id = WebhookID(publicText: text) else { throw noWebhook }
        return id
    }

    private static func url(_ body: JSONObjectBody) throws(Refusal) -> WebhookURL {
        guard let text = try body.text("url", limit: WebhookURL.byteLimit) else {
            throw .invalid("/url", "is missing", fix: "Send \"url\": \"https://…\", where your receiver is.")
        }
        do throws(WebhookURL.Problem) {
            return try WebhookURL(text)
        } catch {
            switch error {
            case .malformed(let message):
                throw .invalid("/url", message, fix: "Send an address such as https://example.com/weir.")
            case .forbidden(let message): throw forbidden(message)
            }
        }
    }

    private static func events(_ body: JSONObjectBody) throws(Refusal) -> [WebhookEventKind] {
        let all = WebhookEventKind.allCases
        guard let value = body.value("events") else { return all }
        let known = all.map(\.rawValue).joined(separator: ", ")
        guard body.tape.kind(value) == .array else {
            throw .invalid("/events", "must be an array of names", fix: "Any of \(known); leave it out for all.")
        }
        var wanted: Set<WebhookEventKind> = []
        for (index, element) in body.tape.elements(of: value).enumerated() {
            guard let kind = body.tape.string(element).flatMap({ WebhookEventKind(rawValue: $0) }) else {
                throw .invalid("/events/\(index)", "is no event", fix: "The events are \(known).")
            }
            wanted.insert(kind)
        }
        guard !wanted.isEmpty else {
            throw .invalid("/events", "must name at least one event", fix: "Leave it out for all.")
        }
        return all.filter(wanted.contains)
    }

    private static func forbidden(_ message: String) -> Refusal {
        Refusal(
            .forbiddenTarget, "/url: \(message)",
            errors: [
                .init(
                    location: "/url", message: message, fix: "Send a public address such as https://example.com/weir.")
            ])
    }

    private static let noWebhook = Refusal(.notFound, "There is no such webhook, or it is not yours to see.")
    private static let noDelivery = Refusal(.notFound, "There is no such delivery, or it is not yours to see.")
}

private struct WebhookAnswer: Encodable {
    let id: String
    let object = "webhook"
    let url: String
    let description: String
    let events: [String]
    let status: String
    @Present var disabledReason: String?
    @Present var failingSince: String?
    @Present var lastDeliveredAt: String?
    @Present var previousSecretUntil: String?
    let createdAt: String
    /// Told once, when it is made.
    let secret: String?

    enum CodingKeys: String, CodingKey {
        case id, object, url, description, events, status, secret
        case disabledReason = "disabled_reason"
        case failingSince = "failing_since"
        case lastDeliveredAt = "last_delivered_at"
        case previousSecretUntil = "previous_secret_until"
        case createdAt = "created_at"
    }

    init(_ webhook: Webhook, secret: String? = nil) {
        id = webhook.id.publicText
        url = webhook.url
        description = webhook.description
        events = webhook.events.map(\.rawValue)
        status = webhook.state.rawValue
        _disabledReason = Present(wrappedValue: webhook.disabledReason?.rawValue)
        _failingSince = Present(wrappedValue: webhook.failingSince?.description)
        _lastDeliveredAt = Present(wrappedValue: webhook.lastDeliveredAt?.description)
        _previousSecretUntil = Present(wrappedValue: webhook.previousSecretUntil?.description)
        createdAt = webhook.createdAt.description
        self.secret = secret
    }
}

private struct WebhookDeliveryAnswer: Encodable {
    let id: String
    let object = "webhook_delivery"
    let webhookID: String
    let eventID: String
    let event: String
    let state: String
    let attempts: Int32
    let createdAt: String
    @Present var nextAttemptAt: String?
    @Present var lastAttemptAt: String?
    @Present var lastStatus: Int16?
    @Present var lastError: String?
    @Present var lastMilliseconds: Int32?
    @Present var finishedAt: String?

    enum CodingKeys: String, CodingKey {
        case id, object, event, state, attempts
        case webhookID = "webhook_id"
        case eventID = "event_id"
        case createdAt = "created_at"
        case nextAttemptAt = "next_attempt_at"
        case lastAttemptAt = "last_attempt_at"
        case lastStatus = "last_status"
        case lastError = "last_error"
        case lastMilliseconds = "last_ms"
        case finishedAt = "finished_at"
    }

    init(_ delivery: WebhookDelivery) {
        id = delivery.id.publicText
        webhookID = delivery.webhookID.publicText
        eventID = delivery.eventID.publicText
        event = delivery.kind
        state = delivery.state.rawValue
        attempts = delivery.attempts
        createdAt = delivery.createdAt.description
        _nextAttemptAt = Present(wrappedValue: delivery.nextAttemptAt?.description)
        _lastAttemptAt = Present(wrappedValue: delivery.lastAttemptAt?.description)
        _lastStatus = Present(wrappedValue: delivery.lastStatus)
        _lastError = Present(wrappedValue: delivery.lastError)
        _lastMilliseconds = Present(wrappedValue: delivery.lastMilliseconds)
        _finishedAt = Present(wrappedValue: delivery.finishedAt?.description)
    }
}
