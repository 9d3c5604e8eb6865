internal import Billing
internal import Domain
internal import HTTPListener
internal import Hummingbird

/// `GET /api/v1/tiers`: what the caller's tenant may subscribe to, and what that would have cost.
struct TiersEndpoint: Sendable {
    let tiers: GatewayServer.Tiers

    func list(_ request: Request, _ context: ControlContext) async throws -> Response {
        let caller = try context.caller
        _ = try QueryParameters(request, allowed: [])
        let rows = try await tiers.catalog.tiers(for: caller.tenantID)
        return try .json(ListAnswer(data: rows.map(TierAnswer.init), firstID: nil, lastID: nil, hasMore: false))
    }

    func analysis(_ request: Request, _ context: ControlContext) async throws -> Response {
        let caller = try context.caller
        let query = try QueryParameters(request, allowed: ["periods"])
        let count = try query.integer("periods", in: TierAnalyst.periodLimit, default: 3)
        guard let account = try await tiers.analyst.account(caller.tenantID) else {
            throw Refusal(.internalError, "Something failed on our side.", cause: "a caller without a tenant")
        }
        do {
            return try .json(TierAnalysisAnswer(account, try await tiers.analyst.analyse(account, periods: count)))
        } catch let failure as RatingFailure {
            throw failure.refusal
        }
    }
}
