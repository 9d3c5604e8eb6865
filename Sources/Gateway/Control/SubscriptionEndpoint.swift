internal import Domain
internal import HTTPListener
internal import Hummingbird

/// `GET /api/v1/subscription`: which tier the caller's tenant is on, and will be.
struct SubscriptionEndpoint: Sendable {
    let subscriptions: any CustomerSubscriptions

    func get(_ request: Request, _ context: ControlContext) async throws -> Response {
        _ = try QueryParameters(request, allowed: [])
        guard let standing = try await subscriptions.subscription(try context.caller.tenantID) else {
            throw Refusal(.notFound, "There is no such tenant.")
        }
        return try .json(SubscriptionAnswer(standing))
    }
}
